"""The gateway's start and end, and its answers while the emulator or the API is missing."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.emulator import (
    STOP_SECONDS,
    Emulator,
    free_port,
    running_emulator,
    server_environment,
)
from tests.fixtures.gateway import ROOT, Api, GatewayProcess, running_gateway


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a gateway that can't start."""
    return subprocess.run(
        [sys.executable, "-m", "local.gateway", *arguments],
        cwd=ROOT,
        env=server_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("gateway: ")
    assert done.stderr.count("\n") == 1
    assert all(part in done.stderr for part in parts), done.stderr


def test_a_taken_port_is_reported_in_one_sentence(emulator: Emulator, gateway_api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = start("--port", port, "--emulator", emulator.url, "--api-id", gateway_api.id)
    assert_one_sentence(process, 1, port, "already in use")


def test_an_emulator_that_does_not_answer_is_reported_in_one_sentence() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    process = start("--port", "0", "--emulator", url, "--api-id", "any")
    assert_one_sentence(process, 1, url, "does not respond")


def test_an_unknown_api_is_reported_in_one_sentence(emulator: Emulator) -> None:
    process = start("--port", "0", "--emulator", emulator.url, "--api-id", "missing")
    assert_one_sentence(process, 1, "'missing'", "deploy it first")


def test_an_unknown_stage_is_reported_in_one_sentence(emulator: Emulator, gateway_api: Api) -> None:
    arguments = ("--api-id", gateway_api.id, "--stage", "v9")
    process = start("--port", "0", "--emulator", emulator.url, *arguments)
    assert_one_sentence(process, 1, "'v9'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(
    emulator: Emulator, gateway_api: Api, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "gateway.log"
    arguments = ("--emulator", emulator.url, "--api-id", gateway_api.id)
    with running_gateway(*arguments, log=log) as gateway:
        health = gateway.client.get("/_gateway/health")
        assert (health.status, health.json()["status"]) == (200, "ok")
        gateway.process.send_signal(number)
        assert gateway.process.wait(STOP_SECONDS) == 0
    assert "Traceback" not in log.read_text()


@pytest.fixture
def own_emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running_emulator(tmp_path) as started:
        yield started


def _small_api(emulator: Emulator) -> Api:
    api = Api(emulator, "coming-and-going")
    api.add("GET", "/kept")
    api.cached("/kept")
    api.add("POST", "/kept")
    api.deploy()
    return api


def _unavailable(gateway: GatewayProcess, detail: str) -> bool:
    reply = gateway.client.request("POST", "/v1/kept")
    return (
        reply.status == 503
        and reply["Content-Type"] == "application/problem+json"
        and reply["Retry-After"] is not None
        and reply.json()["code"] == "unavailable"
        and detail in reply.json()["detail"]
    )


def test_without_the_emulator_cached_answers_stay_and_others_are_503(
    own_emulator: Emulator, tmp_path: Path
) -> None:
    api = _small_api(own_emulator)
    log = tmp_path / "gateway.log"
    arguments = ("--emulator", own_emulator.url, "--api-id", api.id)
    with running_gateway(*arguments, log=log) as gateway:
        cached = gateway.client.get("/v1/kept").call
        own_emulator.stop()
        assert _unavailable(gateway, "the request was not accepted")
        assert gateway.client.get("/v1/kept").call == cached
    assert "Traceback" not in log.read_text()


def test_a_stopped_emulator_frees_the_client_at_once(
    own_emulator: Emulator, tmp_path: Path
) -> None:
    """If it is killed during a request, the client learns that the result is unknown."""
    api = _small_api(own_emulator)
    arguments = ("--emulator", own_emulator.url, "--api-id", api.id)
    with running_gateway(*arguments, log=tmp_path / "gateway.log") as gateway:
        gateway.client.get("/v1/kept")  # warm the function up
        body = b'{"sleep": 20}'
        head = f"POST /v1/kept HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        with contextlib.closing(socket.create_connection(("127.0.0.1", gateway.port))) as raw:
            raw.sendall(head.encode() + body)
            process = own_emulator.process
            assert process is not None
            # When this later request is answered, the function is working on the earlier request.
            assert gateway.client.request("POST", "/v1/kept").status == 200
            process.kill()
            raw.settimeout(STOP_SECONDS)
            answer = raw.recv(65536)
        assert b" 503 " in answer
        assert b"may have been executed" in answer
