"""Command ids: RFC 9562 UUIDv7, strictly increasing, never repeated."""

from __future__ import annotations

import datetime as dt
import threading
import uuid

from hypothesis import given
from hypothesis import strategies as st

from forebay.ids import (
    IdSource,
    accepted_ms,
    are_command_ids,
    are_uuids,
    is_command_id,
    is_create_id,
    is_decided_command_id,
    is_outdated,
    is_uuid,
    join_id,
    make_id_above,
    make_id_at,
    make_least_id,
    mark_orphaned,
    mark_outdated,
    milliseconds,
    original_version,
)
from lambdas.imports.ids import MAX_LINE, ObjectIds

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MOMENTS = st.lists(st.integers(0, 2**47), min_size=2, max_size=50)


@given(moments=MOMENTS, creates=st.lists(st.booleans(), min_size=50, max_size=50))
def test_ids_increase_strictly_even_if_the_clock_is_set_back(
    moments: list[int], creates: list[bool]
) -> None:
    clock = iter(moments)
    source = IdSource(lambda: next(clock))
    ids = [source.make(create=create) for _, create in zip(moments, creates, strict=False)]
    assert ids == sorted(set(ids))
    assert all(is_create_id(new_id) == create for new_id, create in zip(ids, creates, strict=False))
    assert all(is_command_id(new_id) and uuid.UUID(new_id).version == 7 for new_id in ids)


@given(now=st.integers(0, 2**47), seen=st.integers(0, 2**47), low=st.integers(0, 2**62 - 1))
def test_an_id_is_greater_than_the_ids_that_the_client_has_seen(
    now: int, seen: int, low: int
) -> None:
    after = str(uuid.UUID(int=seen << 80 | 0x7FFF << 64 | 0b10 << 62 | low))
    assert IdSource(lambda: now).make(create=False, after=after) > after


@given(seen=st.integers(2, 2**46), ahead=st.integers(1, 600_000))
def test_a_floor_raises_its_own_id_and_no_other(seen: int, ahead: int) -> None:
    source = IdSource(lambda: seen)
    floor = IdSource(lambda: seen + ahead).make(create=True)
    first, raised, second = (
        source.make(create=False),
        source.make(create=False, after=floor),
        source.make(create=False),
    )
    assert first < second < floor < raised
    assert accepted_ms(second) == seen
    assert accepted_ms(raised) == seen + ahead + 1


def test_ids_above_one_floor_are_all_different() -> None:
    floor = IdSource(lambda: 1_000).make(create=False)
    sources = [IdSource(lambda: 5) for _ in range(2)]
    new_ids = {source.make(create=False, after=floor) for source in sources for _ in range(1000)}
    assert len(new_ids) == 2000
    # A small step above the floor would be guessable: the floor is known to other clients.
    assert len({command_id[14:] for command_id in new_ids}) == 2000


@given(ms=st.integers(0, 0xDFFFFFFFFFFF), create=st.booleans(), orphaned=st.booleans())
def test_a_mark_is_greater_than_every_id_and_gives_the_version_back(
    ms: int, *, create: bool, orphaned: bool
) -> None:
    version = IdSource(lambda: ms).make(create=create)
    mark = (mark_orphaned if orphaned else mark_outdated)(version)
    assert (str(uuid.UUID(mark)), mark > "e", is_command_id(mark)) == (mark, True, False)
    assert (is_outdated(mark), is_outdated(version)) == (True, False)
    assert original_version(mark) == version == original_version(version)


@given(
    ms=st.integers(1, 2**45),
    microseconds=st.integers(0, 999),
)
def test_a_moment_cuts_between_the_ids_of_its_millisecond_and_those_before(
    ms: int, microseconds: int
) -> None:
    moment = EPOCH + dt.timedelta(milliseconds=ms, microseconds=microseconds)
    assert milliseconds(moment) == ms
    before, at = IdSource(lambda: ms - 1), IdSource(lambda: ms)
    assert before.make(create=False) < make_least_id(moment) < at.make(create=False)


def test_a_mark_of_an_earlier_release_is_a_mark_whose_version_is_lost() -> None:
    mark = "ffffffff-ffff-ffff-ffff-ffffffffffff"
    assert is_outdated(mark)
    assert original_version(mark) == mark


def test_an_id_carries_the_time_of_acceptance() -> None:
    assert accepted_ms(IdSource(lambda: 1_700_000_000_123).make(create=True)) == 1_700_000_000_123


def test_two_sources_that_woke_from_one_snapshot_make_different_ids() -> None:
    first, second = IdSource(lambda: 5), IdSource(lambda: 5)
    new_ids = {source.make(create=False) for source in (first, second) for _ in range(1000)}
    assert len(new_ids) == 2000


def test_threads_never_get_the_same_id() -> None:
    source = IdSource(lambda: 5)
    new_ids: list[str] = []

    def make() -> None:
        new_ids.extend(source.make(create=False) for _ in range(2000))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(new_ids)) == 8000


@given(ms=st.integers(0, 2**47), bits=st.integers(0, 2**74 - 1), create=st.booleans())
def test_an_id_above_another_is_in_its_millisecond_unless_that_is_full(
    ms: int, bits: int, *, create: bool
) -> None:
    below = join_id(ms, bits)
    new_id = make_id_above(below, create=create)
    assert is_command_id(new_id)
    assert is_create_id(new_id) == create
    assert new_id > below
    assert accepted_ms(new_id) in ([ms] if bits < 2**74 - 2**51 else [ms, ms + 1])


def test_ids_above_lines_of_an_import_are_none_of_its_ids_and_all_different() -> None:
    ids = ObjectIds("imports/cities/put/a.csv", "1", dt.datetime.now(dt.UTC))
    lines = []
    for ids.line in range(2000):
        lines.append(ids.make(create=False))
    new_ids = [make_id_above(line, create=False) for line in lines for _ in range(2)]
    ids.line = MAX_LINE
    assert min(new_ids) > ids.make(create=True)
    assert len(set(new_ids)) == len(new_ids)


@given(ms=st.integers(0, 2**47), create=st.booleans())
def test_an_id_at_a_time_is_of_that_time(ms: int, *, create: bool) -> None:
    new_id = make_id_at(ms, create=create)
    assert is_command_id(new_id)
    assert (accepted_ms(new_id), is_create_id(new_id)) == (ms, create)


ID = "0199f0c2-0000-7000-8000-00000000000a"
#: An id with one character changed, two ids in one text, and texts without an id.
TEXTS = [
    *[
        ID[:place] + other + ID[place + 1 :]
        for place in range(len(ID))
        for other in "07adefgAF-\n "
    ],
    *("", "\n", f"{ID}\n{ID}", f"{ID}\n", ID.upper(), ID[:-1], ID[:-1] + "٣"),
]


def test_a_batch_of_ids_is_checked_like_each_id() -> None:
    for texts in ([], [ID, ID], *[[ID, text] for text in TEXTS], [f"{ID}\n{ID}", ""]):
        assert are_uuids(texts) == all(map(is_uuid, texts)), texts
        assert are_command_ids(texts) == all(map(is_command_id, texts)), texts


@given(st.lists(st.sampled_from(["create", "plain", "decided"]), max_size=60), st.integers(0, 3))
def test_the_ids_of_decided_commands_alone_are_marked_and_all_increase(
    kinds: list[str], step: int
) -> None:
    now = [1_700_000_000_000]
    ids = IdSource(now_ms=lambda: now[0])
    made = []
    for kind in kinds:
        now[0] += step
        made.append(ids.make(create=kind == "create", decided=kind == "decided"))
    assert made == sorted(set(made))
    assert [is_decided_command_id(one) for one in made] == [kind == "decided" for kind in kinds]
    assert [is_create_id(one) for one in made] == [kind == "create" for kind in kinds]
    assert all(map(is_command_id, made))


@given(st.integers(0, (1 << 74) - 1))
def test_a_marked_id_above_a_floor_exceeds_it(bits: int) -> None:
    floor = join_id(1_700_000_000_000, bits)
    marked = IdSource(now_ms=lambda: 0).make(create=False, after=floor, decided=True)
    assert marked > floor
    assert is_decided_command_id(marked)


def test_an_unmarked_id_never_gets_the_mark_by_chance() -> None:
    below = join_id(1_700_000_000_000, 0xDEC1DE - 2)
    made = {make_id_above(below, create=False) for _ in range(50)}
    assert not any(map(is_decided_command_id, made))
    assert is_decided_command_id(join_id(1_700_000_000_000, 0xDEC1DE))
