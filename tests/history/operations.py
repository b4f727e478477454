"""The recorded operations of clients, and the final state."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["create", "put", "patch", "delete", "read", "status"]
#: Resource and key; the key is text because histories are files.
Place = tuple[str, str]
Body = Mapping[str, Any]

_WRITES = ("create", "put", "patch", "delete")
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
    #: The version in `If-Match`: the item must have it when the write is applied.
    if_match: str | None = None
    #: The entity tag in `If-Match`, if the client had read the item.
    tag: str | None = None
    #: The filters of a write, which are its condition.
    where: Body | None = None
    idempotency_key: str | None = None
    sent: Body | None = None
    #: True if the database will refuse the write, although the API accepts it.
    faulty: bool = False

    # The answer
    #: Id of an accepted write, or of the command of the requested status.
    command_id: str | None = None
    #: Version of an item that was read; a list contains no versions.
    version: str | None = None
    #: Entity tag of an item that was read.
    shown_tag: str | None = None
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
        """True if this is a refused write, which no read may return.

        Of a repetition during an earlier attempt, that attempt may happen.
        """
        in_flight = self.code == "idempotency_in_flight"
        return self.is_write and 400 <= self.status < 500 and not in_flight

    @property
    def is_conditional(self) -> bool:
        """True if this write is rejected unless its condition holds."""
        return self.is_write and (self.if_match is not None or self.where is not None)

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
class Edited:
    """A key with patches in the final state."""

    #: None without an item.
    values: Body | None = None
    #: The id of the command that made the row.
    base: str | None = None
    tombstone: str | None = None
    #: By field, the id of the patch that set the item's value.
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edits:
    """The keys with patches in the final state, and what the archive has of them."""

    keys: Mapping[Place, Edited] = field(default_factory=dict)
    #: The members of the archived commands of these keys.
    archived: list[Body] = field(default_factory=list)
    #: By id of a decided command that passed: the id of its place, and its body if it has sums.
    passed: Mapping[str, tuple[str, dict[str, Any] | None]] = field(default_factory=dict)


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
    edits: Edits = Edits()

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
        "edits": {
            "keys": [[*place, asdict(key)] for place, key in final.edits.keys.items()],
            "archived": final.edits.archived,
            "passed": final.edits.passed,
        },
    }


def _final(told: Mapping[str, Any]) -> Final:
    return Final(
        rows={(resource, key): Row(version, body) for resource, key, version, body in told["rows"]},
        tombstones={(resource, key): version for resource, key, version in told["tombstones"]},
        rejected=frozenset(told["rejected"]),
        at=told["at"],
        edits=Edits(
            {(resource, key): Edited(**of) for resource, key, of in told["edits"]["keys"]},
            told["edits"]["archived"],
            {one: (place, body) for one, (place, body) in told["edits"]["passed"].items()},
        ),
    )
