"""Valid and invalid fault settings, and the repeatability of random choices."""

from typing import Any

import pytest
from pydantic import ValidationError

from local.firehose.faults import Faults, FaultSettings


def test_all_faults_are_off_by_default() -> None:
    faults = Faults(FaultSettings.model_validate({}))

    assert not any(faults.happens(faults.settings.throttle) for _ in range(100))
    assert faults.settings.down == "no"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"thrrottle": 0.1}, "thrrottle"),
        ({"throttle": 1.1}, "throttle"),
        ({"throttle": -0.1}, "throttle"),
        ({"throttle": float("nan")}, "throttle"),
        ({"duplicate": "often"}, "duplicate"),
        ({"reorder": True}, "reorder"),
        ({"down": "maybe"}, "down"),
        ({"down": True}, "down"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_an_unknown_or_impossible_setting_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        FaultSettings.model_validate(values)


def test_settings_survive_a_round_trip() -> None:
    settings = FaultSettings.model_validate({"throttle": 0.5, "down": "reset", "seed": 7})

    assert FaultSettings.model_validate(settings.model_dump()) == settings


def test_a_seed_repeats_the_choices() -> None:
    settings = FaultSettings(throttle=0.5, seed=42)
    faults = Faults(settings)
    first = [faults.happens(0.5) for _ in range(50)]

    faults.replace(settings)

    assert [faults.happens(0.5) for _ in range(50)] == first
    assert True in first
    assert False in first
