"""Faults that a test or a curious user can turn on.

They affect only properties that AWS does not promise (answers, order, number of copies). A fault
never drops an acknowledged record.
"""

import random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class FaultSettings(BaseModel):
    """The probabilities and switches of all faults; by default all faults are off."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    #: Probability that a Put* call answers ServiceUnavailableException without storing records.
    throttle: Probability = 0.0
    #: Probability, per record of a PutRecordBatch, that it alone is refused.
    partial_failure: Probability = 0.0
    #: Probability, per accepted record, that it is delivered twice, possibly in a later object.
    duplicate: Probability = 0.0
    #: Probability, per object, that its records are shuffled, and that it waits for a later object.
    reorder: Probability = 0.0
    #: Probability that a Put* call stores its records and still answers InternalFailure.
    lost_ack: Probability = 0.0
    #: "error": every Put* call answers 500; "reset": its connection is cut without an answer.
    down: Literal["no", "error", "reset"] = "no"
    #: Makes the choices above repeatable for the same calls in the same order.
    seed: int | None = None


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
