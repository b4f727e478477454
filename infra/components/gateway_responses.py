"""The responses that API Gateway generates itself, as problems of the API (RFC 9457).

A function raises on a transient failure, so that the answer is never cached. The gateway then
answers in its place; therefore its responses to its own failures are 503 with `Retry-After`. A
request that takes too long is answered 504. A failing function can't cause a 504, so the gateway
must time out first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.problem import CATALOGUE, CONTENT_TYPE, TYPE_PREFIX

RETRY_AFTER_SECONDS: Final = 1

_DETAILS: Final[Mapping[str, str]] = {
    "bad_request": "The gateway refused the request: it is not well-formed, or its URL or its "
    "headers are too long. Send a query that is too long for a URL as a form to "
    "POST /query/{resource}.",
    "unauthorized": "Send valid credentials.",
    "forbidden": "The caller is not allowed to do this.",
    "invalid_api_key": "Send a valid API key in the header x-api-key.",
    "unknown_resource": "The resource does not exist, or does not support the method.",
    "payload_too_large": "The request exceeds the maximum size of the gateway.",
    "unsupported_media_type": "The gateway does not support this content type.",
    "throttled": "Reduce the request rate, then try again.",
    "quota_exceeded": "The quota is renewed next month.",
    "unavailable": "The service failed to answer. Try again.",
    "timeout": "The request timed out. Request less data; a write may have been stored.",
}


@dataclass(frozen=True, slots=True)
class GatewayProblem:
    """A problem code of the API, as API Gateway answers it."""

    code: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._entry[0]

    @property
    def template(self) -> str:
        """The body. It contains no client input and needs no escaping.

        The last three members are for PostgREST's clients; the gateway can't detect these, so all
        clients get them.
        """
        status, title = self._entry
        return json.dumps(
            {
                "type": TYPE_PREFIX + self.code,
                "title": title,
                "status": status,
                "detail": _DETAILS[self.code],
                "instance": "urn:uuid:$context.requestId",
                "code": self.code,
                "message": _DETAILS[self.code],
                "details": None,
                "hint": None,
            }
        )

    def headers(self, cors_allow_origin: str) -> dict[str, str]:
        """Response headers; a static value is quoted in API Gateway's mappings."""
        headers = {
            "Content-Type": f"'{CONTENT_TYPE}'",
            "Cache-Control": "'no-store'",
            "Access-Control-Allow-Origin": f"'{cors_allow_origin}'",
        }
        if self.status in {429, 503, 504}:
            headers["Retry-After"] = f"'{RETRY_AFTER_SECONDS}'"
            headers["Access-Control-Expose-Headers"] = "'Retry-After'"
        return headers

    @property
    def _entry(self) -> tuple[int, str]:
        return CATALOGUE[self.code]


#: Every response type is listed: a type left to DEFAULT_4XX or DEFAULT_5XX gets the default's body,
#: but may keep a status of its own that contradicts it.
RESPONSES: Final[Mapping[str, GatewayProblem]] = {
    response_type: GatewayProblem(code)
    for response_type, code in {
        "DEFAULT_5XX": "unavailable",
        "INTEGRATION_FAILURE": "unavailable",
        "INTEGRATION_TIMEOUT": "timeout",
        "API_CONFIGURATION_ERROR": "unavailable",
        "AUTHORIZER_CONFIGURATION_ERROR": "unavailable",
        "AUTHORIZER_FAILURE": "unavailable",
        "DEFAULT_4XX": "bad_request",
        "BAD_REQUEST_BODY": "bad_request",
        "BAD_REQUEST_PARAMETERS": "bad_request",
        "UNAUTHORIZED": "unauthorized",
        "ACCESS_DENIED": "forbidden",
        "EXPIRED_TOKEN": "forbidden",
        "INVALID_SIGNATURE": "forbidden",
        "WAF_FILTERED": "forbidden",
        "INVALID_API_KEY": "invalid_api_key",
        # API Gateway's name for an unknown path or method.
        "MISSING_AUTHENTICATION_TOKEN": "unknown_resource",
        "RESOURCE_NOT_FOUND": "unknown_resource",
        "REQUEST_TOO_LARGE": "payload_too_large",
        "UNSUPPORTED_MEDIA_TYPE": "unsupported_media_type",
        "THROTTLED": "throttled",
        "QUOTA_EXCEEDED": "quota_exceeded",
    }.items()
}


def define_gateway_responses(*, cors_allow_origin: str) -> Mapping[str, Any]:
    """All of `RESPONSES`, in the notation of the API's definition."""
    return {
        response_type: {
            "statusCode": str(problem.status),
            "responseParameters": {
                f"gatewayresponse.header.{name}": value
                for name, value in problem.headers(cors_allow_origin).items()
            },
            # API Gateway uses this template whatever the client accepts.
            "responseTemplates": {"application/json": problem.template},
        }
        for response_type, problem in RESPONSES.items()
    }
