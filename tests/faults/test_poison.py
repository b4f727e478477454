"""Invalid objects between valid objects."""

import gzip
import time

from forebay.codec import encode
from tests.fixtures.commands import city
from tests.fixtures.emulator import wait_until
from tests.fixtures.faulty import FaultyStack

GOOD = encode(city(1, key=1))
POISON = {
    "empty": b"",
    "no-gzip": b"no gzip at all",
    "cut-off": gzip.compress(b"x" * 100_000)[:-6],
    "no-lines": gzip.compress(bytes(range(256)) * 100),
    "one-long-line": gzip.compress(b"x" * 3_000_000),
    "a-bomb": gzip.compress(b"\n" * 30_000_000),
}


def test_poisoned_objects(faulty_stack: FaultyStack) -> None:
    stack = faulty_stack
    with stack.fault(
        "poison object",
        f"{len(POISON)} objects among the commands that are none: {', '.join(POISON)}",
        part="consumer",
    ) as watched:
        keys = {
            stack.archive(f"poison-{name}-{time.time_ns()}", raw) for name, raw in POISON.items()
        }
        query = "SELECT object FROM forebay.ledger WHERE completed_at IS NOT NULL"
        wait_until(
            lambda: keys <= {key for (key,) in stack.as_superuser(query)},
            "they are done with",
        )
        watched.ends()
        ((rejections,),) = stack.as_superuser(
            "SELECT count(*) FROM forebay.rejections WHERE object LIKE '%poison%'"
        )
        watched.fault.remark = f"{rejections} rejections, each with its reason"
    assert rejections >= len(POISON) - 2
    assert stack.dead_letters() == 0
