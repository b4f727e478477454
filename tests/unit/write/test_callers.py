"""The caller of a command, as API Gateway's authorizers report it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fixtures.api import WriteBench, document

PERSON = {
    "sub": "7d8ca528-4931-4254-9273-ea5ee853f271",
    "client_id": "1example23456789",
    "username": "7d8ca528-4931-4254-9273-ea5ee853f271",
    "token_use": "access",
    "scope": "openid forebay/cities.write",
}
#: A token of the client-credentials grant: its subject is the program itself.
PROGRAM = {
    "sub": "1example23456789",
    "client_id": "1example23456789",
    "token_use": "access",
    "scope": "forebay/cities.write",
}


def sent_by(context: Mapping[str, Any], **headers: str) -> tuple[str, str]:
    """Create an announcement; return the caller that its command names, and its key."""
    bench = WriteBench()
    response = bench.app.handle(
        {
            "resource": "/announcements",
            "path": "/announcements",
            "httpMethod": "POST",
            "headers": {"content-type": "application/json", **headers},
            "requestContext": context,
            "body": json.dumps({"title": "t", "body": "b", "published_on": "2026-01-01"}),
        }
    )
    return bench.sink.commands[0].by, document(response)["key"]


def claims(found: Mapping[str, str]) -> Mapping[str, Any]:
    return {"authorizer": {"claims": found}}


@pytest.mark.parametrize(
    ("context", "caller"),
    [
        (claims(PERSON), f"user:{PERSON['sub']}"),
        (claims(PROGRAM), "client:1example23456789"),
        (claims({"client_id": "1example23456789"}), "client:1example23456789"),
        ({"authorizer": {"principalId": "anna"}}, "principal:anna"),
        (
            {"identity": {"userArn": "arn:aws:iam::123456789012:user/anna"}},
            "iam:arn:aws:iam::123456789012:user/anna",
        ),
        ({"identity": {"apiKeyId": "abc"}}, "api-key:abc"),
        ({}, "anonymous"),
    ],
)
def test_a_command_names_its_caller_by_the_strongest_proof(
    context: Mapping[str, Any], caller: str
) -> None:
    assert sent_by(context)[0] == caller


def test_a_program_that_repeats_a_request_across_a_deployment_gets_the_same_key() -> None:
    """Earlier releases called programs `user:…`, and keys derive from the caller."""
    header = {"idempotency-key": "k"}
    by_an_older_release = claims({"sub": PROGRAM["client_id"]})

    assert sent_by(claims(PROGRAM), **header)[1] == sent_by(by_an_older_release, **header)[1]
