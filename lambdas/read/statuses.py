"""`GET /{resource}/{key}/commands/{id}`: what became of a command."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from forebay.http import Response, json_response
from forebay.ids import accepted_ms
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, RequestView
from forebay.status import Traces
from lambdas.read.settings import PRIMARY_WINDOW_SECONDS
from lambdas.read.visibility import Visibility, read_command_id

_WAIT = re.compile(r"wait\s*=\s*([0-9]{1,6})", re.IGNORECASE)


class StatusReader:
    """Tells the fate of commands; nothing of it is ever cached."""

    def __init__(
        self,
        visibility: Visibility,
        *,
        buffer_seconds: float,
        wait_cap_seconds: float,
        wait_window_seconds: float = PRIMARY_WINDOW_SECONDS,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Reads nothing yet.

        Args:
            visibility: looks for commands.
            buffer_seconds: the stream's buffering interval, from which `Retry-After` is made.
            wait_cap_seconds: the longest `Prefer: wait`.
            wait_window_seconds: how long after its acceptance, beyond the buffering, a command is
                waited for: what is not there by then is late, or was never accepted.
            now_ms: the clock of command ids.
        """
        self._visibility = visibility
        self._wait_window_ms = round((buffer_seconds + wait_window_seconds) * 1000)
        self._retry_after = str(max(1, math.ceil(buffer_seconds / 2)))
        self._wait_cap_seconds = wait_cap_seconds
        self._now_ms = now_ms

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """202 while the command is pending, 200 with its fate after.

        Raises:
            ProblemError: key, id or `Prefer` can't be understood.
        """
        key = read_key(spec, view.path.get("key", ""))
        now_ms = self._now_ms()
        command_id = read_command_id(view.path.get("id", ""), "bad_command_id", "id", now_ms)
        wait = self._wait_seconds(view.headers.get("prefer"))
        # An id costs nothing to invent: only a recent one is worth an instance's time.
        is_recent = accepted_ms(command_id) >= now_ms - self._wait_window_ms
        found, traces = self._visibility.on_replica(
            spec,
            key,
            command_id,
            wait_seconds=(wait or 0) if is_recent else 0,
            frees_connection=True,
        )
        item = f"{API_PREFIX}/{spec.path}/{quote(str(key), safe='')}"
        document: dict[str, Any] = {
            "command_id": command_id,
            "resource": spec.path,
            "key": key,
            "status": found,
            "links": {"item": item, "status": f"{item}/commands/{command_id}"},
        }
        headers = {"Cache-Control": "no-store"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        if found == "pending":
            headers |= {"Location": document["links"]["status"], "Retry-After": self._retry_after}
            return json_response(202, document, headers)
        return json_response(200, document | _details(found, traces), headers)

    def _wait_seconds(self, prefer: str | None) -> int | None:
        """The seconds to wait (RFC 7240 §4.3), capped; None if the client does not ask."""
        if prefer is None:
            return None
        for preference in prefer.split(","):
            token = preference.partition(";")[0].strip()
            found = _WAIT.fullmatch(token)
            if found:
                return min(int(found[1]), int(self._wait_cap_seconds))
            # Others, `waiting` among them, are ignored (RFC 7240 §2).
            if token.partition("=")[0].strip().lower() == "wait":
                raise ProblemError(
                    Problem("bad_header", "Prefer: wait takes whole seconds, such as wait=5")
                )
        return None


def _details(found: str, traces: Traces) -> dict[str, Any]:
    if found == "rejected" and traces.rejection is not None:
        reason = traces.rejection
        # Only Postgres's errors have one.
        state = {} if reason.sqlstate is None else {"sqlstate": reason.sqlstate}
        return {"error": {"code": reason.code, **state, "detail": reason.detail}}
    if found == "superseded":
        return {"superseded_by": traces.row_version or traces.tombstone}
    return {}
