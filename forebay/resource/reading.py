"""What reading a client's JSON comes to, and the port by which others have it read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


class ReadsBodies(Protocol):
    """Reads the bodies and keys of one resource."""

    def read(self, raw: bytes) -> ReadBody:
        """The body of one item; raises BodyInvalidError with every fault at once."""

    def read_key(self, text: str) -> KeyValue:
        """The key that a path segment names; raises ValueError if none can."""

    def json_schema(self) -> Mapping[str, Any]:
        """The JSON Schema of bodies, the key among their members."""
