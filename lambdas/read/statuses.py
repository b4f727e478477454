"""`GET /{resource}/{key}/commands/{id}`: the status of a command."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from forebay.http import Response, build_json_response
from forebay.ids import accepted_ms
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, RequestView
from forebay.status import Traces, find_superseding
from lambdas.read.settings import PRIMARY_WINDOW_SECONDS
from lambdas.read.visibility import Visibility, read_command_id

_WAIT = re.compile(r"wait\s*=\s*([0-9]{1,6})", re.IGNORECASE)


class StatusReader:
    """Answers with the status of commands; the answer is never cached."""

    def __init__(
        self,
        visibility: Visibility,
        *,
        buffer_seconds: float,
        wait_cap_seconds: float,
        wait_window_seconds: float = PRIMARY_WINDOW_SECONDS,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Create the reader.

        Args:
            visibility: looks up commands.
            buffer_seconds: the stream's buffer interval; `Retry-After` derives from it.
            wait_cap_seconds: the longest `Prefer: wait`.
            wait_window_seconds: the age, beyond the buffering, up to which a command is waited for:
                an older one that is not visible is late, or was never accepted.
            now_ms: the clock of command ids.
        """
        self._visibility = visibility
        self._wait_window_ms = round((buffer_seconds + wait_window_seconds) * 1000)
        self._retry_after = str(max(1, math.ceil(buffer_seconds / 2)))
        self._wait_cap_seconds = wait_cap_seconds
        self._now_ms = now_ms

    def read(self, spec: ResourceSpec, view: RequestView) -> Response:
        """Answer 202 while the command is pending, 200 with its final status afterwards.

        Raises:
            ProblemError: key, id or `Prefer` is invalid.
        """
        key = read_key(spec, view.path.get("key", ""))
        now_ms = self._now_ms()
        command_id = read_command_id(view.path.get("id", ""), "bad_command_id", "id", now_ms)
        wait = self._read_wait(view.headers.get("prefer"))
        # Clients can invent ids: only a recent id is worth an instance's time.
        is_recent = accepted_ms(command_id) >= now_ms - self._wait_window_ms
        status, traces = self._visibility.on_replica(
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
            "status": status,
            "links": {"item": item, "status": f"{item}/commands/{command_id}"},
        }
        headers = {"Cache-Control": "no-store"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        if status == "pending":
            headers |= {"Location": document["links"]["status"], "Retry-After": self._retry_after}
            return build_json_response(202, document, headers)
        details = _describe_details(command_id, status, traces)
        return build_json_response(200, document | details, headers)

    def _read_wait(self, prefer: str | None) -> int | None:
        """The seconds to wait (RFC 7240 §4.3), capped; None if the client requests no wait."""
        if prefer is None:
            return None
        for preference in prefer.split(","):
            token = preference.partition(";")[0].strip()
            match = _WAIT.fullmatch(token)
            if match:
                return min(int(match[1]), int(self._wait_cap_seconds))
            # Other preferences, `waiting` among them, are ignored (RFC 7240 §2).
            if token.partition("=")[0].strip().lower() == "wait":
                raise ProblemError(
                    Problem("bad_header", "Prefer: wait takes whole seconds, such as wait=5")
                )
        return None


def _describe_details(command_id: str, status: str, traces: Traces) -> dict[str, Any]:
    if status == "rejected" and traces.rejection is not None:
        reason = traces.rejection
        # Only errors of Postgres have a state.
        state = {} if reason.sqlstate is None else {"sqlstate": reason.sqlstate}
        amended = {} if reason.amended_by is None else {"amended_by": reason.amended_by}
        return {"error": {"code": reason.code, **state, "detail": reason.detail}, **amended}
    superseding = find_superseding(command_id, traces) if status == "superseded" else None
    return {} if superseding is None else {"superseded_by": superseding}
