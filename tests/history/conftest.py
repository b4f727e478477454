"""Parameters of the recorded runs of `make test-history`, which share a stack."""

import os

import pytest

SEEDS_VARIABLE = "FOREBAY_HISTORY_SEEDS"
SECONDS_VARIABLE = "FOREBAY_HISTORY_SECONDS"
CLIENTS_VARIABLE = "FOREBAY_HISTORY_CLIENTS"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each requested seed."""
    if "seed" in metafunc.fixturenames:
        seeds_text = os.environ.get(SEEDS_VARIABLE, "1")
        metafunc.parametrize("seed", [int(seed) for seed in seeds_text.split()])


@pytest.fixture
def seconds() -> float:
    """Duration of a run."""
    return float(os.environ.get(SECONDS_VARIABLE, "60"))


@pytest.fixture
def clients() -> int:
    """Number of clients in a run."""
    return int(os.environ.get(CLIENTS_VARIABLE, "12"))
