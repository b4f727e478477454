"""Keys and records of the read cache.

Every key begins with the id of the server's run, so that a server that was started again, or has
replaced another in a failover and may lack its last changes, begins empty.

- *Epoch*: one record `<token> <floor> <high> <history>`. An answer of another epoch is invalid.
  While a reader opens the epoch, the record is `-<token> 0 <high> -`.
- *Generation*: a record `<token> <floor>` for each item, and for each resource's lists. A change
  removes it. The next reader makes a new one, with the epoch's `high` as its floor.
- *Answer*: the tokens of its epoch and generations, then the answer. It is valid as long as they
  are the current ones.

`high` is the greatest transaction that has announced a change; a floor is the transaction that a
replica must show before its answer may be stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

TOKEN_DIGITS: Final = 16
#: An answer is not used for longer, whatever happens: the bound if a change could not be announced.
ANSWER_SECONDS: Final = 60
#: Generations only have to outlive their answers; without one, its answers are invalid.
GENERATION_SECONDS: Final = 3_600
#: Longer answers are not stored: few of them would displace many others.
MAX_ANSWER_BYTES: Final = 256 * 1024


def make_token() -> str:
    """A random token, from the operating system: a Lambda snapshot has the state of `random`."""
    return os.urandom(TOKEN_DIGITS // 2).hex()


def build_epoch_key(run: str) -> str:
    """The key of the epoch."""
    return f"{run}:epoch"


def build_generation_key(run: str, name: str) -> bytes:
    """The key of a generation; `name` is from `name_item` or `name_lists`."""
    # Any key that a command can have, also one that no row can have.
    return f"{run}:generation:{name}".encode(errors="surrogatepass")


def answer_key(run: str, request: bytes) -> bytes:
    """The key of an answer; `request` contains every part of the request that it depends on."""
    digest = hashlib.sha256(request).hexdigest()[:32]
    return f"{run}:answer:{digest}".encode()


def name_item(resource: str, key: int | str) -> str:
    """The name of an item's generation."""
    return f"{resource}/{key}"


def name_lists(resource: str) -> str:
    """The name of the generation of a resource's lists."""
    return resource  # a resource's path has no slash


@dataclass(frozen=True, slots=True)
class Epoch:
    """An open epoch."""

    token: str
    floor: int
    history: str

    @classmethod
    def parse(cls, record: bytes | None) -> Self | None:
        """Read a record; None if there is none, or if a reader is just opening the epoch."""
        if record is None or record.startswith(b"-"):
            return None
        token, floor, _, history = record.decode().split(" ")
        return cls(token, int(floor), history)


def combine_tokens(epoch: Epoch, generations: Iterable[bytes]) -> bytes:
    """The tokens that a valid answer begins with."""
    return b"".join([epoch.token.encode(), *(record[:TOKEN_DIGITS] for record in generations)])


def find_floor(epoch: Epoch, generations: Sequence[bytes]) -> int:
    """The transaction that a replica must show before its answer may be stored."""
    return max(epoch.floor, *(int(record[TOKEN_DIGITS + 1 :]) for record in generations))
