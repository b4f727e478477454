"""The durable log: the records that are read back after any end of a process."""

import errno
import os
import shutil
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.firehose.segment import (
    HEADER_BYTES,
    Record,
    SpoolCorruptError,
    encode_block,
    encode_header,
    read_records,
    scan,
)
from local.firehose.spool import Spool, SpoolUnusableError, SpoolWriteError, StreamSpool

FIRST = [Record(1_000, b"one\n"), Record(1_001, b""), Record(999, b"\x00FHBK\xff" * 3)]
SECOND = [Record(1_002, b"four\n" * 100)]
THIRD = [Record(1_003, b"five\n")]

records = st.builds(Record, st.integers(0, 2**63), st.binary(max_size=200))
commits = st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=5)


def open_file(directory: Path) -> Path:
    (path,) = directory.glob("*.open")
    return path


def read_back(directory: Path) -> list[Record]:
    """Return all records that a new process recovers, in order."""
    spool = StreamSpool(directory)
    spool.seal()
    return [record for segment in spool.sealed for record in segment.read()]


@given(commits, st.data())
@settings(max_examples=200)
def test_a_cut_anywhere_leaves_the_commits_before_it(
    blocks: list[list[Record]], data: st.DataObject
) -> None:
    segment_id = uuid.uuid4()
    encoded = [encode_block(segment_id, number, block) for number, block in enumerate(blocks)]
    whole = encode_header(segment_id) + b"".join(encoded)
    cut = data.draw(st.integers(HEADER_BYTES, len(whole)))
    ends = [HEADER_BYTES + sum(map(len, encoded[: n + 1])) for n in range(len(encoded))]
    kept = [
        record for block, end in zip(blocks, ends, strict=True) for record in block if end <= cut
    ]
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"segment-{segment_id}"
    try:
        path.write_bytes(whole[:cut])

        found = scan(path)

        assert list(read_records(path, found.length)) == kept
        assert found.records == len(kept)
        assert found.data_bytes == sum(len(record.data) for record in kept)
        assert found.oldest_ms == min((record.arrival_ms for record in kept), default=None)
    finally:
        path.unlink(missing_ok=True)


def test_a_new_process_goes_on_where_the_old_one_was_killed(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    with open_file(tmp_path / "s").open("ab") as file:
        file.write(encode_block(uuid.uuid4(), 1, SECOND)[:50])  # a torn write

    again = StreamSpool(tmp_path / "s")
    again.append(THIRD)

    assert read_back(tmp_path / "s") == FIRST + THIRD


def test_a_segment_killed_while_being_made_is_forgotten(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    os.truncate(open_file(tmp_path / "s"), HEADER_BYTES - 1)

    assert read_back(tmp_path / "s") == []


@pytest.mark.parametrize("distance_from_first_block", [0, 5, 25, 30, 40])
def test_damage_before_a_whole_commit_is_refused(
    tmp_path: Path, distance_from_first_block: int
) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    spool.append(SECOND)
    path = open_file(tmp_path / "s")
    damage(path, HEADER_BYTES + distance_from_first_block)

    with pytest.raises(SpoolCorruptError, match="block 0"):
        StreamSpool(tmp_path / "s")


def test_damage_in_a_sealed_segment_is_refused_even_at_its_end(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    segment = spool.seal()
    assert segment is not None
    damage(segment.path, segment.length - 1)

    with pytest.raises(SpoolCorruptError, match=segment.path.name):
        StreamSpool(tmp_path / "s")


def test_a_sealed_segment_that_lost_its_end_is_refused(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    spool.append(SECOND)
    segment = spool.seal()
    assert segment is not None
    os.truncate(segment.path, HEADER_BYTES + 200)

    with pytest.raises(SpoolCorruptError, match=segment.path.name):
        StreamSpool(tmp_path / "s")


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    damage(open_file(tmp_path / "s"), 3)

    with pytest.raises(SpoolCorruptError, match="does not begin"):
        StreamSpool(tmp_path / "s")


def test_an_object_keeps_its_id_over_a_restart_unless_it_grew(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    shutil.copytree(tmp_path / "s", tmp_path / "grown")
    sealed = spool.seal()
    grown = StreamSpool(tmp_path / "grown")
    grown.append(SECOND)
    longer = grown.seal()

    assert sealed is not None
    assert longer is not None
    assert StreamSpool(tmp_path / "s").sealed[0].object_id == sealed.object_id
    assert longer.object_id != sealed.object_id


def test_a_removed_segment_does_not_come_back(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    first = spool.seal()
    spool.append(SECOND)
    assert first is not None
    spool.remove(first)

    assert read_back(tmp_path / "s") == SECOND


def test_a_write_that_fails_half_way_leaves_no_trace(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    spool = StreamSpool(tmp_path / "s")
    spool.append(FIRST)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = open_file(tmp_path / "s").stat().st_size + 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(SpoolWriteError, match="too large"):
            spool.append(SECOND)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append(THIRD)

    assert read_back(tmp_path / "s") == FIRST + THIRD


@pytest.mark.parametrize("earlier", [[], FIRST])
def test_a_file_whose_sync_failed_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: list[Record]
) -> None:
    """A real disk can't be made to fail a sync on request, so the call is patched."""
    spool = StreamSpool(tmp_path / "s")
    if earlier:
        spool.append(earlier)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("local.firehose.spool.sync_data", fail)
        with pytest.raises(SpoolWriteError, match="Input/output"):
            spool.append(SECOND)
    if earlier:
        with pytest.raises(SpoolWriteError, match="no more"):
            spool.append(SECOND)
        assert spool.seal() is not None
    spool.append(THIRD)

    assert read_back(tmp_path / "s") == earlier + THIRD


def test_a_spool_belongs_to_one_server(tmp_path: Path) -> None:
    first = Spool(tmp_path / "spool")
    with pytest.raises(SpoolUnusableError, match="in use"):
        Spool(tmp_path / "spool")

    first.close()

    Spool(tmp_path / "spool").close()


def test_only_streams_with_records_are_taken_up_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.stream("empty").save_configuration({"name": "empty"})
    for name in ("..", "full"):  # ".." is a valid stream name, and must stay inside the spool
        spool.stream(name).append(FIRST)

    assert spool.stream_names() == ["..", "full"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]
    spool.close()


def test_a_configuration_is_kept(tmp_path: Path) -> None:
    spool = StreamSpool(tmp_path / "s")
    assert spool.load_configuration() is None
    spool.save_configuration({"name": "s", "size_mib": 5})

    assert StreamSpool(tmp_path / "s").load_configuration() == {"name": "s", "size_mib": 5}
    (tmp_path / "s" / "stream.json").write_text("{")
    with pytest.raises(SpoolCorruptError, match=r"stream\.json"):
        spool.load_configuration()


def damage(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)
