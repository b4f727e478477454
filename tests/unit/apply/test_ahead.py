"""Reading ahead one chunk and one object: no line is lost, and no object stays open."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from threading import Event, Timer

import pytest

import resources
from forebay.apply import Chunk, read_ahead
from forebay.archive.read_ahead import ReadAhead, read_one_ahead
from forebay.command import Command
from tests.fixtures.commands import city
from tests.fixtures.emulator import wait_until


class Objects:
    """Objects of a few chunks each, with a log of everything that is read from them."""

    def __init__(self, **chunks: int) -> None:
        self.chunks = chunks
        self.noted: list[str] = []
        self.broken: set[str] = set()

    def begin(self, name: str) -> ReadAhead[Chunk]:
        if f"{name} can't begin" in self.broken:
            raise OSError(name)
        return read_ahead(self._read(name), resources.load())

    def _read(self, name: str) -> Iterator[Sequence[Command]]:
        try:
            for number in range(self.chunks[name]):
                self.noted.append(f"{name}{number}")
                if f"{name}{number}" in self.broken:
                    raise OSError(name)
                yield [city(number, key=number)]
        finally:
            self.noted.append(f"{name} closed")

    def wait_for(self, note: str) -> None:
        wait_until(lambda: note in self.noted, note)


def ids(ahead: ReadAhead[Chunk]) -> list[str]:
    return [command.id for chunk, _ in ahead for command in chunk.commands]


def test_chunks_come_in_order_and_the_last_is_marked() -> None:
    with Objects(a=3).begin("a") as ahead:
        pairs = [(chunk.ids, is_last()) for chunk, is_last in ahead]
    assert pairs == [([city(n).id], n == 2) for n in range(3)]


def test_an_object_without_a_line_is_one_empty_chunk() -> None:
    with Objects(a=0).begin("a") as ahead:
        ((chunk, is_last),) = ahead
    assert (chunk.entries, is_last()) == ((), True)


def test_one_chunk_is_read_while_another_is_applied_and_no_more() -> None:
    objects = Objects(a=9)
    with objects.begin("a") as ahead:
        chunks = iter(ahead)
        next(chunks)
        objects.wait_for("a1")
    assert objects.noted == ["a0", "a1", "a closed"]


def test_the_next_object_is_begun_when_this_one_is_read_and_the_one_after_it_is_not() -> None:
    objects = Objects(a=2, b=1, c=1)
    with closing(read_one_ahead(["a", "b", "c"], objects.begin)) as reading:
        name, ahead = next(reading)
        chunks = iter(ahead)
        next(chunks)
        objects.wait_for("a1")
        assert "b0" not in objects.noted
        next(chunks)
        objects.wait_for("b0")
        assert (name, "c0" in objects.noted) == ("a", False)
        assert [(name, ids(ahead)) for name, ahead in reading] == [
            (name, [city(0).id]) for name in "bc"
        ]


def test_whoever_stops_while_the_next_object_is_being_begun_leaves_none_open() -> None:
    objects = Objects(a=1, b=1)
    at_the_end, go_on = Event(), Event()

    def begin(name: str) -> ReadAhead[Chunk]:
        return objects.begin(name) if name == "b" else read_ahead(slowly(), resources.load())

    def slowly() -> Iterator[Sequence[Command]]:
        yield [city(1)]
        at_the_end.set()
        go_on.wait(5)

    reading = read_one_ahead(["a", "b"], begin)
    next(iter(next(reading)[1]))
    assert at_the_end.wait(5)
    Timer(0.1, go_on.set).start()
    reading.close()
    assert objects.noted in ([], ["b0", "b closed"])


def test_a_chunk_that_has_been_applied_is_not_kept() -> None:
    class Entries(list[Command]):
        """A list that supports weak references."""

    alive: list[weakref.ref[Entries]] = []

    def chunks() -> Iterator[Entries]:
        for number in range(5):
            entries = Entries([city(number, key=number)])
            alive.append(weakref.ref(entries))
            yield entries
            del entries

    with read_ahead(chunks(), resources.load()) as ahead:
        for number, (_, is_last) in enumerate(ahead):
            is_last()
            gc.collect()
            assert all(reference() is None for reference in alive[:number])


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_whoever_stops_leaves_no_object_open(taken: int) -> None:
    objects = Objects(a=3, b=3, c=3)
    reading = read_one_ahead(["a", "b", "c"], objects.begin)
    for _ in range(taken):
        _, ahead = next(reading)
        ids(ahead)
    reading.close()
    begun = {note[0] for note in objects.noted}
    assert begun == set("abc"[: taken + 1] if taken else "")
    assert all(f"{name} closed" in objects.noted for name in begun)


def test_an_object_that_is_given_up_costs_no_other() -> None:
    objects = Objects(a=5, b=1)
    given = []
    for name, ahead in read_one_ahead(["a", "b"], objects.begin):
        given.append(name)
        next(iter(ahead))
    assert given == ["a", "b"]


def test_an_unreadable_object_fails_at_its_request() -> None:
    objects = Objects(a=1, b=2, c=1)
    objects.broken.add("b1")
    results: dict[str, object] = {}
    for name, ahead in read_one_ahead(["a", "b", "c"], objects.begin):
        try:
            results[name] = len(ids(ahead))
        except OSError as exc:
            results[name] = str(exc)
    assert results == {"a": 1, "b": "b", "c": 1}


def test_an_object_that_cannot_be_begun_is_not_passed_over() -> None:
    objects = Objects(a=1, b=1)
    objects.broken.add("b can't begin")
    reading = read_one_ahead(["a", "b"], objects.begin)
    ids(next(reading)[1])
    with pytest.raises(OSError, match="b"):
        next(reading)


def test_an_error_of_the_preparation_is_raised_at_the_request_for_the_chunk() -> None:
    def refuse(_: object) -> None:
        raise ValueError("not this one")

    with (
        ReadAhead([[city(1)]], partial(refuse)) as ahead,
        pytest.raises(ValueError, match="not this one"),
    ):
        next(iter(ahead))
