"""The API client of the loader: batches, statuses of commands, and whole lists."""

import math
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
from yarl import URL

from loader.backoff import Backoff
from loader.data import Item
from loader.errors import RefusedError, UnreachableError

PAGE_ROWS = 1000  # the largest page of a list
_ANSWER_SECONDS = 40.0  # the API's own time-out is 29 s
_TRANSIENT = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or the reason why there is none."""

    #: 0 if the connection failed or broke.
    status: int
    body: bytes
    retry_after_seconds: float
    #: Describes the answer in error messages.
    reason: str
    #: The URL of the next page, from `Link`.
    next: URL | None = None
    #: True if the request may have had an effect although the answer is an error.
    may_have_worked: bool = False

    @property
    def is_transient(self) -> bool:
        """True if the same request may succeed later."""
        return self.status == 0 or self.status in _TRANSIENT

    def document(self) -> Any:  # noqa: ANN401 - JSON
        """Parse the body as JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The result of one item in a batch's answer."""

    #: Path of the command's status, and its id, if the item was accepted.
    status_path: str | None = None
    command_id: str | None = None
    #: The reason of a permanent refusal.
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a batch."""

    #: One result per item; an item without id and refusal must be sent again.
    results: Sequence[ItemResult]
    #: The reason why items must be sent again, and the minimum delay.
    reason: str = ""
    retry_after_seconds: float = 0.0
    #: True if items that must be sent again may have been accepted already.
    may_have_worked: bool = False


@dataclass(slots=True)
class Api:
    """A client of the API, over the connections of a session."""

    session: aiohttp.ClientSession
    #: With the stage: `http://127.0.0.1:8080/v1`.
    base_url: str
    #: How long one request may keep failing.
    patience_seconds: float
    #: The number of requests, and of items in batches, that were sent again.
    repeated: int = field(default=0)

    async def check(self) -> None:
        """Send one request to check that the API answers.

        Raises:
            UnreachableError: it does not answer 200.
        """
        answer = await self._ask("GET", URL(f"{self.base_url}/countries?limit=1"))
        if answer.status != HTTPStatus.OK:
            raise UnreachableError(answer.reason)

    async def post(self, items: Sequence[Item]) -> Attempt:
        """Send items of one resource once.

        Raises:
            RefusedError: the API refuses the whole request permanently.
        """
        lines = b"".join(orjson.dumps(item.body) + b"\n" for item in items)
        answer = await self._ask(
            "POST",
            URL(f"{self.base_url}/{items[0].resource}"),
            data=lines,
            headers={"Content-Type": "application/x-ndjson"},
        )
        if answer.is_transient:
            return Attempt(
                [ItemResult()] * len(items),
                answer.reason,
                answer.retry_after_seconds,
                answer.may_have_worked,
            )
        if answer.status != HTTPStatus.MULTI_STATUS:
            raise RefusedError(answer.reason)
        results = [_parse_item_result(result) for result in answer.document()["results"]]
        # An item that is answered 503 may have been stored nevertheless.
        return Attempt(results, "items answered 503", may_have_worked=True)

    async def status(self, status_path: str) -> str | None:
        """Return the final status of a command, or None while it is pending.

        Raises:
            UnreachableError, RefusedError: the API does not return the status.
        """
        document = (await self._get(self._build_url(status_path))).document()
        status: str = document["status"]
        return None if status == "pending" else status

    async def visible_keys(self, items: Sequence[Item]) -> frozenset[int | str]:
        """Return the keys that have a row, of up to PAGE_ROWS items of one resource.

        Raises:
            UnreachableError, RefusedError: the API does not return the list.
        """
        key_name = items[0].key_name
        keys = f"in.({','.join(str(item.key) for item in items)})"
        page = await self._get(self._build_list_url(items[0].resource, {key_name: keys}))
        return frozenset(row[key_name] for row in page.document())

    async def rows(self, resource: str) -> AsyncIterator[Row]:
        """Yield every row that the replica shows now, page by page.

        Raises:
            UnreachableError, RefusedError: the API does not return the list.
        """
        url: URL | None = self._build_list_url(resource, {})
        while url is not None:
            page = await self._get(url)
            for row in page.document():
                yield row
            url = page.next

    def _build_list_url(self, resource: str, filters: Mapping[str, str]) -> URL:
        """Return a list's URL with a unique filter, so that the answer can't come from a cache."""
        unique_value = f"neq.{secrets.token_hex(8)}"
        parameters = {"limit": str(PAGE_ROWS), "name": unique_value, **filters}
        return URL(f"{self.base_url}/{resource}").with_query(parameters)

    def _build_url(self, path: str) -> URL:
        """Make a URL from a path of the API's answer, which begins with the stage."""
        return URL(self.base_url).with_path(path, encoded=True)

    async def _get(self, url: URL) -> Answer:
        backoff = Backoff(self.patience_seconds)
        while True:
            answer = await self._ask("GET", url)
            if answer.is_transient:
                self.repeated += 1
                await backoff.pause(answer.reason, at_least_seconds=answer.retry_after_seconds)
            elif answer.status in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
                return answer
            else:
                raise RefusedError(answer.reason)

    async def _ask(
        self,
        method: str,
        url: URL,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        request = f"{method} {url.with_query(None)}"
        try:
            async with self.session.request(
                method, url, data=data, headers=headers, timeout=timeout
            ) as response:
                body = await response.read()
                next_link = response.links.get("next")
                return Answer(
                    response.status,
                    body,
                    _read_retry_after(response.headers.get("Retry-After")),
                    f"{request} answers {response.status}{_read_detail(body)}",
                    URL(next_link["url"]) if next_link else None,
                    may_have_worked=response.status != HTTPStatus.TOO_MANY_REQUESTS,
                )
        except aiohttp.ClientConnectorError as exc:
            return Answer(0, b"", 0.0, f"{request}: {exc.strerror or exc}")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            reason = f"{request}: {str(exc) or type(exc).__name__}"
            return Answer(0, b"", 0.0, reason, may_have_worked=True)


def _parse_item_result(result: Mapping[str, Any]) -> ItemResult:
    if result["outcome"] == "accepted":
        return ItemResult(status_path=result["links"]["status"], command_id=result["command_id"])
    if result["status"] in _TRANSIENT:
        return ItemResult()
    problem = result["problem"]
    return ItemResult(refusal=f"{problem['code']}: {problem['detail']}")


def _read_detail(body: bytes) -> str:
    """Return the detail of a problem document, or an empty text."""
    try:
        return f": {orjson.loads(body)['detail']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def _read_retry_after(value: str | None) -> float:
    """Parse seconds; 0 if the header is absent or a date, a form that the API does not use."""
    try:
        seconds = float(value or 0)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
