"""What clients did and were told, as it is recorded, and what was there in the end."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["create", "put", "delete", "read", "status"]
#: A key as text: histories are files, and one resource's keys have one spelling.
Place = tuple[str, str]
Body = Mapping[str, Any]

_WRITES = ("create", "put", "delete")
_NOT_FOUND = 404
_NOT_MODIFIED = 304
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one client. A batch is as many as it has items, a list as it has rows.

    A client does one thing after the other; times are of one clock, in seconds.
    """

    client: str
    kind: Kind
    resource: str
    #: None where the server makes it and no answer told it.
    key: str | None
    began: float
    ended: float
    #: 0: there was no answer, or none in time.
    status: int
    #: What a refusal says.
    code: str | None = None

    # What was asked
    read_after: str | None = None
    if_match: str | None = None
    idempotency_key: str | None = None
    sent: Body | None = None
    #: The database will refuse it, though the API does not.
    faulty: bool = False

    # What was told
    #: Of an accepted write, or the one whose status was asked for.
    command_id: str | None = None
    #: Of the item that was read; a list does not tell.
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
        """Whether it is a write that was accepted."""
        return self.is_write and self.command_id is not None

    @property
    def is_refused(self) -> bool:
        """Whether it is a write of which nothing may ever be seen."""
        return self.is_write and 400 <= self.status < 500

    @property
    def is_open(self) -> bool:
        """Whether it is a write that may have happened or not: there is no answer that tells."""
        return self.is_write and not self.is_acknowledged and not self.is_refused

    @property
    def found(self) -> bool:
        """Whether a read showed an item, or that the client has the newest."""
        return self.kind == "read" and self.status in (_OK, _NOT_MODIFIED)

    @property
    def found_nothing(self) -> bool:
        return self.kind == "read" and self.status == _NOT_FOUND


@dataclass(frozen=True, slots=True)
class Row:
    """An item at the end."""

    version: str
    body: Body


@dataclass(frozen=True, slots=True)
class Final:
    """What the primary held when everything accepted had been applied."""

    rows: Mapping[Place, Row] = field(default_factory=dict)
    #: Versions of what was deleted.
    tombstones: Mapping[Place, str] = field(default_factory=dict)
    #: Ids of rejected commands.
    rejected: frozenset[str] = frozenset()
    #: When that was, on the operations' clock.
    at: float = float("inf")

    def version(self, place: Place) -> str | None:
        row = self.rows.get(place)
        return row.version if row else self.tombstones.get(place)


def write_history(file: Path, history: Iterable[Operation], final: Final) -> None:
    """Keeps a run, so that it can be looked into and checked again: NDJSON, the end last."""
    with file.open("w", encoding="utf-8") as lines:
        for operation in history:
            told = {name: value for name, value in asdict(operation).items() if value is not None}
            lines.write(json.dumps(told, ensure_ascii=False) + "\n")
        lines.write(json.dumps({"final": _document(final)}, ensure_ascii=False) + "\n")


def read_history(file: Path) -> tuple[list[Operation], Final]:
    """A run that was kept."""
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
