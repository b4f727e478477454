"""The recorded operations of clients, and the final state."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["create", "put", "delete", "read", "status"]
#: Resource and key; the key is text because histories are files.
Place = tuple[str, str]
Body = Mapping[str, Any]

_WRITES = ("create", "put", "delete")
_NOT_FOUND = 404
_NOT_MODIFIED = 304
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation of a client. A batch is recorded per item, a list per row.

    A client sends one request at a time. Times are in seconds of the same clock.
    """

    client: str
    kind: Kind
    resource: str
    #: None if the server generates the key and no answer contained it.
    key: str | None
    began: float
    ended: float
    #: 0 if there was no answer in time.
    status: int
    #: The code of a refusal.
    code: str | None = None

    # The request
    read_after: str | None = None
    if_match: str | None = None
    idempotency_key: str | None = None
    sent: Body | None = None
    #: True if the database will refuse the write, although the API accepts it.
    faulty: bool = False

    # The answer
    #: Id of an accepted write, or of the command whose status was requested.
    command_id: str | None = None
    #: Version of an item that was read; a list contains no versions.
    version: str | None = None
    got: Body | None = None
    fate: str | None = None
    superseded_by: str | None = None

    @property
    def place(self) -> Place | None:
        return None if self.key is None else (self.resource, self.key)

    @property
    def is_write(self) -> bool:
        return self.kind in _WRITES

    @property
    def is_acknowledged(self) -> bool:
        """True if this is an accepted write."""
        return self.is_write and self.command_id is not None

    @property
    def is_refused(self) -> bool:
        """True if this is a refused write, which no read may return."""
        return self.is_write and 400 <= self.status < 500

    @property
    def is_open(self) -> bool:
        """True if no conclusive answer shows whether this write has happened."""
        return self.is_write and not self.is_acknowledged and not self.is_refused

    @property
    def found(self) -> bool:
        """True if a read returned an item, or 304."""
        return self.kind == "read" and self.status in (_OK, _NOT_MODIFIED)

    @property
    def found_nothing(self) -> bool:
        return self.kind == "read" and self.status == _NOT_FOUND


@dataclass(frozen=True, slots=True)
class Row:
    """An item in the final state."""

    version: str
    body: Body


@dataclass(frozen=True, slots=True)
class Final:
    """The state of the primary after everything accepted was applied."""

    rows: Mapping[Place, Row] = field(default_factory=dict)
    #: Versions of deleted items.
    tombstones: Mapping[Place, str] = field(default_factory=dict)
    #: Ids of rejected commands.
    rejected: frozenset[str] = frozenset()
    #: Time of this state, on the operations' clock.
    at: float = float("inf")

    def version(self, place: Place) -> str | None:
        row = self.rows.get(place)
        return row.version if row else self.tombstones.get(place)


def write_history(file: Path, history: Iterable[Operation], final: Final) -> None:
    """Write a run as NDJSON, with the final state last, for analysis and repeated checks."""
    with file.open("w", encoding="utf-8") as lines:
        for operation in history:
            members = {
                name: value for name, value in asdict(operation).items() if value is not None
            }
            lines.write(json.dumps(members, ensure_ascii=False) + "\n")
        lines.write(json.dumps({"final": _document(final)}, ensure_ascii=False) + "\n")


def read_history(file: Path) -> tuple[list[Operation], Final]:
    """Read a run that `write_history` has written."""
    history, final = [], Final()
    for line in _lines(file):
        if "final" in line:
            final = _final(line["final"])
        else:
            history.append(Operation(**{"key": None, **line}))
    return history, final


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _document(final: Final) -> dict[str, Any]:
    return {
        "rows": [[*place, row.version, row.body] for place, row in final.rows.items()],
        "tombstones": [[*place, version] for place, version in final.tombstones.items()],
        "rejected": sorted(final.rejected),
        "at": final.at,
    }


def _final(told: Mapping[str, Any]) -> Final:
    return Final(
        rows={(resource, key): Row(version, body) for resource, key, version, body in told["rows"]},
        tombstones={(resource, key): version for resource, key, version in told["tombstones"]},
        rejected=frozenset(told["rejected"]),
        at=told["at"],
    )
