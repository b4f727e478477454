"""The stage cache: the stored answers, their keys and their TTLs. Callers pass the time.

The key is the same as API Gateway's: the namespace, the method and the values of exactly the
declared cache key parameters. Requests that differ in any other part share an entry, as on AWS.
An integration's answer may be cached whatever its status, up to 1,048,576 bytes
(AWS: "Cache settings for REST APIs in API Gateway").
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from local.gateway.deployed import CacheRule, Parameter, RouteMatch
from local.gateway.messages import Answer, Incoming

MAX_ANSWER_BYTES = 1_048_576
# Overhead of one entry, so that the size of a million empty answers isn't counted as 0.
_ENTRY_OVERHEAD_BYTES = 1024

Value = str | None
Key = tuple[str, str, tuple[tuple[Parameter, Value], ...]]


def build_cache_key(rule: CacheRule, match: RouteMatch, request: Incoming) -> Key:
    """Return the cache key of the request.

    An absent parameter and an empty parameter are two different values. If a query parameter is
    repeated, its last value is used, as in `queryStringParameters` on AWS.
    """
    query = dict(request.query)
    sources: Mapping[str, Mapping[str, str]] = {
        "path": match.path,
        "querystring": query,
        "header": request.headers,
    }
    values = tuple((part, sources[part.location].get(part.name)) for part in rule.key)
    return rule.namespace, request.method, values


@dataclass(frozen=True, slots=True)
class Ticket:
    """A cache miss: decides whether its answer may still be stored when it arrives."""

    key: Key
    asked_at: float
    #: The cache's generation at that moment; a flush begins the next generation.
    generation: int


@dataclass(frozen=True, slots=True)
class Stats:
    """The cache's counters since the start, and its contents."""

    hits: int
    misses: int
    entries: int
    bytes: int
    evictions: int


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    size: int
    #: When the request for this answer was sent.
    asked_at: float
    expires_at: float


class StageCache:
    """Answers by key; evicts the least recently used entries above the size limit.

    All times are seconds of one monotonic clock that the caller reads.
    """

    def __init__(self, *, max_bytes: int) -> None:
        """Make an empty cache that holds at most `max_bytes`."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0
        self._generation = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    def get(self, key: Key, *, now: float) -> Answer | None:
        """Return the unexpired answer for the key, or None."""
        entry = self._find_live(key, now)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry.answer

    def count_miss(self, key: Key, *, now: float) -> Ticket:
        """Count a miss; return the ticket to pass to `store` with the function's answer."""
        self._misses += 1
        return Ticket(key, now, self._generation)

    def store(self, ticket: Ticket, answer: Answer, *, ttl_seconds: float, now: float) -> bool:
        """Cache the answer, which arrived now, for the TTL; return whether it was stored.

        Answers are not stored if they are too large, if a flush happened after their request, or
        if the cached answer's request was later: a slow answer must not replace a newer answer.
        """
        size = answer.size + _measure_key(ticket.key) + _ENTRY_OVERHEAD_BYTES
        if answer.size > MAX_ANSWER_BYTES or size > self._max_bytes:
            return False
        if ticket.generation != self._generation:
            return False
        entry = self._find_live(ticket.key, now)
        if entry is not None and entry.asked_at > ticket.asked_at:
            return False
        self._drop(ticket.key)
        self._entries[ticket.key] = _Entry(answer, size, ticket.asked_at, now + ttl_seconds)
        self._bytes += size
        self._shrink()
        return True

    def flush(self) -> int:
        """Empty the cache and invalidate all tickets; return the number of removed entries."""
        count = len(self._entries)
        self._entries.clear()
        self._bytes = 0
        self._generation += 1
        return count

    def read_stats(self) -> Stats:
        """Return the counters and the size; expired entries count until they are looked up."""
        return Stats(self._hits, self._misses, len(self._entries), self._bytes, self._evictions)

    def _find_live(self, key: Key, now: float) -> _Entry | None:
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


def _measure_key(key: Key) -> int:
    return sum(len(part.name) + len(value or "") for part, value in key[2])
