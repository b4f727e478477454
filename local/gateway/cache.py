"""The stage cache: which answers are kept, under which key, and for how long. No clock of its own.

The key is what API Gateway's is: the namespace, the method and the values of exactly the declared
cache key parameters. Whatever else differs between two requests, they share an entry, as on AWS.
Every status of an integration's answer may be kept; the largest that is kept is 1,048,576 bytes
(AWS: "Cache settings for REST APIs in API Gateway").
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from local.gateway.deployed import CacheRule, Found, Parameter
from local.gateway.messages import Answer, Incoming

MAX_ANSWER_BYTES = 1_048_576
# Bookkeeping of one entry, so that a million empty answers don't count as nothing.
_ENTRY_OVERHEAD_BYTES = 1024

Value = str | None
Key = tuple[str, str, tuple[tuple[Parameter, Value], ...]]


def cache_key(rule: CacheRule, found: Found, request: Incoming) -> Key:
    """What tells the request's entry from all others.

    An absent parameter and an empty one are two different values. Of a query parameter given twice
    the last value counts, as it does for `queryStringParameters` on AWS.
    """
    query = dict(request.query)
    sources: Mapping[str, Mapping[str, str]] = {
        "path": found.path,
        "querystring": query,
        "header": request.headers,
    }
    values = tuple((part, sources[part.location].get(part.name)) for part in rule.key)
    return rule.namespace, request.method, values


@dataclass(frozen=True, slots=True)
class Ticket:
    """A miss that is being answered: shows whether its answer may still be stored when it comes."""

    key: Key
    asked_at: float
    #: Of the cache at that moment; a flush ends it.
    generation: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What the cache has done since the start, and what it holds."""

    hits: int
    misses: int
    entries: int
    bytes: int
    evictions: int


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    size: int
    #: When the request that brought this answer was made.
    asked_at: float
    expires_at: float


class StageCache:
    """Answers by key; the least recently used go when there are too many bytes.

    All times are seconds of one monotonic clock that the caller reads.
    """

    def __init__(self, *, max_bytes: int) -> None:
        """An empty cache that holds at most that many bytes."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._generation = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    def get(self, key: Key, *, now: float) -> Answer | None:
        """The answer that is kept for the key and has not expired."""
        entry = self._live(key, now)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.answer

    def miss(self, key: Key, *, now: float) -> Ticket:
        """Notes that the function is asked now; the ticket goes to `store` with its answer."""
        self._misses += 1
        return Ticket(key, now, self._generation)

    def store(self, ticket: Ticket, answer: Answer, *, ttl_seconds: float, now: float) -> bool:
        """Keeps the answer, which arrived now, for the TTL; says whether it was kept.

        Not kept are answers that are too large, that were asked for before a flush, and that were
        asked for before the answer which is there already: a slow one must not replace a newer one.
        """
        size = answer.size + _key_size(ticket.key) + _ENTRY_OVERHEAD_BYTES
        if answer.size > MAX_ANSWER_BYTES or size > self._max_bytes:
            return False
        if ticket.generation != self._generation:
            return False
        present = self._live(ticket.key, now)
        if present is not None and present.asked_at > ticket.asked_at:
            return False
        self._drop(ticket.key)
        self._entries[ticket.key] = _Entry(answer, size, ticket.asked_at, now + ttl_seconds)
        self._bytes += size
        self._shrink()
        return True

    def flush(self) -> int:
        """Empties the cache, also of answers that are still on their way; returns how many went."""
        count = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        self._generation += 1
        return count

    def stats(self) -> Stats:
        """Counters since the start and the present size; expired entries count until met."""
        return Stats(self._hits, self._misses, len(self._entries), self._bytes, self._evictions)

    def _live(self, key: Key, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at <= now:
            self._drop(key)
            return None
        return entry

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _shrink(self) -> None:
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.size
            self._evictions += 1


def _key_size(key: Key) -> int:
    return sum(len(part.name) + len(value or "") for part, value in key[2])
