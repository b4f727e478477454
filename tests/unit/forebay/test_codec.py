"""The archive format: a written command is read back unchanged, and an invalid line is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.codec import _decode_quickly, decode, decode_all, decode_carefully, encode
from forebay.command import Command
from forebay.errors import InvalidLineError
from tests.fixtures.commands import city, command_id

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def envelope(**changes: Any) -> bytes:
    members = json.loads(encode(city(1)))
    return json.dumps({**members, **changes}).encode()


@given(
    body=st.dictionaries(st.text(), VALUES, max_size=5),
    key=st.integers(-(2**63), 2**63 - 1) | st.text(),
    by=st.text(),
)
def test_a_command_survives_the_archive(body: dict[str, Any], key: int | str, by: str) -> None:
    command = Command(command_id(1), "put", "cities", key, 3, by, None, body)
    line = encode(command)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == decode(line[:-1]) == command


@given(
    body=st.dictionaries(st.text(), VALUES, max_size=5),
    number=st.integers(2**63 - 2, 2**64 + 2) | st.integers(-(2**63) - 2, -(2**63) + 2),
    place=st.sampled_from(["value", "nested", "key", "nowhere"]),
    numbers=st.lists(st.sampled_from(["-0", "-0.0", "1E5", "1e-400", "0.1", "123456789.5e-12"])),
)
def test_a_line_is_read_quickly_as_it_is_read_carefully(
    body: dict[str, Any], number: int, place: str, numbers: list[str]
) -> None:
    """Two parsers read lines, and their results must be equal."""
    body = body | {"value": {"value": number, "nested": [{"a": [number]}]}.get(place)}
    line = envelope(body=body, key=number if place == "key" else 1)
    line = line.replace(b'"body": {', b'"body": {"numbers": [%s], ' % ",".join(numbers).encode())
    quickly = _decode_quickly(line)
    if place == "nowhere":
        assert quickly is not None
    if quickly is not None:
        assert repr(quickly) == repr(decode_carefully(line))


_LINES = st.sampled_from(
    [
        *(encode(city(n)) for n in (1, 2)),
        encode(city(3, "delete")),
        encode(city(4, name="ä\n", extra={"a": [1]})),
        encode(city(5)._replace(amends=command_id(1))),
        encode(city(1)).replace(
            command_id(1).encode(), f"{command_id(1)}\\n{command_id(2)}".encode()
        ),
        encode(city(6)).replace(b'"op":"put"', b'"op":"delete"'),
        encode(city(7)).replace(b'"v":1', b'"v":2'),
        b"no JSON",
        b'{"v":1}',
    ]
)


def _few_odd(odd: list[tuple[int, bytes]]) -> list[bytes]:
    lines = [encode(city(number)) for number in range(200)]
    for place, line in odd:
        lines.insert(place, line)
    return lines


@given(
    st.one_of(
        st.lists(_LINES, max_size=60),
        st.lists(st.tuples(st.integers(0, 200), _LINES), max_size=6).map(_few_odd),
    )
)
def test_lines_are_read_by_the_batch_as_each_is_by_itself(lines: list[bytes]) -> None:
    def one(line: bytes) -> Command | tuple[str, str]:
        try:
            return decode(line)
        except InvalidLineError as exc:
            return exc.code, str(exc)

    read = [
        entry if isinstance(entry, Command) else (entry.code, str(entry))
        for entry in decode_all(lines)
    ]
    assert repr(read) == repr([one(line) for line in lines])


def test_the_envelope_is_the_documented_one() -> None:
    assert json.loads(encode(city(7, "delete", 5))) == {
        "v": 1,
        "id": command_id(7),
        "op": "delete",
        "resource": "cities",
        "key": 5,
        "schema": 1,
        "by": "test",
        "trace": None,
        "body": None,
    }


def test_an_amendment_names_the_amended_command_and_other_lines_are_unchanged() -> None:
    plain = city(7)
    amending = plain._replace(amends=command_id(3))
    assert b"amends" not in encode(plain)
    assert json.loads(encode(amending)) == {**json.loads(encode(plain)), "amends": command_id(3)}
    assert decode(encode(amending)) == amending


def test_an_invalid_line_can_be_amended_by_the_id_of_its_rejection() -> None:
    line_id = "2ff7a6b8-6d0c-5a1c-9f0e-0a2b7c4d5e6f"  # a UUIDv5, as Rejection.of_line makes it
    assert decode(envelope(amends=line_id)).amends == line_id
    assert decode(envelope(amends=None)).amends is None


@pytest.mark.parametrize("amends", [5, "", "x", command_id(3).upper(), [], {"a": 1}])
def test_a_command_that_an_older_release_applies_is_not_rejected_for_its_amended_id(
    amends: Any,
) -> None:
    assert decode(envelope(amends=amends)) == city(1)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_an_unknown_version_is_named(version: object) -> None:
    with pytest.raises(InvalidLineError) as caught:
        decode(envelope(v=version))
    assert caught.value.code == "envelope_version_unknown"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"id": None},
        {"id": command_id(1).upper()},
        {"id": "0199f0c2-0000-4000-8000-000000000000"},
        {"op": "upsert"},
        {"op": ["put"]},
        {"resource": ""},
        {"resource": 5},
        {"key": None},
        {"key": 1.5},
        {"key": True},
        {"key": 2**64},
        {"schema": 0},
        {"schema": "1"},
        {"by": None},
        {"trace": 5},
        {"body": None},
        {"body": []},
        {"op": "delete"},
    ],
)
def test_a_wrong_member_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidLineError) as caught:
        decode(envelope(**changes))
    assert caught.value.code in {"envelope_invalid", "line_not_json"}


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"[]", b"5", b'{"v":1', b'"\\ud800"'])
def test_a_line_that_is_not_a_json_object_is_invalid(line: bytes) -> None:
    with pytest.raises(InvalidLineError):
        decode(line)


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_being_unreadable(line: bytes) -> None:
    with pytest.raises(InvalidLineError):
        decode(line)


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * levels + b"]" * levels + b"}"


def test_a_line_with_too_deep_nesting_is_invalid() -> None:
    """orjson reads 1,024 levels and writes 254: such a command could not even be rejected."""
    line = encode(city(1, name="[" * 500)).replace(b'"population":', b'"x":%s,"population":')
    with pytest.raises(InvalidLineError) as error:
        decode(line % nested(300))
    assert error.value.code == "line_too_deep"
    command = decode(line % nested(150))
    assert decode(encode(command)) == command
