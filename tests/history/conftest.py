"""Marks the runs: by `make test-history`, one after the other, as they share a stack."""

import os

import pytest

SEEDS_VARIABLE = "FOREBAY_HISTORY_SEEDS"
SECONDS_VARIABLE = "FOREBAY_HISTORY_SECONDS"
CLIENTS_VARIABLE = "FOREBAY_HISTORY_CLIENTS"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A run for each seed that is asked for."""
    if "seed" in metafunc.fixturenames:
        asked = os.environ.get(SEEDS_VARIABLE, "1")
        metafunc.parametrize("seed", [int(seed) for seed in asked.split()])


@pytest.fixture
def seconds() -> float:
    """How long a run's trouble lasts."""
    return float(os.environ.get(SECONDS_VARIABLE, "60"))


@pytest.fixture
def clients() -> int:
    """How many clients a run has."""
    return int(os.environ.get(CLIENTS_VARIABLE, "12"))
