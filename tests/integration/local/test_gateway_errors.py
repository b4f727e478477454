"""The origin of an error: the function, the deployed gateway responses, or the gateway."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from local.emulator_import import FUNCTION_HEADER
from tests.fixtures.emulator import Emulator
from tests.fixtures.gateway import ANSWER_SECONDS, Api, Client, GatewayProcess, ordered

MIB = 1024 * 1024


@pytest.fixture
def client(gateway: GatewayProcess) -> Client:
    return gateway.client


def post_in_chunks(client: Client, size: int) -> tuple[int, Any]:
    """Post a body without `Content-Length`; return the answer's status and document."""
    whole, rest = divmod(size, MIB)
    chunks = [*(b"x" * MIB for _ in range(whole)), *([b"x" * rest] if rest else [])]
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        connection.request(
            "POST",
            "/v1/items",
            iter(chunks),
            {"Transfer-Encoding": "chunked"},
            encode_chunked=True,
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.mark.parametrize(
    ("target", "status", "kind", "detail"),
    [
        ("/v1/items/a/b", 403, "MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token"),
        ("/v1/locked", 403, "INVALID_API_KEY", "Forbidden"),
        ("/v1/choked", 429, "THROTTLED", "Too Many Requests"),
        (ordered("/v1/slow", sleep=2), 503, "INTEGRATION_TIMEOUT", "Endpoint request timed out"),
        (ordered("/v1/items", raise_="x"), 503, "INTEGRATION_FAILURE", "Internal server error"),
    ],
)
def test_the_deployed_gateway_response_words_the_gateways_errors(
    client: Client, target: str, status: int, kind: str, detail: str
) -> None:
    reply = client.get(target)
    assert reply.status == status
    assert reply["Content-Type"] == "application/problem+json"
    body = reply.json()
    assert (body["type"], body["detail"]) == (kind, detail)
    assert body["id"] == reply["x-amzn-RequestId"]
    assert (reply["Retry-After"] == "5") == (status == 503)


def test_an_error_type_is_named_as_aws_names_it(client: Client) -> None:
    assert client.get("/v1/items/a/b")["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"
    failed = client.get(ordered("/v1/items", raise_="x"))
    assert failed["x-amzn-ErrorType"] == "InternalServerErrorException"


def test_no_detail_of_a_failed_function_reaches_the_client(client: Client) -> None:
    assert b"secret" not in client.get(ordered("/v1/items", raise_="secret")).body


def test_a_failed_function_is_the_same_for_head_as_for_get(client: Client) -> None:
    """The answer to HEAD has no body that could show the failure."""
    get, head = (
        client.request(method, ordered("/v1/items", raise_="x")) for method in ("GET", "HEAD")
    )
    assert (head.status, head.body) == (get.status, b"") == (503, b"")
    assert (head["Retry-After"], head["Content-Type"]) == ("5", "application/problem+json")


@pytest.fixture
def no_concurrency(emulator: Emulator, gateway_api: Api) -> Iterator[None]:
    """Forbid all executions of the function."""
    functions = emulator.client("lambda")
    functions.put_function_concurrency(
        FunctionName=gateway_api.name, ReservedConcurrentExecutions=0
    )
    yield
    functions.delete_function_concurrency(FunctionName=gateway_api.name)


@pytest.mark.usefixtures("no_concurrency")
def test_a_throttled_function_is_a_failed_integration_and_not_cached(
    client: Client, gateway: GatewayProcess
) -> None:
    reply = client.get("/v1/items")
    assert reply.status == 503
    assert reply.json()["type"] == "INTEGRATION_FAILURE"
    assert gateway.stats()["entries"] == 0


@pytest.mark.parametrize("status", [403, 429, 500, 502, 503, 504])
def test_a_functions_own_error_is_passed_on_as_it_is(client: Client, status: int) -> None:
    text = '{"code": "mine", "instance": "$context.requestId"}'
    kind = "application/problem+json"
    reply = client.get(ordered("/v1/never", status=status, text=text, type=kind))
    assert reply.status == status
    assert reply.body == text.encode()
    assert reply["Content-Type"] == kind


@pytest.mark.parametrize("status", [404, 429, 500, 502])
def test_a_functions_error_may_look_like_the_gateways_and_is_cached(
    client: Client, status: int
) -> None:
    text = json.dumps({"message": '{"errorMessage": "x"}', "Reason": "Concurrent"})
    replies = [client.get(ordered("/v1/items", status=status, text=text)) for _ in range(2)]
    assert {reply.status for reply in replies} == {status}
    assert [reply["X-Cache"] for reply in replies] == ["Miss", "Hit"]
    assert replies[1].json() == json.loads(text)


@pytest.mark.parametrize("target", ["/v1/locked", "/v1/choked", ordered("/v1/items", raise_="x")])
def test_the_gateways_own_errors_are_not_cached(
    client: Client, gateway: GatewayProcess, target: str
) -> None:
    assert client.get(target)["X-Cache"] is None
    assert gateway.stats()["entries"] == 0


def test_the_mark_of_a_functions_answer_does_not_reach_the_client(client: Client) -> None:
    assert client.get("/v1/items/1")[FUNCTION_HEADER] is None


@pytest.mark.parametrize("target", ["/", "/other/items", "//v1/items", "/v1x/items", "/_gateway/x"])
def test_outside_the_stage_everything_is_forbidden(client: Client, target: str) -> None:
    reply = client.get(target)
    assert reply.status == 403
    assert reply.json() == {"message": "Forbidden"}
    assert reply["x-amzn-ErrorType"] == "ForbiddenException"


def test_a_body_of_10_mib_passes_and_a_larger_one_is_413(client: Client) -> None:
    largest = client.request("POST", "/v1/items", body=b"x" * (10 * MIB))
    assert largest.status == 200
    assert len(largest.json()["body"]) == 10 * MIB
    reply = client.request("POST", "/v1/items", body=b"x" * (10 * MIB + 1))
    assert reply.status == 413
    assert reply.json()["type"] == "REQUEST_TOO_LARGE"


def test_a_body_in_chunks_meets_the_same_limit(client: Client) -> None:
    """It has no `Content-Length` that could be checked first (RFC 9112 §7.1)."""
    status, document = post_in_chunks(client, 10 * MIB)
    assert (status, len(document["body"])) == (200, 10 * MIB)
    status, document = post_in_chunks(client, 10 * MIB + 1)
    assert (status, document["type"]) == (413, "REQUEST_TOO_LARGE")


def test_an_endless_body_is_refused_before_its_end(client: Client) -> None:
    """And the following bytes on the connection are not parsed as a second request."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        connection.sendall(
            b"POST /v1/items HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(chunk)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("target", ["/v1/items/{}", "/v1/items?cursor={}"])
def test_a_url_of_more_than_10240_characters_is_414(client: Client, target: str) -> None:
    assert client.get(target.format("x" * 10_250)).status == 414
    assert client.get(target.format("x" * 10_200)).status == 200


@pytest.mark.parametrize("headers", [{"a": "x" * 10_240}, {f"a{i}": "x" * 100 for i in range(110)}])
def test_headers_of_more_than_10240_bytes_are_431(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/v1/items", headers).status == 431
    assert client.get("/v1/items", {"a": "x" * 10_000}).status == 200


def test_an_unknown_query_parameter_is_named_with_those_that_exist(client: Client) -> None:
    reply = client.get("/v1/items?limit=1&colour=red&size=2")
    assert reply.status == 400
    assert reply["Content-Type"] == "application/problem+json"
    body = reply.json()
    assert body["code"] == "unknown_parameter"
    assert body["parameters"] == ["colour", "size"]
    assert body["allowed"] == ["cursor", "limit", "order"]
    assert "colour" in body["detail"]
    assert body["instance"] == "/v1/items"


def test_a_repeated_query_parameter_is_refused_by_name(client: Client) -> None:
    reply = client.get("/v1/items?limit=1&cursor=a&limit=1")
    assert (reply.status, reply.json()["code"]) == (400, "repeated_parameter")
    assert reply.json()["parameters"] == ["limit"]


@pytest.mark.parametrize(
    "target", ["/v1/items?a=1", "/v1/nothing", ordered("/v1/items", raise_="x")]
)
def test_another_origins_page_may_read_every_error(client: Client, target: str) -> None:
    assert client.get(target)["Access-Control-Allow-Origin"] == "*"
