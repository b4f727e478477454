"""Buckets: each key is in exactly one, in order, whatever the bucket's size."""

from __future__ import annotations

from pathlib import Path

from ops.folding.partition import Bucket, Kind, Partition

SMALL = 1_000


def filled(partition: Partition, keys: list[str], each: int = 1) -> None:
    for number in range(each):
        for key in keys:
            partition.writer.add(Kind.APPLIED, key, (key, number))


def read(bucket: Bucket) -> list[tuple[str, int]]:
    """Return the keys and numbers of a bucket's records."""
    return [
        (key, number)
        for kind, contents in bucket.runs()
        for key, number in contents
        if kind is Kind.APPLIED
    ]


def test_a_bucket_that_is_too_large_is_spread_by_key(tmp_path: Path) -> None:
    """The archive is far larger than was expected."""
    keys = [f"key-{number}" for number in range(2_000)]
    with Partition(tmp_path / "p", expected_bytes=1, bucket_bytes=SMALL) as partition:
        filled(partition, keys, each=2)
        of_key: dict[str, int] = {}
        buckets = 0
        for bucket in partition.buckets():
            records = read(bucket)
            mine = {key for key, _ in records}
            assert bucket.size_bytes <= 4 * SMALL
            assert all(bucket.holds(key) for key in mine)
            assert sum(map(bucket.holds, keys)) == len(mine), "no other key is held to be here"
            assert all([n for k, n in records if k == key] == [0, 1] for key in mine)
            of_key |= dict.fromkeys(mine, buckets)
            buckets += 1
    assert set(of_key) == set(keys)
    assert buckets > 16
    assert not (tmp_path / "p").exists()


def test_every_key_is_in_one_bucket(tmp_path: Path) -> None:
    keys = [str(number) for number in range(500)]
    with Partition(tmp_path / "p", expected_bytes=20 * SMALL, bucket_bytes=SMALL) as partition:
        filled(partition, keys)
        stored_keys = [key for bucket in partition.buckets() for key, _ in read(bucket)]
    assert sorted(stored_keys) == sorted(keys)


def test_one_key_with_a_great_many_commands_stays_together(tmp_path: Path) -> None:
    with Partition(tmp_path / "p", expected_bytes=1, bucket_bytes=SMALL) as partition:
        filled(partition, ["hot"], each=3_000)
        buckets = [records for bucket in partition.buckets() if (records := read(bucket))]
    assert buckets == [[("hot", number) for number in range(3_000)]]


def test_buckets_can_be_requested_twice(tmp_path: Path) -> None:
    """Verify reads a bucket again if its digests differ."""
    keys = [f"key-{number}" for number in range(1_000)]
    with Partition(tmp_path / "p", expected_bytes=1, bucket_bytes=SMALL) as partition:
        filled(partition, keys)
        first, second = (
            [(bucket.nibbles, read(bucket)) for bucket in partition.buckets()] for _ in range(2)
        )
    assert first == second
