"""Request bodies are decompressed within bounds, and answers compressed, as in API Gateway."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.cache import StageCache
from local.gateway.compression import (
    BodyTooLargeError,
    UndecodableError,
    compress,
    inflate,
)
from local.gateway.deployed import Deployed
from local.gateway.description import describe
from local.gateway.forward import Emulator
from local.gateway.messages import Answer, Incoming
from local.gateway.stage import MAX_BODY_BYTES, Stage
from tests.fixtures.bombs import GIB, endless

MIB = 1024 * 1024
PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
ROWS = b'[{"name":"Aachen"}]' * 1000


@pytest.mark.parametrize("coding", PACKERS)
@given(data=st.binary(max_size=10_000))
def test_a_body_is_inflated_to_its_original(coding: str, data: bytes) -> None:
    assert inflate(coding, PACKERS[coding](data), max_bytes=10_000) == data


def test_members_of_gzip_follow_each_other() -> None:
    packed = gzip.compress(b"a") + gzip.compress(b"") * 1_000 + gzip.compress(b"b")
    assert inflate("GZIP ", packed, max_bytes=2) == b"ab"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", gzip.compress(b"{}")[:-1]),
        ("gzip", gzip.compress(b"{}") + b"{}"),
        ("gzip", gzip.compress(b"{}")[:-8] + bytes(8)),
        ("gzip", zlib.compress(b"{}")),
        ("deflate", zlib.compress(b"{}")[:-1]),
        ("deflate", zlib.compress(b"{}") + b"x"),
        ("deflate", gzip.compress(b"{}")),
        ("br", b"{}"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
        ("identity, gzip", gzip.compress(b"{}")),
        ("", b"{}"),
    ],
    ids=range(12),
)
def test_a_body_in_another_coding_than_declared_is_refused(coding: str, body: bytes) -> None:
    with pytest.raises(UndecodableError):
        inflate(coding, body, max_bytes=MIB)


@pytest.mark.parametrize("coding", PACKERS)
def test_the_limit_applies_to_the_inflated_body(coding: str) -> None:
    assert len(inflate(coding, PACKERS[coding](bytes(MIB)), max_bytes=MIB)) == MIB
    with pytest.raises(BodyTooLargeError):
        inflate(coding, PACKERS[coding](bytes(MIB + 1)), max_bytes=MIB)


def test_a_bomb_is_refused_with_little_memory() -> None:
    bomb = endless(b"\x00", 9 * GIB)
    assert len(bomb) < MAX_BODY_BYTES
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        inflate("gzip", bomb, max_bytes=MAX_BODY_BYTES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * MAX_BODY_BYTES


def answer(body: bytes = ROWS, *headers: tuple[str, str]) -> Answer:
    return Answer(200, (("Content-Type", "application/json"), *headers), body)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("br, gzip;q=0.1", "gzip"),
        (None, None),
        ("", None),
        ("*", None),
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("identity, gzip;q=0.5", None),
    ],
)
def test_an_answer_is_compressed_as_the_client_takes_it(
    accept: str | None, coding: str | None
) -> None:
    compressed = compress(answer(), accept, min_bytes=1024)
    assert compressed.header("content-encoding") == coding
    if coding is None:
        assert compressed == answer()
    else:
        assert len(compressed.body) < len(ROWS) / 10
        assert inflate(coding, compressed.body, max_bytes=len(ROWS)) == ROWS


def test_small_answers_and_those_that_are_packed_already_stay_as_they_are() -> None:
    for whole in (
        answer(b"x" * 1023),
        answer(b""),
        answer(ROWS, ("content-encoding", "gzip")),
    ):
        assert compress(whole, "gzip", min_bytes=1024) == whole
    assert compress(answer(), "gzip", min_bytes=None) == answer()
    assert compress(answer(b"x" * 1024), "gzip", min_bytes=1024) != answer(b"x" * 1024)


def test_a_compressed_answer_varies_on_accept_encoding() -> None:
    compressed = compress(answer(ROWS, ("Vary", "Accept")), "gzip", min_bytes=0)
    assert compressed.header("vary") == "Accept, Accept-Encoding"
    assert compress(answer(), "gzip", min_bytes=0).header("vary") == "Accept-Encoding"


# The stage with an emulator that records its requests


@dataclass
class RecordingEmulator:
    """An emulator that answers every request with many rows, and records the requests."""

    asked: list[Incoming] = field(default_factory=list)

    async def send(self, api_id: str, request: Incoming, *, timeout_seconds: float) -> Answer:
        del api_id, timeout_seconds
        self.asked.append(request)
        return replace(answer(), is_of_function=True)


def deployed(min_bytes: int | None = 1024) -> Deployed:
    method = {"authorizationType": "NONE", "methodIntegration": {"type": "AWS_PROXY"}}
    items = {"id": "i", "path": "/items", "resourceMethods": {"GET": method, "POST": method}}
    cached = {"cachingEnabled": True, "cacheTtlInSeconds": 60}
    stage = {"stageName": "v1", "methodSettings": {"~1items/GET": cached}}
    api = {"minimumCompressionSize": min_bytes} if min_bytes is not None else {}
    return describe("api", stage, [items], [], api=api)


def ask(
    emulator: RecordingEmulator,
    method: str,
    *,
    times: int = 1,
    body: bytes = b"",
    served: Deployed | None = None,
    **headers: str,
) -> list[Answer]:
    stage = Stage(cast("Emulator", emulator), StageCache(max_bytes=MIB), served or deployed())
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]

    async def read_body() -> bytes:
        return body

    async def run() -> list[Any]:
        request = Incoming.parse(method, "/v1/items", named, peer="127.0.0.1")
        return [await stage.answer(request, read_body) for _ in range(times)]

    return asyncio.run(run())


def test_the_function_gets_the_inflated_body_without_its_coding() -> None:
    emulator = RecordingEmulator()
    (reply,) = ask(emulator, "POST", body=gzip.compress(ROWS), Content_Encoding="gzip")
    assert reply.status == 200
    assert emulator.asked[0].body == ROWS
    assert "content-encoding" not in emulator.asked[0].headers


def test_an_identity_coding_and_a_request_without_a_body_are_sent_on() -> None:
    emulator = RecordingEmulator()
    ask(emulator, "POST", body=ROWS, Content_Encoding="Identity")
    ask(emulator, "GET", Content_Encoding="gzip")
    assert [request.body for request in emulator.asked] == [ROWS, b""]


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (ROWS, "gzip", 415),
        (ROWS, "br", 415),
        (gzip.compress(bytes(MAX_BODY_BYTES + 1)), "gzip", 413),
        (zlib.compress(bytes(MAX_BODY_BYTES + 1)), "deflate", 413),
    ],
    ids=["not gzip", "an unknown coding", "too large by gzip", "too large by deflate"],
)
def test_a_body_that_can_not_be_inflated_reaches_no_function(
    body: bytes, coding: str, status: int
) -> None:
    emulator = RecordingEmulator()
    (reply,) = ask(emulator, "POST", body=body, Content_Encoding=coding)
    assert reply.status == status
    assert emulator.asked == []


def test_an_answer_from_the_cache_is_compressed_for_each_client_by_itself() -> None:
    emulator = RecordingEmulator()
    first, second = ask(emulator, "GET", times=2, Accept_Encoding="gzip")
    assert len(emulator.asked) == 1
    assert second.header("x-cache") == "Hit"
    for reply in (first, second):
        assert reply.header("content-encoding") == "gzip"
        assert gzip.decompress(reply.body) == ROWS
    (plain,) = ask(emulator, "GET")
    assert plain.body == ROWS


def test_without_a_minimum_size_nothing_is_compressed() -> None:
    (reply,) = ask(RecordingEmulator(), "GET", served=deployed(None), Accept_Encoding="gzip")
    assert reply.body == ROWS
