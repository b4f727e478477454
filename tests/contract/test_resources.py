"""Each resource that the user declares can be written, replayed, read, written back and deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

import resources
from devtools.bodies import bodies, draw_values
from forebay.apply import Outcome
from forebay.command import Command
from forebay.resource.shape import describe_shape
from tests.fixtures.api import WriteBench
from tests.fixtures.reading import Reader
from tests.fixtures.tables import Database

SPECS = resources.load()
#: Rejections that depend on other rows, which the drawn bodies don't have.
_DEPENDENT = {"unique_violation", "foreign_key_violation"}


class Service:
    """Writes, applies and reads the items of a resource."""

    def __init__(self, path: str, database: Database, reader: Reader) -> None:
        self._path = path
        self._database = database
        self._reader = reader
        self._bench = WriteBench()

    def write(self, method: str, key: str | None, body: dict[str, Any] | None) -> Command | None:
        """Send a write; return the accepted command, or None if the declaration refuses it."""
        template = f"/{self._path}" + ("" if key is None else "/{key}")
        reply = self._bench.send(method, template, body, key=key)
        # A declaration's own functions may refuse what its shape allows.
        return self._bench.sink.commands[-1] if reply.status == 202 else None

    def apply(self, command: Command, *, replay: bool = False) -> Outcome:
        """Apply a command as an archive object of its own."""
        return self._database.apply([command], source=f"commands/{command.id}.gz", replay=replay)

    def read(self, key: str) -> dict[str, Any] | None:
        """Read an item; None if there is none."""
        reply = self._reader.get(self._path, key=key)
        assert reply.status in {200, 404}, reply.body
        item: dict[str, Any] = json.loads(reply.body)
        return item if reply.status == 200 else None


@pytest.mark.parametrize("path", SPECS)
def test_an_item_can_be_written_replayed_read_written_back_and_deleted(
    database: Database, reader: Reader, path: str
) -> None:
    spec, service = SPECS[path], Service(path, database, reader)
    shape = describe_shape(spec)

    @settings(
        max_examples=20,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=bodies(shape), key=draw_values(shape.key).map(str))
    def try_one(body: dict[str, Any], key: str) -> None:
        command = service.write("PUT", key, body)
        assume(command is not None)
        assert command is not None
        outcome = service.apply(command)
        if outcome.counts.rejected:
            assert database.archived[-1].code in _DEPENDENT, database.archived[-1]
            assume(False)
        assert outcome.counts.applied == 1
        assert service.apply(command, replay=True).counts.duplicates == 1

        item = service.read(key)
        assert item is not None
        assert item.keys() == {column.name for column in spec.columns}
        members = {name: value for name, value in item.items() if name != spec.key.name}
        back = service.write("PUT", key, members)
        assert back is not None, (key, members)
        assert service.apply(back).counts.applied == 1
        assert service.read(key) == item

        delete = service.write("DELETE", key, None)
        assert delete is not None
        assert service.apply(delete).counts.applied == 1
        assert service.read(key) is None

    try_one()
