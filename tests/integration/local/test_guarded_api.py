"""A deployed API with tokens, scopes and API keys: which credentials give access to what."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from local.credentials import make_secret
from local.outputs import locate_deployment
from local.settings import LocalSettings, Ports
from local.tokens import fetch_access_token
from tests.fixtures.gateway import Reply
from tests.fixtures.guarded import BURST, Guarded

# All tests share one deployment, and the emulator's first function calls are slow.
pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("guarded")]

CITY = "/v1/cities/1"
BODY = json.dumps(
    {
        "name": "Somewhere",
        "country_code": "DE",
        "population": 1,
        "latitude": 1.5,
        "longitude": 1.5,
        "timezone": "Europe/Berlin",
    }
).encode()
JSON = {"Content-Type": "application/json"}


def refused(reply: Reply) -> tuple[int, str]:
    """Return status and code of a refusal, which must be a problem that browsers may read."""
    assert reply["Content-Type"] == "application/problem+json"
    assert reply["Access-Control-Allow-Origin"] == "*"
    return reply.status, str(reply.json()["code"])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer a.b.c"}])
def test_without_a_valid_token_no_caller_gets_in(
    guarded: Guarded, headers: Mapping[str, str]
) -> None:
    with_key = {**headers, "x-api-key": guarded.api_key()}

    assert refused(guarded.client.get(CITY, with_key)) == (401, "unauthorized")


def test_without_a_good_key_a_token_is_not_enough(guarded: Guarded) -> None:
    headers = guarded.headers("reader")

    for wrong in ({}, {"x-api-key": "x" * 20}):
        sent = {"Authorization": headers["Authorization"], **wrong}
        assert refused(guarded.client.get(CITY, sent)) == (403, "invalid_api_key")


def test_a_reader_may_not_write(guarded: Guarded) -> None:
    headers = guarded.headers("reader")

    assert guarded.client.get("/v1/cities?limit=1", headers).status == 200
    for method in ("PUT", "DELETE"):
        reply = guarded.client.request(method, CITY, {**headers, **JSON}, BODY)
        assert refused(reply) == (401, "unauthorized")


def test_a_writer_may_not_read_items_but_statuses(guarded: Guarded) -> None:
    headers = guarded.headers("writer")
    written = guarded.client.request("PUT", CITY, {**headers, **JSON}, BODY)

    assert written.status == 202
    assert refused(guarded.client.get(CITY, headers)) == (401, "unauthorized")
    assert written["Location"] is not None
    assert guarded.client.get(written["Location"], headers).status in {200, 202}


def test_a_scope_is_of_one_resource(guarded: Guarded) -> None:
    headers = guarded.headers("other-reader")

    assert guarded.client.get("/v1/cities?limit=2", headers).status == 200
    assert refused(guarded.client.get("/v1/countries?limit=2", headers)) == (401, "unauthorized")


def test_no_caller_gets_an_answer_cached_for_another(guarded: Guarded) -> None:
    one, other = guarded.headers("reader"), guarded.headers("other-reader")
    target = "/v1/cities?limit=3"

    first = [guarded.client.get(target, one)["X-Cache"] for _ in range(2)]
    assert [str(answer).lower().startswith("hit") for answer in first] == [False, True]
    assert not str(guarded.client.get(target, other)["X-Cache"]).lower().startswith("hit")


def stack_of(guarded: Guarded, folder: Path) -> LocalSettings:
    """The settings of a one-machine stack that has this emulator and this deployment."""
    settings = LocalSettings(folder, Ports.from_base(guarded.emulator.port - 1))
    make_secret(settings.secret)
    locate_deployment(settings).mkdir(parents=True)
    outputs = json.dumps({stack: dict(options) for stack, options in guarded.outputs.items()})
    (locate_deployment(settings) / "outputs.json").write_text(outputs)
    return settings


def test_make_token_prints_a_token_of_the_program_that_it_names(
    guarded: Guarded, tmp_path: Path
) -> None:
    settings = stack_of(guarded, tmp_path)

    for program, expected in (("reader", 200), ("writer", 401)):
        token = fetch_access_token(settings, program)
        sent = {"Authorization": f"Bearer {token}", "x-api-key": guarded.api_key()}
        assert guarded.client.get("/v1/cities?limit=4", sent).status == expected


def test_the_documented_command_prints_the_api_key(guarded: Guarded) -> None:
    answer = guarded.emulator.client("apigateway").get_api_keys(includeValues=True)

    assert [key["value"] for key in answer["items"]] == [guarded.api_key()]


def test_a_command_of_a_program_names_its_client(guarded: Guarded) -> None:
    """Not `user`: the subject of its token is the program itself."""
    headers = guarded.headers("writer")
    reply = guarded.client.request("PUT", "/v1/cities/77", {**headers, **JSON}, BODY)

    bucket = guarded.outputs["forebay-local-data"]["ArchiveBucketName"]
    s3 = guarded.emulator.s3
    lines = [
        json.loads(line)
        for archive_object in s3.list_objects_v2(Bucket=bucket, Prefix="commands/").get(
            "Contents", []
        )
        for line in inflated(s3.get_object(Bucket=bucket, Key=archive_object["Key"])["Body"].read())
    ]
    client_id = guarded.outputs["forebay-local-identity"]["ClientIdWriter"]
    by = {line["id"]: line["by"] for line in lines}
    assert by[reply.json()["command_id"]] == f"client:{client_id}"


def inflated(content: bytes) -> list[bytes]:
    """The lines of an archive object."""
    return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).splitlines()


def test_routes_about_the_api_are_open_to_all(guarded: Guarded) -> None:
    assert guarded.client.get("/v1/openapi.json").status == 200
    assert guarded.client.request("OPTIONS", "/v1/cities").status == 200


def test_too_many_requests_of_one_key_are_429_with_retry_after(guarded: Guarded) -> None:
    """The last test, because it exhausts the usage plan."""
    headers = guarded.headers("reader")
    replies = [guarded.client.get("/v1/cities/1/commands/x", headers) for _ in range(3 * BURST)]
    throttled = [reply for reply in replies if reply.status == 429]

    assert throttled
    assert {refused(reply) for reply in throttled} == {(429, "throttled")}
    assert {reply["Retry-After"] for reply in throttled} == {"1"}
