"""Proxy events in API Gateway's form, and an output stream like Lambda's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any


def build_proxy_event(
    method: str,
    resource: str,
    *,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A request with the members and headers that CloudFront and API Gateway add."""
    all_headers = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Host": "api.example.com",
        "User-Agent": "bench/1",
        "X-Api-Key": "key",
        "X-Forwarded-For": "203.0.113.7, 203.0.113.8",
        "X-Forwarded-Proto": "https",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        **(headers or {}),
    }
    return {
        "resource": resource,
        "path": resource.format(**(path or {})),
        "httpMethod": method,
        "headers": all_headers,
        "multiValueHeaders": {name: [value] for name, value in all_headers.items()},
        "queryStringParameters": dict(query) if query else None,
        "multiValueQueryStringParameters": {k: [v] for k, v in query.items()} if query else None,
        "pathParameters": dict(path) if path else None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": method,
            "path": f"/v1{resource}",
            "stage": "v1",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "203.0.113.7", "apiKeyId": "a1b2c3d4e5"},
        },
        "body": None if body is None else body.decode(),
        "isBase64Encoded": False,
    }


def encode_json(value: object) -> bytes:
    """The value as the JSON of a client."""
    return json.dumps(value).encode()


@contextmanager
def unheard() -> Iterator[None]:
    """Redirect standard output to /dev/null: writes take place, but are not read, as on Lambda."""
    with Path("/dev/null").open("w", encoding="utf-8") as null, redirect_stdout(null):
        yield
