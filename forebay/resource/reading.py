"""What reading a client's JSON comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.command import Body, KeyValue


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a body: where (a JSON Pointer in URI form) and what."""

    pointer: str
    detail: str
    #: Stable; `validation_failed` unless the text could never be stored.
    code: str = "validation_failed"


class BodyInvalidError(Exception):
    """The body doesn't fit the declaration; `faults` names everything that is wrong."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class ReadBody:
    """A valid body in JSON terms, without the key, and the key if the client wrote it there."""

    body: Body
    key: KeyValue | None
