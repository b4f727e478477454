"""Reading archive objects: every valid line is read, whatever invalid lines are around it."""

from __future__ import annotations

import gzip
import itertools
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.archive.lines import (
    MAX_INVALID_BYTES,
    MAX_INVALID_LINES,
    Entry,
    InvalidLine,
    read_chunks,
    read_lines,
)
from forebay.codec import MAX_LINE_BYTES, encode
from tests.fixtures.bombs import BOMBS
from tests.fixtures.commands import city

COMMANDS = [city(number, key=number) for number in range(50)]
LINES = b"".join(map(encode, COMMANDS))


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def entries(data: bytes, size: int = 1000) -> list[Entry]:
    return [entry for chunk in read_chunks(blocks(data, size)) for entry in chunk]


def codes(found: list[Entry]) -> list[str]:
    return [entry.code for entry in found if isinstance(entry, InvalidLine)]


@settings(max_examples=50)
@given(size=st.integers(1, 5000), cut=st.integers(0, len(LINES)), most=st.integers(1, 60))
def test_an_object_reads_the_same_in_any_blocks_and_gzip_members(
    size: int, cut: int, most: int
) -> None:
    data = gzip.compress(LINES[:cut]) + gzip.compress(LINES[cut:])
    chunks = list(read_chunks(blocks(data, size), max_commands=most))
    assert [entry for chunk in chunks for entry in chunk] == COMMANDS
    assert all(0 < len(chunk) <= most for chunk in chunks)


def test_chunks_are_bounded_by_bytes_too() -> None:
    chunks = list(read_chunks([gzip.compress(LINES)], max_bytes=1000))
    assert [entry for chunk in chunks for entry in chunk] == COMMANDS
    assert len(chunks) > len(LINES) // 1000


def test_a_half_line_at_the_end_is_named_and_its_neighbours_are_read() -> None:
    result = entries(gzip.compress(LINES + b'{"v":1,"id":"0199'))
    assert result[:-1] == COMMANDS
    assert codes(result) == ["line_not_json"]


def test_a_last_line_without_its_newline_is_a_line() -> None:
    assert entries(gzip.compress(LINES.rstrip(b"\n"))) == COMMANDS


def test_blank_lines_are_nothing() -> None:
    assert entries(gzip.compress(b"\n\n" + LINES.replace(b"\n", b"\n\n"))) == COMMANDS


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_lines_before_a_cut_are_read(kept: float) -> None:
    data = gzip.compress(LINES, 0)  # stored, so that the cut leaves many lines whole
    result = entries(data[: int(len(data) * kept)])
    whole = [entry for entry in result if not isinstance(entry, InvalidLine)]
    assert whole == COMMANDS[: len(whole)]
    assert len(whole) >= int(len(COMMANDS) * kept) - 2
    assert codes(result) == ["object_corrupt"]


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_wrong_checksum_is_noticed_and_costs_no_line(size: int) -> None:
    data = bytearray(gzip.compress(LINES))
    data[-5] ^= 1
    result = entries(bytes(data), size)
    assert result[: len(COMMANDS)] == COMMANDS
    assert codes(result) == ["object_corrupt"]


@pytest.mark.parametrize("data", [b"garbage", LINES, b"\x00" * 5000])
def test_an_object_that_is_not_gzip_is_one_invalid_line(data: bytes) -> None:
    assert codes(entries(data)) == ["object_not_gzip"]


def test_junk_behind_the_gzip_data_is_named() -> None:
    result = entries(gzip.compress(LINES) + b"junk")
    assert result[:-1] == COMMANDS
    assert codes(result) == ["object_not_gzip"]


def test_an_empty_object_has_no_entry() -> None:
    assert entries(b"") == entries(gzip.compress(b"")) == []


def test_a_line_of_1000_kib_is_read_and_a_longer_one_is_named() -> None:
    fitting = encode(city(1, name=""))
    name = "x" * (MAX_LINE_BYTES - len(fitting))
    for extra, expected in (("", []), ("x", ["line_too_long"])):
        line = encode(city(1, name=name + extra))
        result = entries(gzip.compress(LINES + line + LINES), 100_000)
        assert codes(result) == expected
        assert len(result) == 2 * len(COMMANDS) + 1


def test_a_bomb_takes_no_more_memory_than_a_line() -> None:
    bomb = gzip.compress(b"x" * 200_000_000)
    tracemalloc.start()
    result = entries(bomb, 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(result) == ["line_too_long"]
    assert peak < 8 * MAX_LINE_BYTES


@settings(max_examples=100)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_worse_than_bad_lines(data: bytes, zipped: bool) -> None:  # noqa: FBT001
    result = entries(gzip.compress(data) if zipped else data)
    assert all(isinstance(entry, InvalidLine) for entry in result)
    assert [entry.number for entry in result if isinstance(entry, InvalidLine)] == list(
        range(len(result))
    )


def test_junk_behind_a_last_line_without_its_newline_costs_no_command() -> None:
    result = entries(gzip.compress(LINES.rstrip(b"\n")) + b"junk")
    assert result[:-1] == COMMANDS
    assert codes(result) == ["object_not_gzip"]


def bad_codes(data: bytes) -> list[str]:
    """Return the codes of an object's invalid lines, with equal neighbours collapsed."""
    return [code for code, _ in itertools.groupby(codes(entries(data, 100_000)))]


def test_an_object_of_nothing_but_bad_lines_is_given_up_and_its_good_ones_before_are_read() -> None:
    """Every invalid line becomes a rejection: 30 KB of gzip once made 15 million of them."""
    result = entries(gzip.compress(LINES + b"x\n" * 1_000_000), 100_000)
    assert result[: len(COMMANDS)] == COMMANDS
    assert len(result) == len(COMMANDS) + MAX_INVALID_LINES + 1
    assert bad_codes(gzip.compress(b"x\n" * 1_000_000)) == ["line_not_json", "object_refused"]


def test_so_is_one_whose_bad_lines_are_long() -> None:
    line = b"[" * (MAX_LINE_BYTES - 2) + b"\n"
    result = entries(gzip.compress(line * 100), 100_000)
    assert len(result) == MAX_INVALID_BYTES // (len(line) - 1) + 1
    assert codes(result)[-1] == "object_refused"


def test_bad_lines_below_the_limit_cost_no_good_one() -> None:
    data = (b"x\n" * (MAX_INVALID_LINES // len(COMMANDS))).join(
        encode(command) for command in (*COMMANDS, COMMANDS[0])
    )
    result = entries(gzip.compress(data), 100_000)
    assert codes(result) == ["line_not_json"] * MAX_INVALID_LINES
    assert len(result) == MAX_INVALID_LINES + len(COMMANDS) + 1


@pytest.mark.parametrize("name", ["2 GiB of lines of a byte", "2 GiB of long lines"])
def test_a_gzip_bomb_gives_the_same_lines_for_any_block_size(name: str) -> None:
    """Otherwise a retry would resume at another line than the interrupted run stopped at."""
    data = BOMBS[name].make()
    assert entries(data, 10_000) == entries(data, 1_000_000)


def test_an_uncompressed_line_is_read_without_its_newline() -> None:
    """Uncompressed lines come singly; JSON spread over several lines is not a Forebay object."""
    for ending in (b"", b"\n", b"\n\n"):
        result = read_lines([encode(COMMANDS[0]).rstrip(b"\n") + ending])
        (line, entry), (_, bad) = (
            one for lines, read in result for one in zip(lines, read, strict=True)
        )
        assert (line, entry) == (encode(COMMANDS[0]).rstrip(b"\n"), COMMANDS[0])
        assert isinstance(bad, InvalidLine)
        assert bad.code == "object_not_gzip"
    spread = json.dumps(json.loads(encode(COMMANDS[0])), indent=1).encode()
    assert codes(entries(spread)) == ["object_not_gzip"]
    assert len(entries(spread)) == 1
