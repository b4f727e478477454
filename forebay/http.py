"""HTTP answers of the functions: responses, problems, and API Gateway's proxy format of both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from forebay.problem import CONTENT_TYPE, Problem

_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 §12.4.2

JSON = "application/json"
#: A patch of RFC 7396, which merges objects.
MERGE_TYPE = "application/merge-patch+json"
_FIRST_ERROR = 400  # of the status codes (RFC 9110 §15)
#: Headers that scripts of other origins may read, besides those that the Fetch standard exposes.
_EXPOSED = (
    "Content-Location, Content-Range, ETag, Idempotency-Replayed, Link, Location, "
    "Preference-Applied, Retry-After"
)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    #: Empty for an answer without a body.
    body: str = ""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """True for a 4xx or 5xx status."""
        return self.status >= _FIRST_ERROR

    def to_head(self) -> Response:
        """The answer to HEAD: status and headers of GET without the body (RFC 9110 §9.3.2)."""
        stated = {"Content-Type": self.content_type} if self.body else {}
        return replace(self, body="", headers={**stated, **self.headers})

    def to_proxy(self, cors_allow_origin: str | None = None) -> dict[str, Any]:
        """The answer in the format of a Lambda proxy integration.

        Args:
            cors_allow_origin: origin of the pages that may read it (`*`: all); None for no CORS
                headers.
        """
        headers = {"Content-Type": self.content_type} if self.body else {}
        if cors_allow_origin:
            headers["Access-Control-Allow-Origin"] = cors_allow_origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED
        return {
            "statusCode": self.status,
            "headers": {**headers, **self.headers},
            "body": self.body,
            "isBase64Encoded": False,
        }


def build_json_response(
    status: int, document: object, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with the document as its JSON body."""
    return Response(status, orjson.dumps(document).decode(), headers=headers or {})


def build_problem_response(problem: Problem, instance: str) -> Response:
    """The problem as an answer; `instance` is the request's path."""
    return Response(
        problem.status,
        orjson.dumps(_make_encodable(problem.document(instance))).decode(),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **problem.headers},
    )


def _make_encodable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with lone surrogates escaped: a problem may quote any text of a request."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {name: _make_encodable(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_make_encodable(element) for element in value]
    return value


def parse_weighted(header: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield the members of a header such as `Accept`: value, parameters and quality.

    Texts are in lower case; an invalid quality counts as 0.
    """
    for item in header.split(","):
        value, *texts = (part.strip().lower() for part in item.split(";"))
        pairs = (text.partition("=") for text in texts)
        parameters = {name.strip(): text.strip() for name, _, text in pairs}
        quality = parameters.pop("q", "1")
        yield value, parameters, float(quality) if _QUALITY.fullmatch(quality) else 0.0
