"""Faults that a test or a curious user can turn on.

They affect only properties that AWS does not promise (answers, order, number of copies). A fault
never drops an acknowledged record.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Down = Literal["no", "error", "reset"]

PROBABILITIES = ("throttle", "partial_failure", "duplicate", "reorder", "lost_ack")


class FaultError(ValueError):
    """A fault setting is unknown or out of range; the message names it and the valid values."""


@dataclass(frozen=True, kw_only=True)
class FaultSettings:
    """The probabilities and switches of all faults; by default all faults are off."""

    #: Probability that a Put* call answers ServiceUnavailableException without storing records.
    throttle: float = 0.0
    #: Probability, per record of a PutRecordBatch, that it alone is refused.
    partial_failure: float = 0.0
    #: Probability, per accepted record, that it is delivered twice, possibly in a later object.
    duplicate: float = 0.0
    #: Probability, per object, that its records are shuffled, and that it waits for a later object.
    reorder: float = 0.0
    #: Probability that a Put* call stores its records and still answers InternalFailure.
    lost_ack: float = 0.0
    #: "error": every Put* call answers 500; "reset": its connection is cut without an answer.
    down: Down = "no"
    #: Makes the choices above repeatable for the same calls in the same order.
    seed: int | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "FaultSettings":
        """Parse a JSON object; faults that are missing in it are off.

        Raises:
            FaultError: a name is unknown or a value is out of range.
        """
        names = {field.name for field in fields(cls)}
        for name in values:
            if name not in names:
                raise FaultError(f"unknown fault {name!r}: known are {', '.join(sorted(names))}")
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
    """The current fault settings and their random generator."""

    def __init__(self, settings: FaultSettings) -> None:
        self.replace(settings)

    def replace(self, settings: FaultSettings) -> None:
        """Put `settings` in force and reset the random generator to their seed."""
        self.settings = settings
        self._random = random.Random(settings.seed)

    def happens(self, probability: float) -> bool:
        """Decide at random; a fault that is off does not advance the random generator."""
        return probability > 0 and self._random.random() < probability

    def shuffle(self, items: list[Any]) -> None:
        """Shuffle `items` in place."""
        self._random.shuffle(items)

    def pick(self, count: int) -> int:
        """Return a random index from 0 to count - 1."""
        return self._random.randrange(count)


def _check_probability(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= 1):  # type: ignore[operator]  # a number by now
        raise FaultError(f"{name} must be a number from 0 to 1, not {value!r}")
