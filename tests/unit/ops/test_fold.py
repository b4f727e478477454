"""Folding a bucket: losers are not validated, and invalid winners cost one extra pass at most."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import resources
from forebay.archive.decisions import build_entry_key, encode_decisions
from forebay.codec import decode, encode
from forebay.decisions.rejections import Rejection
from ops.archive.store import Folder
from ops.folding.fold import ObjectCounts, Winners, fold_bucket
from ops.folding.partition import Bucket, Kind, Partition, Writer
from ops.folding.scan import add_decisions, scan
from tests.fixtures.commands import city, command_id, country


def folded(folder: Path, *lines: bytes) -> tuple[Winners, ObjectCounts]:
    counts = ObjectCounts(1)
    with Partition(folder, expected_bytes=1) as partition:
        records = [("1", (0, tuple(decode(line)))) for line in lines]
        partition.writer.add_all(Kind.APPLIED, records, size_bytes=1)
        (bucket,) = partition.buckets()
        winners = fold_bucket(bucket, resources.load())
        counts.add(winners.tally)
        return winners, counts


def test_a_winner_that_cannot_apply_is_named_and_the_next_one_has_won(tmp_path: Path) -> None:
    bodies: dict[int, dict[str, Any]] = {
        3: {"mayor": "x"},
        2: {"name": {"a": 1}},
        1: {},
        0: {"mayor": "x"},
    }
    lines = [encode(city(n, key=1, **body)) for n, body in bodies.items()]
    winners, counts = folded(tmp_path / "p", *lines)
    assert [command.id for command in winners.applied.values()] == [command_id(1)]
    # The loser as well: for a key with an invalid winner, every body is checked.
    assert {command.id for command, _ in winners.refused} == {command_id(n) for n in (3, 2, 0)}
    assert counts.applied[0] == 1


def test_however_many_commands_of_a_key_cannot_apply_they_are_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Bucket] = []
    read = Bucket.runs

    def record_runs(bucket: Bucket) -> Iterator[tuple[Kind, list[Any]]]:
        passes.append(bucket)
        return read(bucket)

    monkeypatch.setattr(Bucket, "runs", record_runs)
    winners, _ = folded(tmp_path / "p", *(encode(city(n, key=1, mayor="x")) for n in range(500)))
    assert (len(winners.refused), winners.applied) == (500, {})
    assert len(passes) == 2


@pytest.mark.parametrize("key", ["a\x00b", "x" * 300], ids=["NUL", "long"])
def test_a_rejection_for_its_key_is_found_with_its_command(tmp_path: Path, key: str) -> None:
    """Such a key is stored in a changed form, and the rejection must stay in the same file."""
    name = "commands/2025/10/17/00/a.gz"
    command = country(1, key)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(gzip.compress(encode(command)))
    store = Folder(tmp_path)
    stored_key = key[:255].replace("\x00", "\ufffd")
    rejection = Rejection(
        *(command.id, "countries", stored_key, "put", "key_invalid", None, "no key"),
        encode(command),
        name,
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    assert store.create(
        build_entry_key(1), encode_decisions([rejection.to_archive()], [], "database")
    )
    with Partition(tmp_path / "buckets", expected_bytes=2**40, writers=2) as partition:
        cut = "f" * 36
        with Writer(partition.files, 1) as writer:
            scan(
                store,
                writer,
                cut=cut,
                objects=store.list("commands/"),
                ledger=None,
                advance=lambda _: None,
            )
        with Writer(partition.files, 0) as writer:
            entries = add_decisions(store, writer, cut=cut, position=None)
            assert [len(entry.rejections) for entry in entries] == [0, 1]
        refusals = [
            refused
            for bucket in partition.buckets()
            for refused in fold_bucket(bucket, resources.load()).refused
        ]
    assert refusals == []
