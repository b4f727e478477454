"""Results of the validation of a client's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.command import Body, KeyValue


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a body: its location (a JSON Pointer in URI form) and a description."""

    pointer: str
    detail: str
    #: A stable code: `validation_failed`, unless no resource could store the value.
    code: str = "validation_failed"


class BodyInvalidError(Exception):
    """The body doesn't match the declaration; `faults` lists all faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class ReadBody:
    """A valid body as JSON values, without the key, and the key if the body contained it."""

    body: Body
    key: KeyValue | None
