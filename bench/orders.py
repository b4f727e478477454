"""The measured resource and its commands: 8 columns, a UUID key, one secondary index.

A command takes about 300 bytes. Everything derives from the seed, so all contenders get the same
rows.
"""

from __future__ import annotations

import datetime as dt
import gzip
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from forebay.codec import encode
from forebay.command import Body, Command
from forebay.resource import Indexed, Resource, ResourceSpec


class Order(Resource, path="orders"):
    """An order of a shop."""

    customer: Annotated[str, Field(min_length=1, max_length=20), Indexed()]
    sku: Annotated[str, Field(min_length=1, max_length=20)]
    quantity: Annotated[int, Field(ge=1, le=10_000)]
    price: Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
    paid: bool
    placed_on: dt.date
    note: Annotated[str | None, Field(max_length=200)] = None


SPEC: ResourceSpec = Order.spec_
RESOURCES = {SPEC.path: SPEC}
#: Size of an object before gzip: the buffer of the `dev` environment's stream.
OBJECT_BYTES = 5 * 1024 * 1024

_SEED = 11
_FIRST_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
_CUSTOMERS = 50_000
_GZIP_LEVEL = 6
_NOTES = ("", "ring twice", "a present")


@dataclass(frozen=True, slots=True)
class Objects:
    """Archive objects in a folder, with their number of commands and average line size."""

    folder: Path
    keys: tuple[str, ...]
    commands: int
    line_bytes: int


def commands(count: int, *, generation: int = 0, seed: int = _SEED) -> Iterator[Command]:
    """Make this number of puts, each to a different key.

    Args:
        count: number of commands.
        generation: a later one puts other bodies to the same keys, with greater ids.
        seed: determines the keys.
    """
    keys, chance = random.Random(seed), random.Random(seed + 1 + generation)
    for number in range(count):
        key = str(uuid.UUID(int=keys.getrandbits(128), version=4))
        yield Command(
            id=command_id(number, generation),
            op="put",
            resource=SPEC.path,
            key=key,
            schema=1,
            by="api-key:7",
            trace=None,
            body=body(keys, chance, number),
        )


def patches(count: int, *, decided: bool = False) -> Iterator[Command]:
    """Make this number of patches of the rows of the first generation, each of two fields.

    Args:
        count: number of patches.
        decided: give each a condition, and an increment in place of a value.
    """
    for command in commands(count, generation=1):
        old = command.body or {}
        quantity = {"$increment": 1} if decided else old["quantity"]
        yield command._replace(
            op="patch",
            body={"quantity": quantity, "paid": old["paid"]},
            condition={"where": [["quantity", "lt", 9_000]]} if decided else None,
        )


def command_id(number: int, generation: int = 0) -> str:
    """The id of the `number`th command of a generation; a millisecond has a hundred commands."""
    ms = _FIRST_MS + generation * 86_400_000 + number // 100
    return str(uuid.UUID(int=ms << 80 | 0x7 << 76 | 0b10 << 62 | number << 1))


def body(fixed: random.Random, chance: random.Random, number: int) -> Body:
    """A body; the bodies of one key share the customer, all else may differ."""
    day = dt.date(2026, 1, 1) + dt.timedelta(days=number % 365)
    return {
        "customer": f"c{fixed.randrange(_CUSTOMERS)}",
        "sku": f"{chance.randrange(10**8):08d}",
        "quantity": chance.randrange(1, 100),
        "price": f"{chance.randrange(100, 100_000) / 100:.2f}",
        "paid": chance.random() < 0.5,  # noqa: PLR2004 - a coin
        "placed_on": day.isoformat(),
        "note": chance.choice(_NOTES) or None,
    }


def write_objects(folder: Path, lines: Sequence[bytes], *, name: str) -> Objects:
    """Write archive objects of these lines, split as by the delivery stream."""
    keys: list[str] = []
    block: list[bytes] = []
    size = 0
    for index, line in enumerate(lines):
        block.append(line)
        size += len(line)
        if size >= OBJECT_BYTES or index == len(lines) - 1:
            keys.append(f"commands/2026/01/01/00/{name}-{len(keys):05d}.gz")
            target = folder / keys[-1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.compress(b"".join(block), _GZIP_LEVEL, mtime=0))
            block, size = [], 0
    return Objects(folder, tuple(keys), len(lines), sum(map(len, lines)) // max(1, len(lines)))


def encode_lines(made: Sequence[Command]) -> list[bytes]:
    """The commands as lines of the archive."""
    return [encode(command) for command in made]


def columns() -> list[str]:
    """Every column of the table, in the order of `row`."""
    return [*(column.name for column in SPEC.columns), "_version", "_by_create"]


def row(command: Command) -> list[Any]:
    """The table's row of a put or create."""
    fields = command.body or {}
    values = [fields[field.name] for field in SPEC.fields]
    return [command.key, *values, command.id, command.op == "create"]


def copy_text(made: Sequence[Command]) -> bytes:
    """The rows in COPY's text format, made beforehand so that COPY measures Postgres only."""
    return "".join("\t".join(map(_encode_value, row(command))) + "\n" for command in made).encode()


def _encode_value(value: object) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value)
