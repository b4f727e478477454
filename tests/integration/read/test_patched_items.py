"""Items with patches: entity tags, `Read-After`, and the statuses of patches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from forebay.apply.edits.state import KeyState
from forebay.command import Command
from forebay.conditional import parse_state_tag, parse_version
from forebay.errors import NotYetVisibleError
from forebay.http import Response
from forebay.ids import IdSource, make_id_above, mark_outdated
from forebay.status import find_status
from tests.fixtures.commands import CITY, city, command_id, patch
from tests.fixtures.patched import KEY, histories, traces_of, write_state
from tests.fixtures.reading import Reader
from tests.fixtures.tables import Database


def write(database: Database, *commands: Command) -> KeyState:
    """Write the state to which the commands lead."""
    state = KeyState()
    for command in commands:
        state.absorb(command)
    write_state(database, state)
    return state


def get(reader: Reader, **headers: Any) -> Response:
    """Read the city."""
    return reader.get("cities", key=str(KEY), **headers)


def get_status(reader: Reader, command_id: str) -> dict[str, Any]:
    """Read the status of a command."""
    response = reader.get("cities", key=str(KEY), command=command_id)
    status: dict[str, Any] = json.loads(response.body)
    assert response.status == (202 if status["status"] == "pending" else 200)
    return status


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_the_tag_of_an_item_differs_whenever_its_content_differs(
    database: Database, reader: Reader, commands: list[Command]
) -> None:
    state = KeyState()
    bodies_by_tag: dict[str, str] = {}
    bodies_by_state: dict[str | None, str] = {}
    for command in commands:
        state.absorb(command)
        write_state(database, state)
        response = get(reader)
        if not state.has_item:
            assert response.status == 404
            continue
        assert json.loads(response.body) == {**CITY, **state.values, "geonameid": KEY}
        tag = response.headers["ETag"]
        assert parse_state_tag(tag) == state.state_tag
        assert parse_version(tag) == state.greatest_id
        assert bodies_by_tag.setdefault(tag, response.body) == response.body
        assert bodies_by_state.setdefault(state.state_tag, response.body) == response.body
        for known in bodies_by_tag:
            assert get(reader, If_None_Match=known).status == (304 if known == tag else 200)
        assert get(reader, Read_After=tag).status == 200


def test_an_outdated_row_with_patches_has_the_tag_of_before(
    database: Database, reader: Reader
) -> None:
    write(database, city(1, key=KEY), patch(2, KEY, name="b"))
    before = get(reader)
    database.connection.execute("UPDATE cities SET _version = %s", [mark_outdated(command_id(1))])
    assert (get(reader).body, get(reader).headers) == (before.body, before.headers)
    assert get_status(reader, command_id(1))["status"] == "applied"
    assert get_status(reader, command_id(2))["status"] == "applied"


def test_a_read_after_a_patch_shows_it_or_its_winner(database: Database, reader: Reader) -> None:
    write(
        database,
        city(1, key=KEY),
        *(patch(2, KEY, name="b"), patch(3, KEY, population=2), patch(4, KEY, population=3)),
    )
    for number in (1, 2, 3, 4):
        assert '"population":3' in get(reader, Read_After=command_id(number)).body.replace(" ", "")
    with pytest.raises(NotYetVisibleError):
        get(reader, Read_After=IdSource().make(create=False))


def test_a_read_after_a_waiting_patch_raises(database: Database, reader: Reader) -> None:
    write(database, city(1, "delete", KEY), patch(2, KEY, name="b"))
    with pytest.raises(NotYetVisibleError):
        get(reader, Read_After=command_id(2))
    assert get(reader, Read_After=command_id(1)).status == 404


def test_the_status_of_each_patch(database: Database, reader: Reader) -> None:
    write(
        database,
        city(2, "create", KEY),
        *(patch(1, KEY, timezone="UTC"), patch(3, KEY, name="a"), patch(4, KEY, name="b")),
        patch(5, KEY, population=7),
    )
    statuses = [get_status(reader, command_id(number)) for number in (1, 3, 4, 5, 6)]
    assert [(status["status"], status.get("superseded_by")) for status in statuses] == [
        ("superseded", command_id(2, create=True)),
        ("superseded", command_id(5)),
        ("applied", None),
        ("applied", None),
        ("pending", None),
    ]


def test_a_patch_with_any_text_waits_for_its_item(database: Database, reader: Reader) -> None:
    """Postgres refuses an escaped NUL wherever it makes a text of it."""
    write(database, patch(2, KEY, name="a"), patch(3, KEY, name='"id": "\x00\\'))
    assert get_status(reader, command_id(3))["status"] == "pending"
    status = get_status(reader, command_id(2))
    assert (status["status"], status["superseded_by"]) == ("superseded", command_id(3))


def test_a_decided_command_has_the_status_of_its_effective_id(
    database: Database, reader: Reader
) -> None:
    own, other = command_id(2), command_id(3)
    effective = make_id_above(command_id(9), create=False)
    write(database, city(9, key=KEY), patch(1, KEY, name="b")._replace(id=effective))
    insert = (
        "INSERT INTO forebay.effects (id, resource, key, effective_id, decided_at)"
        " VALUES (%s, 'cities', %s, %s, now())"
    )
    database.connection.execute(insert, [own, str(KEY), effective])
    database.connection.execute(insert, [other, "6", effective])
    assert get_status(reader, own)["status"] == "applied"
    assert get_status(reader, other)["superseded_by"] == command_id(9), "of another key"
    assert get(reader, Read_After=own).status == 200
    newer = patch(1, KEY, name="c")._replace(id=make_id_above(effective, create=False))
    write(database, city(9, key=KEY), patch(1, KEY, name="b")._replace(id=effective), newer)
    later = get_status(reader, own)
    assert (later["status"], later["superseded_by"]) == ("superseded", newer.id)


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_rejected_command_names_the_command_that_amends_it(
    database: Database, reader: Reader, *, is_recorded: bool
) -> None:
    database.apply([city(3, key=KEY, name="x" * 300)])
    assert "amended_by" not in get_status(reader, command_id(3))
    database.connection.execute(
        "INSERT INTO forebay.decisions (rejection, decision, command, by, run, decided_at,"
        " recorded_at) SELECT id, 'retried', %s, 'anna', gen_random_uuid(), now(),"
        " CASE WHEN %s THEN now() END FROM forebay.rejections",
        [command_id(4), is_recorded],
    )
    status = get_status(reader, command_id(3))
    assert status["status"] == "rejected"
    assert status.get("amended_by") == (command_id(4) if is_recorded else None)


def test_the_status_of_a_condition_that_failed_and_of_one_that_held(
    database: Database, reader: Reader
) -> None:
    before = city(5, key=KEY, name="a", population=7)
    condition = {"where": [["population", "eq", 7]]}
    held = patch(3, KEY, name="b")._replace(condition=condition)
    failed = patch(4, KEY, name="c")._replace(condition={"where": [["name", "eq", "x"]]})
    database.apply([before], source="commands/a.gz")
    database.apply([held, failed], source="commands/b.gz")
    assert get_status(reader, held.id)["status"] == "applied"
    status = get_status(reader, failed.id)
    assert (status["status"], status["error"]["code"]) == ("rejected", "precondition_failed")
    assert 'the value was "b"' in status["error"]["detail"]
    response = get(reader, Read_After=held.id)
    assert json.loads(response.body)["name"] == "b"
    effective = parse_version(response.headers["ETag"])
    assert effective is not None
    assert effective > before.id, "it takes its place after the item that it looked at"
    assert get_status(reader, effective)["status"] == "applied"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories())
def test_apply_writes_the_patches_that_the_status_reads(
    database: Database, reader: Reader, commands: list[Command]
) -> None:
    database.empty()
    state = KeyState()
    for number, command in enumerate(commands):
        state.absorb(command)
        database.apply([command], source=f"commands/{number}.gz")
    expected = {command.id: find_status(command.id, traces_of(state)) for command in commands}
    assert {i: get_status(reader, i)["status"] for i in expected} == expected
    response = get(reader)
    if state.has_item:
        assert parse_state_tag(response.headers["ETag"]) == state.state_tag
    else:
        assert response.status == 404
