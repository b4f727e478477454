"""Broken promises, and checks that hold for all keys."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.history.operations import Operation

#: The statuses that may follow each status of the same command.
_MAY_FOLLOW = {
    "pending": {"pending", "applied", "superseded", "rejected"},
    "applied": {"applied", "superseded"},
    "superseded": {"superseded"},
    "rejected": {"rejected"},
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise."""

    #: Short name of the promise.
    what: str
    detail: str
    operation: Operation | None = None

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}" + (f"\n    {self.operation}" if self.operation else "")


def check_ids(history: Sequence[Operation]) -> Iterator[Violation]:
    """Check that each request has its own ids, greater than the versions that it named."""
    by_id: dict[str, Operation] = {}
    for operation in sorted(history, key=lambda operation: operation.began):
        if not operation.is_acknowledged:
            continue
        command_id = str(operation.command_id)
        first = by_id.setdefault(command_id, operation)
        if first is not operation and not _is_repetition(operation, first):
            yield Violation("id given twice", command_id, operation)
        for seen in (operation.if_match, operation.read_after):
            if seen is not None and command_id <= seen:
                yield Violation("write not after what its client saw", seen, operation)


def _is_repetition(operation: Operation, first: Operation) -> bool:
    """Return whether both are the same request, which has one command."""
    key = operation.idempotency_key
    return key is not None and (operation.resource, key) == (first.resource, first.idempotency_key)


def find_turns(answers: Sequence[Operation]) -> Iterator[Violation]:
    """Find statuses that contradict earlier statuses; overlapping requests have no order.

    Args:
        answers: status requests for the same command, ordered by their start.
    """
    by_end = sorted(answers, key=lambda told: told.ended)
    before: set[str] = set()
    passed = 0
    for told in answers:
        while passed < len(by_end) and by_end[passed].ended < told.began:
            before.add(str(by_end[passed].fate))
            passed += 1
        excluding = {fate for fate in before if told.fate not in _MAY_FOLLOW[fate]}
        if excluding:
            yield Violation("status turned", f"{', '.join(sorted(excluding))} before", told)
