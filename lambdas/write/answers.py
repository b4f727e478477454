"""The answers of writes: 202 for one command, 207 for many."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from forebay.command import Command
from forebay.http import Response, build_json_response
from forebay.problem import Problem
from forebay.routes import API_PREFIX
from lambdas.write.preferences import Returns

NOT_ACCEPTED_RETRY_SECONDS = 5


class Answers:
    """Builds the answers of writes; their `Retry-After` is the buffer interval."""

    def __init__(self, buffer_seconds: float) -> None:
        #: The whole interval, after which the stream has stored the command. The status function
        #: returns half of it, because its commands have waited already.
        self._retry_after = str(max(1, math.ceil(buffer_seconds)))

    def answer_one(self, command: Command, returns: Returns = "outcome") -> Response:
        """Answer 202 for one command; `Location` is its status monitor (RFC 9110 §15.3.3)."""
        document = _describe_accepted(command, status="pending")
        headers = {
            "Location": document["links"]["status"],
            "Content-Location": document["links"]["item"],
            "Retry-After": self._retry_after,
            "Cache-Control": "no-store",
        }
        if returns == "minimal":
            return Response(202, headers=headers)
        return build_json_response(
            202, [document] if returns == "representation" else document, headers
        )

    def answer_many(self, commands: Sequence[Command], returns: Returns) -> Response:
        """Answer 202 for commands that were accepted together, with one document for each."""
        headers = {"Retry-After": self._retry_after, "Cache-Control": "no-store"}
        if returns == "minimal":
            return Response(202, headers=headers)
        documents = [_describe_accepted(command, status="pending") for command in commands]
        return build_json_response(202, documents[0] if returns == "object" else documents, headers)

    def answer_batch(self, results: Sequence[Command | Problem], instance: str) -> Response:
        """Answer 207 with one result per item, in the items' order (RFC 4918 §13)."""
        items = [_build_result(index, result, instance) for index, result in enumerate(results)]
        return build_json_response(
            207,
            {"results": items},
            {"Retry-After": self._retry_after, "Cache-Control": "no-store"},
        )


def mark_not_accepted(response: Response, ids: Collection[str], instance: str) -> Response:
    """Return a 207 in which the items of commands that were not accepted are refused with 503."""
    results = [
        _build_result(result["index"], describe_not_accepted(), instance)
        if result.get("command_id") in ids
        else result
        for result in orjson.loads(response.body)["results"]
    ]
    return replace(response, body=orjson.dumps({"results": results}).decode())


def _build_result(index: int, result: Command | Problem, instance: str) -> dict[str, Any]:
    """The result of one item; its `status` is that of a request with this item alone."""
    if isinstance(result, Problem):
        problem = result.document(f"{instance}#/{index}")
        return {"index": index, "outcome": "refused", "status": result.status, "problem": problem}
    return {"index": index, "outcome": "accepted", **_describe_accepted(result, status=202)}


def _describe_accepted(command: Command, *, status: int | str) -> dict[str, Any]:
    item = f"{API_PREFIX}/{command.resource}/{quote(str(command.key), safe='')}"
    return {
        "command_id": command.id,
        "resource": command.resource,
        "key": command.key,
        "status": status,
        "links": {"item": item, "status": f"{item}/commands/{command.id}"},
    }


def describe_not_accepted() -> Problem:
    """503: neither store acknowledged the write; it may be stored anyway."""
    return Problem(
        "not_accepted",
        "neither the delivery stream nor the archive acknowledged the write; send it again",
        headers={"Retry-After": str(NOT_ACCEPTED_RETRY_SECONDS)},
    )
