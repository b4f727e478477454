"""The client's request as the function receives it, and the function's answer at the client."""

import contextlib
import gzip
import socket
from pathlib import Path

import pytest

from tests.fixtures.emulator import Emulator, wait_until
from tests.fixtures.gateway import Api, Client, GatewayProcess, ordered, running_gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Client:
    return gateway.client


@pytest.mark.parametrize(
    "key", ["a%2Fb", "a%20b", "100%25", "%C3%A4", "a+b", "..", "a;b", "%", "a%0d%0aX-Y:%20b"]
)
def test_a_path_parameter_arrives_percent_encoded_as_from_a_rest_api(
    client: Client, key: str
) -> None:
    reply = client.get(f"/v1/items/{key}")
    assert reply.json()["pathParameters"] == {"key": key}
    assert reply.json()["resource"] == "/items/{key}"


def test_query_values_arrive_decoded_and_blank_ones_arrive(client: Client) -> None:
    reply = client.get("/v1/items?limit=a%26b+c%C3%A4&cursor=")
    assert reply.json()["queryStringParameters"] == {"limit": "a&b cä", "cursor": ""}


def test_a_method_without_declarations_may_have_any_query(client: Client) -> None:
    reply = client.request("POST", "/v1/items?a=1&a=2&b=3")
    assert set(reply.json()["queryStringParameters"]) == {"a", "b"}


def test_a_whole_url_as_target_is_understood(client: Client) -> None:
    assert client.get("http://localhost/v1/items?limit=3").json()["queryStringParameters"] == {
        "limit": "3"
    }


def test_hop_by_hop_headers_stay_behind_in_both_directions(client: Client) -> None:
    reply = client.request(
        "POST",
        "/v1/items",
        {
            "Connection": "keep-alive, X-Mine",
            "X-Mine": "1",
            "Keep-Alive": "timeout=5",
            "TE": "trailers",
            "X-Theirs": "2",
        },
        b"{}",
    )
    seen = reply.json()["headers"]
    assert seen["x-theirs"] == "2"
    assert not seen.keys() & {"connection", "x-mine", "keep-alive", "te"}
    back = client.get(ordered("/v1/never", headers={"Keep-Alive": "timeout=9", "X-Ours": "1"}))
    assert back["X-Ours"] == "1"
    assert back["Keep-Alive"] is None


def test_a_client_cannot_forge_its_address(client: Client) -> None:
    reply = client.get("/v1/free", {"X-Forwarded-For": "6.6.6.6"})
    assert reply.json()["sourceIp"] == "127.0.0.1"
    assert reply.json()["headers"]["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize("host", ["s3.localhost", "bucket.s3.localhost:1", "localhost"])
def test_a_client_cannot_reach_another_service_by_the_host_header(
    client: Client, host: str
) -> None:
    request = f"GET /v1/free HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    answer = _raw(client, request.encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'.execute-api.us-east-1.amazonaws.com"' in answer


@pytest.mark.parametrize("path", ["/v1/../_ministack/health", "/v1/%2e%2e/_ministack/health"])
def test_dots_in_a_path_lead_nowhere(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 404
    assert reply.json()["code"] == "PGRST205"


def test_a_compressed_body_arrives_inflated(client: Client) -> None:
    packed = gzip.compress(b"as if sent plain")
    reply = client.request("POST", "/v1/items", {"Content-Encoding": "gzip"}, packed)
    assert reply.json()["body"] == "as if sent plain"
    assert "content-encoding" not in reply.json()["headers"]


def test_a_body_in_another_coding_than_declared_does_not_arrive(client: Client) -> None:
    reply = client.request("POST", "/v1/items", {"Content-Encoding": "gzip"}, b"as if compressed")
    assert (reply.status, reply.json()["title"]) == (415, "from the gateway")


def test_an_answer_of_the_deployed_minimum_size_is_compressed(client: Client) -> None:
    path = ordered("/v1/never", text="x" * 1024)
    packed = client.get(path, {"Accept-Encoding": "gzip, br"})
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == b"x" * 1024
    assert client.get(path)["Content-Encoding"] is None
    small = client.get(ordered("/v1/never", text="x" * 1023), {"Accept-Encoding": "gzip"})
    assert small.body == b"x" * 1023


def test_a_compressed_answer_is_left_to_the_client(client: Client) -> None:
    encoded = {"Content-Encoding": "gzip"}
    reply = client.get(ordered("/v1/never", text="as if compressed", headers=encoded))
    assert (reply["Content-Encoding"], reply.body) == ("gzip", b"as if compressed")


def test_several_values_of_a_header_and_the_status_come_back(client: Client) -> None:
    cookies = {"Set-Cookie": ["a=1", "b=2"]}
    reply = client.get(ordered("/v1/never", status=418, multiValueHeaders=cookies))
    assert reply.status == 418
    assert reply.all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_stays_without(client: Client, status: int) -> None:
    reply = client.get(ordered("/v1/never", status=status, text="", headers={"ETag": '"1"'}))
    assert (reply.status, reply.body, reply["ETag"]) == (status, b"", '"1"')


def test_a_redirect_is_the_clients_to_follow(client: Client) -> None:
    reply = client.get(ordered("/v1/never", status=307, headers={"Location": "/v1/items"}))
    assert (reply.status, reply["Location"]) == (307, "/v1/items")


def _raw(client: Client, request: bytes) -> bytes:
    with contextlib.closing(socket.create_connection(("127.0.0.1", client.port))) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("name", ["X-View", "Authorization", "x-api-key"])
def test_a_header_that_is_not_text_reaches_the_function_in_readable_form(
    client: Client, name: str
) -> None:
    for target in ("/v1/items", "/v1/locked"):
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{name}: ".encode()
        status = _raw(client, head + b"a\xff\r\n\r\n").split()[1]
        assert status == (b"200" if target == "/v1/items" else b"403")
    assert client.get("/v1/items", {"X-View": "a"})["X-Cache"] == "Miss"


@pytest.mark.parametrize(
    "request_line", [b"BREW /v1/items HTTP/1.1", b"GET /v1/\xff HTTP/1.1", b"no http at all"]
)
def test_a_malformed_request_is_400_and_no_traceback(
    emulator: Emulator, gateway_api: Api, tmp_path: Path, request_line: bytes
) -> None:
    log = tmp_path / "gateway.log"
    arguments = ("--emulator", emulator.url, "--api-id", gateway_api.id)
    with running_gateway(*arguments, log=log) as own:
        answer = _raw(own.client, request_line + b"\r\nHost: localhost\r\n\r\n")
        assert answer.split()[1] == b"400"
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 100\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"],
)
def test_a_client_that_leaves_amid_its_body_reaches_no_function(
    emulator: Emulator, gateway_api: Api, tmp_path: Path, body: bytes
) -> None:
    log = tmp_path / "gateway.log"
    arguments = ("--emulator", emulator.url, "--api-id", gateway_api.id)
    with running_gateway(*arguments, log=log) as own:
        with contextlib.closing(socket.create_connection(("127.0.0.1", own.port))) as raw:
            raw.sendall(b"POST /v1/items HTTP/1.1\r\nHost: localhost\r\n" + body)
        wait_until(
            lambda: "/v1/items: the client left" in log.read_text(), "the request is given up"
        )
        assert own.client.get("/_gateway/health").status == 200
    assert "Traceback" not in log.read_text()


def test_a_client_that_leaves_early_affects_no_other(
    client: Client, shared_gateway: GatewayProcess
) -> None:
    started = shared_gateway.stats()["misses"]
    with contextlib.closing(socket.create_connection(("127.0.0.1", client.port))) as raw:
        target = ordered("/v1/items", sleep=0.3)
        raw.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: shared_gateway.stats()["misses"] > started, "the function was asked")
    assert client.get("/v1/never").status == 200
    # The request is completed nevertheless, and its answer is cached.
    wait_until(lambda: shared_gateway.stats()["entries"] == 1, "the answer was kept")
    assert client.get(target)["X-Cache"] == "Hit"
