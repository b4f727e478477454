"""Foreign requests on the wire, which the gateway and the Firehose server refuse first."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.fixtures.emulator import Emulator, aws_client
from tests.fixtures.firehose import NO_RETRIES, FirehoseServer, Stream
from tests.fixtures.gateway import ROOT, Api, GatewayProcess, running_gateway

OWN = b"Host: 127.0.0.1"
#: Headers that browsers send for foreign pages, and headers that valid clients never send.
FOREIGN = {
    "a rebound name": b"Host: evil.example",
    "a rebound name with the port": b"Host: evil.example:8080",
    "a name like ours": b"Host: localhost.evil.example",
    "an address of the network": b"Host: 192.168.0.1",
    "every address": b"Host: 0.0.0.0",
    "an empty host": b"Host: ",
    "a foreign origin": OWN + b"\r\nOrigin: https://evil.example",
    "an origin that is kept secret": OWN + b"\r\nOrigin: null",
    "two origins": OWN + b"\r\nOrigin: http://127.0.0.1\r\nOrigin: https://evil.example",
    "a rebound page": b"Host: evil.example\r\nOrigin: http://evil.example",
    "a page of another site": OWN + b"\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors",
    "a link of another site": OWN + b"\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate",
    "a page of another port": OWN + b"\r\nSec-Fetch-Site: same-site",
}


def answer(port: int, line: str, headers: bytes, *, version: str = "1.1") -> bytes:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as connection:
        head = f"{line} HTTP/{version}\r\n".encode()
        length = b"" if line.startswith("GET") else b"Content-Length: 0\r\n"
        separator = b"\r\n" if headers else b""
        connection.sendall(head + headers + separator + length + b"Connection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status(*request: object, **options: str) -> int:
    return int(answer(*request, **options).split()[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    "line",
    ["GET /v1/free", "POST /v1/items", "OPTIONS /v1/free", "GET /_gateway/stats", "GET /nothing"],
)
def test_the_gateway_refuses_foreign_requests_without_cors_headers(
    gateway: GatewayProcess, line: str, headers: bytes
) -> None:
    head = answer(gateway.port, line, headers).lower()
    assert head.startswith(b"http/1.1 403 ")
    assert b"access-control" not in head
    assert b"forbidden" in head


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
def test_no_foreign_request_empties_the_cache(gateway: GatewayProcess, headers: bytes) -> None:
    assert gateway.client.get("/v1/items").status == 200
    assert status(gateway.port, "POST /_gateway/flush", headers) == 403
    assert gateway.stats()["entries"] == 1


def test_a_target_of_another_host_is_refused_with_any_host_header(gateway: GatewayProcess) -> None:
    assert status(gateway.port, "GET http://evil.example/v1/free", OWN) == 403
    assert status(gateway.port, "GET http://127.0.0.1/v1/free", b"Host: evil.example") == 403
    assert status(gateway.port, "GET http://127.0.0.1/v1/free", OWN) == 200


def test_a_request_without_a_host_is_refused(gateway: GatewayProcess) -> None:
    assert status(gateway.port, "GET /v1/free", b"", version="1.0") == 403
    assert status(gateway.port, "GET /v1/free", b"") in {400, 403}


@pytest.mark.parametrize(
    "headers",
    [
        *(b"Host: localhost:8080", b"Host: [::1]:8080", b"Host: api.localhost", OWN),
        *(OWN + b"\r\nSec-Fetch-Site: none", OWN + b"\r\nOrigin: http://127.0.0.1"),
        OWN + b"\r\nSec-Fetch-Site: same-origin\r\nOrigin: http://127.0.0.1",
    ],
)
def test_programs_the_user_and_the_servers_own_pages_are_answered(
    gateway: GatewayProcess, headers: bytes
) -> None:
    assert status(gateway.port, "GET /v1/free", headers) == 200
    assert status(gateway.port, "GET /_gateway/stats", headers) == 200


def test_an_api_for_every_origin_is_for_those_of_this_machine_and_the_gateways_own_for_none(
    gateway: GatewayProcess,
) -> None:
    front_end = OWN + b"\r\nOrigin: http://localhost:3000\r\nSec-Fetch-Site: cross-site"
    assert status(gateway.port, "GET /v1/free", front_end) == 200
    assert status(gateway.port, "GET /_gateway/stats", front_end) == 403


def test_a_name_that_was_given_is_answered_and_no_other(
    emulator: Emulator, gateway_api: Api, tmp_path: Path
) -> None:
    arguments = ("--emulator", emulator.url, "--api-id", gateway_api.id, "--host", "DevBox")
    with running_gateway(*arguments, log=tmp_path / "gateway.log") as own:
        assert status(own.port, "GET /v1/free", b"Host: devbox:8080") == 200
        page = b"Host: devbox:8080\r\nOrigin: http://devbox:8080"
        assert status(own.port, "GET /v1/free", page) == 200
        assert status(own.port, "GET /v1/free", b"Host: evil.devbox") == 403


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    "line", ["GET /_health", "GET /_status", "POST /_flush", "PUT /_faults", "POST /", "GET /x"]
)
def test_the_firehose_server_refuses_foreign_requests(
    shared_firehose: FirehoseServer, line: str, headers: bytes
) -> None:
    port = int(shared_firehose.url.rpartition(":")[2])
    assert status(port, line, headers) == 403


def test_the_firehose_server_has_no_pages_of_its_own_machine_either(
    shared_firehose: FirehoseServer,
) -> None:
    port = int(shared_firehose.url.rpartition(":")[2])
    assert status(port, "GET /_status", OWN + b"\r\nOrigin: http://localhost:3000") == 403
    assert status(port, "GET /_status", OWN) == 200


def test_a_put_without_the_stacks_key_is_refused_and_stores_nothing(
    shared_firehose: FirehoseServer, stream: Stream
) -> None:
    port = int(shared_firehose.url.rpartition(":")[2])
    target = OWN + b"\r\nX-Amz-Target: Firehose_20150804.PutRecord"
    assert status(port, "POST /", target) == 403
    stranger = aws_client("firehose", shared_firehose.url, key="stranger", **NO_RETRIES)
    record = {"Data": b"x"}
    for call in (
        lambda: stranger.put_record(DeliveryStreamName=stream.name, Record=record),
        lambda: stranger.put_record_batch(DeliveryStreamName=stream.name, Records=[record]),
        lambda: stranger.put_record(DeliveryStreamName=stream.name, Record={"Data": bytes(10**5)}),
        stranger.list_delivery_streams,
    ):
        with pytest.raises(ClientError, match=r"AccessDenied.*make credentials"):
            call()
    shared_firehose.client().put_record(DeliveryStreamName=stream.name, Record={"Data": b"own"})
    shared_firehose.flush()
    assert stream.lines() == ["own"]


@pytest.fixture(scope="module")
def shared_firehose(
    emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FirehoseServer]:
    server = FirehoseServer(tmp_path_factory.mktemp("firehose") / "spool", emulator.url)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(
    "command",
    [
        ["local.gateway", "--port", "0", "--emulator", "http://127.0.0.1:1", "--api-id", "x"],
        ["local.firehose", "--port", "0", "--spool", "x", "--endpoint-url", "http://127.0.0.1:1"],
        ["local.emulator_front"],
    ],
    ids=lambda command: command[0],
)
def test_a_server_without_credentials_does_not_start(tmp_path: Path, command: list[str]) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, "make credentials" in process.stderr) == (1, True)
