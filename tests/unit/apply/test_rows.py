"""Checking rows and keys by the batch gives the same results as checking them singly."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

import resources
from forebay.apply.rows.encoding import Encoder, Rows
from forebay.command import Command
from forebay.errors import BodyError
from forebay.resource.spec import ResourceSpec
from tests.fixtures.commands import CITY, city

SPECS = resources.load()
VALUES = st.sampled_from(
    ["", "a", "ä\n", "a\x00b", "\ud800", 1, 2**70, 1.5, True, None, {"a": 1}, [1, "x"]]
)
BODIES = st.one_of(
    st.just(CITY),
    st.dictionaries(st.sampled_from([*CITY, "mayor"]), VALUES, max_size=3).map(
        lambda changed: {**CITY, **changed}
    ),
    st.sets(st.sampled_from(sorted(CITY)), max_size=2).map(
        lambda left_out: {name: value for name, value in CITY.items() if name not in left_out}
    ),
)
NIL = "00000000-0000-0000-0000-000000000000"
KEYS = st.sampled_from(
    [
        *("", "DE", "x" * 256, 1, -5, True, 2**63),
        *(NIL, f"{NIL[:-1]}A", f"{NIL}\n{NIL}", "\n", f"{NIL}\n"),
    ]
)


def rows_by_id(rows: Rows) -> dict[str, tuple[object, ...]]:
    singles = zip(*rows.columns, strict=True)
    return {command.id: row for command, row in zip(rows.commands, singles, strict=True)}


@given(st.lists(BODIES, max_size=60))
@example([{**CITY, "name": None}])
def test_commands_become_the_rows_that_each_of_them_does(bodies: list[dict[str, Any]]) -> None:
    spec = SPECS["cities"]
    commands = [city(n, key=n)._replace(body=body) for n, body in enumerate(bodies)]
    rows: dict[str, tuple[object, ...]] = {}
    unfit: dict[str, tuple[str, str]] = {}
    encoder = Encoder(spec)
    for command in commands:
        try:
            rows[command.id] = encoder.encode_row(command)
        except BodyError as exc:
            unfit[command.id] = (exc.code, str(exc))

    encoded = encoder.encode(commands)

    assert rows_by_id(encoded.rows) == rows
    assert {r.command.id: (r.code, r.detail) for r in encoded.refusals} == unfit
    required = [place for place, column in enumerate(spec.columns) if not column.nullable]
    assert [command.id for command in encoded.incomplete.commands] == [
        command.id
        for command in commands
        if command.id in rows and any(rows[command.id][place] is None for place in required)
    ]
    assert [command.id for command in encoded.complete.commands] == [
        command.id
        for command in commands
        if command.id in rows and all(rows[command.id][place] is not None for place in required)
    ]


@given(st.sampled_from(sorted(SPECS)), st.lists(KEYS, max_size=4))
@example("announcements", [f"{NIL}\n{NIL}"])
def test_keys_fit_if_each_of_them_does(path: str, keys: list[int | str]) -> None:
    spec: ResourceSpec = SPECS[path]
    assert spec.fit_keys(keys) == all(type(key) is not bool and spec.fits_key(key) for key in keys)


def test_no_command_has_no_row() -> None:
    commands: list[Command] = []
    assert len(Encoder(SPECS["cities"]).encode(commands).rows) == 0
