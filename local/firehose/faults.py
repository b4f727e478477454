"""Faults that a test, or a curious user, may ask of the server.

They bend only what AWS does not promise (answers, order, number of copies). None of them drops a
record that was acknowledged.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Down = Literal["no", "error", "reset"]

PROBABILITIES = ("throttle", "partial_failure", "duplicate", "reorder", "lost_ack")


class FaultError(ValueError):
    """A fault setting that is unknown or out of range; the message says which and what is valid."""


@dataclass(frozen=True, kw_only=True)
class FaultSettings:
    """Which faults are on; the default is none."""

    #: Probability that a Put* call answers ServiceUnavailableException and stores nothing.
    throttle: float = 0.0
    #: Probability, per record of a PutRecordBatch, that it is refused while its neighbours are not.
    partial_failure: float = 0.0
    #: Probability, per accepted record, that it is delivered twice, perhaps in a later object.
    duplicate: float = 0.0
    #: Probability, per object, that its records are shuffled and that it waits for a later object.
    reorder: float = 0.0
    #: Probability that a Put* call stores its records and still answers InternalFailure.
    lost_ack: float = 0.0
    #: "error": every Put* call answers 500; "reset": its connection is cut without an answer.
    down: Down = "no"
    #: Makes the choices above repeatable for the same calls in the same order.
    seed: int | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "FaultSettings":
        """Return the settings in `values`, a JSON object; what it leaves out is off.

        Raises:
            FaultError: a name is unknown or a value is out of range.
        """
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise FaultError(f"unknown fault {name!r}: known are {', '.join(sorted(known))}")
        for name in PROBABILITIES:
            _check_probability(name, values.get(name, 0.0))
        if values.get("down", "no") not in get_args(Down):
            raise FaultError(f"down must be one of {', '.join(get_args(Down))}")
        seed = values.get("seed")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise FaultError("seed must be an integer or null")
        return cls(**values)

    def as_dict(self) -> dict[str, float | str | int | None]:
        """Return the settings as the JSON object that `parse` takes."""
        return asdict(self)


class Faults:
    """The faults now in force, and the dice."""

    def __init__(self, settings: FaultSettings) -> None:
        self.replace(settings)

    def replace(self, settings: FaultSettings) -> None:
        """Put `settings` in force and start the dice again from their seed."""
        self.settings = settings
        self._random = random.Random(settings.seed)

    def happens(self, probability: float) -> bool:
        """Throw the dice; no dice are thrown for a fault that is off."""
        return probability > 0 and self._random.random() < probability

    def shuffle(self, items: list[Any]) -> None:
        """Put `items` into another order, in place."""
        self._random.shuffle(items)

    def pick(self, count: int) -> int:
        """Return one of the indexes 0 … count - 1."""
        return self._random.randrange(count)


def _check_probability(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= 1):  # type: ignore[operator]  # a number by now
        raise FaultError(f"{name} must be a number from 0 to 1, not {value!r}")
