"""Hostile requests, sent byte by byte to the whole stack, are refused and do no harm.

The tests send these bytes without an HTTP library. On AWS, CloudFront or API Gateway reads a
request first; the requests that reach the functions are the same.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import orjson
import pytest

from tests.fixtures import hostile
from tests.fixtures.gateway import Reply
from tests.fixtures.operating import Operator
from tests.fixtures.stack import RunningStack, new_city

HOST = b"Host: 127.0.0.1\r\nConnection: close\r\n"
JSON = b"Content-Type: application/json\r\n"
#: Statuses of refusals; a higher status is a failure of the server.
REFUSED = range(400, 500)
_PATIENCE_SECONDS = 20


def get(target: bytes, headers: bytes = b"", *, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n"


def post(headers: bytes, body: bytes, *, target: bytes = b"/v1/cities") -> bytes:
    return get(target, JSON + headers, method=b"POST") + body


def a_city(**changes: object) -> bytes:
    return orjson.dumps(new_city(**changes))


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


#: Invalid or ambiguous HTTP (RFC 9112 §11), which the gateway must refuse.
MALFORMED: dict[str, bytes] = {
    "line feeds only": b"GET /v1/cities HTTP/1.1\nHost: x\nConnection: close\n\n",
    "folded header": get(b"/v1/countries", b"Accept: text/csv,\r\n application/json\r\n"),
    "NUL in a header": get(b"/v1/countries", b"Accept: a\x00b\r\n"),
    "carriage return in a header": get(b"/v1/countries", b"Accept: a\rX-Injected: 1\r\n"),
    "line feed in a header": get(b"/v1/countries", b"Accept: a\nX-Injected: 1\r\n"),
    "space in a header's name": get(b"/v1/countries", b"Ac cept: a\r\n"),
    "space before the colon": get(b"/v1/countries", b"Accept : a\r\n"),
    "header without a colon": get(b"/v1/countries", b"Accept\r\n"),
    "two hosts": get(b"/v1/countries", b"Host: another\r\n"),
    "no host": b"GET /v1/countries HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two lengths": post(b"Content-Length: 2\r\nContent-Length: 4\r\n", b"{}  "),
    "a list of lengths": post(b"Content-Length: 2, 2\r\n", b"{}"),
    "negative length": post(b"Content-Length: -1\r\n", b""),
    "length with a sign": post(b"Content-Length: +2\r\n", b"{}"),
    "length beyond 64 bits": post(b"Content-Length: 99999999999999999999\r\n", b"{}"),
    "length in hexadecimal": post(b"Content-Length: 0x2\r\n", b"{}"),
    "length and chunks": post(
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"0\r\n\r\nDELETE /v1/countries/AD HTTP/1.1\r\n\r\n",
    ),
    "chunks and length": post(
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"0\r\n\r\nDELETE /v1/countries/AD HTTP/1.1\r\n\r\n",
    ),
    "two encodings": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunked(b"{}")
    ),
    "unknown encoding": post(b"Transfer-Encoding: xchunked\r\n", chunked(b"{}")),
    "veiled encoding": post(b"Transfer-Encoding: \x0bchunked\r\n", chunked(b"{}")),
    "chunk of no size": post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunk beyond 64 bits": post(
        b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"
    ),
    "chunk of negative size": post(b"Transfer-Encoding: chunked\r\n", b"-2\r\n{}\r\n0\r\n\r\n"),
    "NUL in the path": get(b"/v1/countries/\x00"),
    "bytes above 127 in the path": get(b"/v1/countries/\xff\xfe"),
    "space in the target": get(b"/v1/countries?limit=1 x"),
    "tab in the target": get(b"/v1/countries?limit=1\tx"),
    "URL that is none": get(b"http://[::1/v1/countries"),
    "port that is none": get(b"http://a:99999999/v1/countries"),
    "file": get(b"file:///etc/passwd"),
    "the server as a whole": get(b"*", method=b"OPTIONS"),
    "asterisk": get(b"*"),
    "tunnel": get(b"127.0.0.1:5432", method=b"CONNECT"),
    "tunnel to a path": get(b"/v1/cities", method=b"CONNECT"),
    "unknown method": get(b"/v1/cities", method=b"FOO"),
    "method in small letters": get(b"/v1/cities", method=b"get"),
    "control character in the method": get(b"/v1/cities", method=b"G\x01T"),
    "long method": get(b"/v1/cities", method=b"A" * 9_000),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP of the future": b"GET /v1/cities HTTP/9.9\r\n" + HOST + b"\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1") + bytes(160),
    "no text": bytes(range(32)) + b"\r\n\r\n",
    "expectation": post(b"Expect: a miracle\r\nContent-Length: 2\r\n", b"{}"),
    "11 KiB of header": get(b"/v1/countries", b"X-Big: " + b"a" * 11_000 + b"\r\n"),
    "70 KiB of header": get(b"/v1/countries", b"X-Big: " + b"a" * 70_000 + b"\r\n"),
    "2,000 headers": get(b"/v1/countries", b"".join(b"X-%d: a\r\n" % n for n in range(2_000))),
    "11 KiB of URL": get(b"/v1/countries?name=eq." + b"a" * 11_000),
    "2 MiB of URL": get(b"/v1/countries?name=eq." + b"a" * 2_000_000),
}

#: Strange but unambiguous requests, with the expected status.
STRANGE: dict[str, tuple[bytes, int]] = {
    "empty lines ahead": (b"\r\n\r\n" + get(b"/v1/countries?limit=1"), 200),
    "absolute target": (get(b"http://localhost/v1/countries?limit=1"), 200),
    "absolute target of another host": (get(b"http://elsewhere.example/v1/countries"), 403),
    "absolute target with a password": (get(b"http://a:b@127.0.0.1/v1/countries"), 403),
    "foreign host": (
        b"GET /v1/countries HTTP/1.1\r\nHost: a b/c@d:99\r\nConnection: close\r\n\r\n",
        403,
    ),
    "forwarded by a stranger": (
        get(
            b"/v1/countries?limit=1",
            b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n"
            b"X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /v1/_admin\r\n",
        ),
        200,
    ),
    "fragment": (get(b"/v1/countries?limit=1#2"), 400),
    "line break in a value": (get(b"/v1/countries?name=eq.a%0d%0aX-Injected:%201"), 200),
    "line break in a path": (get(b"/v1/countries/a%0d%0aX-Injected:%201"), 400),
    "NUL in a key": (get(b"/v1/countries/D%00E"), 400),
    "NUL in an integer": (get(b"/v1/cities/1%00"), 400),
    "percent sign and no digits": (get(b"/v1/countries/%zz"), 400),
    "overlong UTF-8": (get(b"/v1/countries/%c0%ae%c0%ae%c0%af"), 400),
    "a surrogate as UTF-8": (get(b"/v1/countries/%ed%a0%80"), 400),
    "out of the stage": (get(b"/v1/../../etc/passwd"), 404),
    "out of the stage, encoded": (get(b"/v1/%2e%2e%2f%2e%2e%2fetc/passwd"), 404),
    "out of the stage, encoded twice": (get(b"/v1/%252e%252e%252fetc/passwd"), 404),
    "out of the documentation": (get(b"/v1/docs/5.0/%2e%2e%2f%2e%2e%2fpackage.json"), 404),
    "out of its version": (get(b"/v1/docs/%2e%2e/package.json"), 404),
    "out of a resource": (get(b"/v1/countries/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), 400),
    "dot segment as a key": (get(b"/v1/countries/.."), 400),
    "into the gateway": (get(b"/_gateway/../v1/countries"), 403),
    "into the emulator": (get(b"/_aws/execute-api"), 403),
    "another stage": (get(b"/v2/countries"), 403),
    "two slashes": (get(b"//elsewhere.example/v1/countries"), 403),
    "trace": (get(b"/v1/cities", b"X-Secret: 1\r\n", method=b"TRACE"), 405),
    "header that is no UTF-8": (get(b"/v1/countries", b"Accept: \xff\xfe\r\n"), 406),
    "type that is no UTF-8": (
        get(b"/v1/cities", b"Content-Type: \xff\r\nContent-Length: 2\r\n", method=b"POST") + b"{}",
        415,
    ),
    "length that is named hop by hop": (
        get(
            b"/v1/cities",
            b"Connection: content-length, content-type\r\nContent-Type: text/x\r\n"
            b"Content-Length: 2\r\n",
            method=b"POST",
        )
        + b"{}",
        415,
    ),
    "body of a GET": (get(b"/v1/countries?limit=1", b"Content-Length: 2\r\n") + b"{}", 200),
}


@dataclass(frozen=True)
class Wire:
    """Sends raw bytes, and reads the answers to them."""

    stack: RunningStack

    def send(self, request: bytes) -> list[Reply]:
        """Send the bytes, and return all answers until the server closes the connection."""
        port = self.stack.settings.ports.gateway
        received = bytearray()
        with closing(socket.create_connection(("127.0.0.1", port), _PATIENCE_SECONDS)) as wire:
            writing = threading.Thread(target=_send, args=(wire, request))
            writing.start()
            try:
                while block := wire.recv(65_536):
                    received += block
            except ConnectionResetError:
                pass  # the server refused the rest of a long request
            writing.join()
        return list(_replies(bytes(received)))


def _send(wire: socket.socket, request: bytes) -> None:
    try:
        wire.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        return  # the server refused the request before its end


def _replies(received: bytes) -> Iterator[Reply]:
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (li.partition(":") for li in lines)]
        length = next((int(v) for name, v in headers if name.lower() == "content-length"), 0)
        yield Reply(int(first.split()[1]), headers, rest[:length])
        received = rest[length:]


@pytest.fixture
def wire(stack: RunningStack) -> Wire:
    return Wire(stack)


def judge(reply: Reply, *asked: bytes) -> None:
    """Check that an error is a problem and reveals no internals."""
    assert reply.status < 500, (reply.status, reply.body)
    assert reply["X-Injected"] is None
    text = reply.body.decode()
    if reply.status >= 400:
        assert json.loads(text) == {"message": "Forbidden"} or (
            reply["Content-Type"] == "application/problem+json"
            and json.loads(text)["status"] == reply.status
        ), (reply.status, text)
    assert not hostile.leaks(text, [sent.decode("latin-1") for sent in asked]), text


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_refused_with_a_problem(wire: Wire, case: str) -> None:
    request = MALFORMED[case]
    replies = wire.send(request)
    assert replies or len(request) > 60_000, "no answer"
    assert len(replies) <= 1, "what followed was taken for a request"
    for reply in replies:
        assert reply.status in REFUSED, reply.body
        judge(reply)
        # Not even a parser's message about the fault is passed on.
        assert b"b'" not in reply.body


@pytest.mark.parametrize("case", STRANGE)
def test_unusual_requests_have_one_meaning(wire: Wire, case: str) -> None:
    request, status = STRANGE[case]
    (reply,) = wire.send(request)
    judge(reply, request)
    assert reply.status == status, reply.body


def test_chunks_with_extensions_and_trailers_are_one_body(wire: Wire) -> None:
    """The trailer is not a header, and the extension is ignored (RFC 9112 §7.1.1)."""
    city = new_city()
    body = orjson.dumps(city)
    half = len(body) // 2
    sent = (
        b"%x;a=b\r\n%b\r\n" % (half, body[:half])
        + b"%x\r\n%b\r\n" % (len(body) - half, body[half:])
        + b"0\r\nIdempotency-Key: x y\r\nContent-Type: text/x\r\n\r\n"
    )
    (reply,) = wire.send(post(b"Transfer-Encoding: chunked\r\n", sent))
    assert reply.status == 202, reply.body
    status = wire.stack.wait_for_status(reply["Location"] or "")
    assert status["status"] == "applied"


def test_a_client_that_expects_100_continue_gets_it(wire: Wire) -> None:
    body = a_city()
    expecting = b"Expect: 100-Continue\r\nContent-Length: %d\r\n" % len(body)
    first, second = wire.send(post(expecting, body))
    assert (first.status, first.body, second.status) == (100, b"", 202)


def test_two_requests_on_one_connection_are_both_answered(wire: Wire) -> None:
    """The requests are pipelined; the body of the second looks like a third request."""
    inner = b"DELETE /v1/cities/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    first = b"GET /v1/countries?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = post(b"Content-Length: %d\r\n" % len(inner), inner)
    replies = wire.send(first + second)
    assert [reply.status for reply in replies] == [200, 400]


def test_a_silent_client_delays_no_other(wire: Wire) -> None:
    port = wire.stack.settings.ports.gateway
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(b"POST /v1/cities HTTP/1.1\r\nHost: x\r\n"[: 5 + number % 30])
        assert wire.stack.send("GET", "/countries?limit=1").status == 200
        wire.stack.accepted("POST", "/cities", new_city())
    finally:
        for connection in slow:
            connection.close()


# The whole pipeline: accepted commands are applied or rejected, and no other data changes.

_DDL = """
    SELECT table_schema, table_name, column_name, data_type, is_nullable
    FROM information_schema.columns WHERE table_schema IN ('public', 'forebay') ORDER BY 1, 2, 3
"""
_OTHERS = "SELECT nspname FROM pg_namespace UNION SELECT relname FROM pg_class ORDER BY 1"


def hostile_cities() -> Sequence[dict[str, object]]:
    """Cities with hostile names, as far as the declaration allows them."""
    names = [text for text in hostile.TEXTS if 1 <= len(text) <= 200 and "\x00" not in text]
    return [new_city(name=name) for name in names]


def test_accepted_commands_are_applied_and_no_other_row_has_changed(stack: RunningStack) -> None:
    stack.empty()
    canary = new_city(name="canary")
    status = stack.accepted("PUT", f"/cities/{canary['geonameid']}", canary)
    assert stack.wait_for_status(status)["status"] == "applied"
    before = stack.rows(_DDL), stack.as_superuser(_OTHERS)

    cities = hostile_cities()
    statuses = []
    for start in range(0, len(cities), 500):
        content = json.dumps(cities[start : start + 500]).encode()  # with U+FFFD as an escape
        reply = stack.send("POST", "/cities", content, Content_Type="application/json")
        assert reply.status == 207
        statuses += [result["links"]["status"] for result in reply.json()["results"]]
    refused = 0
    for text in hostile.TEXTS:
        key = quote(text, safe="", errors="surrogatepass")
        for method, path in (("DELETE", f"/countries/{key}"), ("GET", f"/cities?name=eq.{key}")):
            if len(key) > 9_000:
                continue
            reply = stack.send(method, path)
            judge(reply, text.encode(errors="replace"), key.encode())
            refused += reply.status >= 400
            if reply.status == 202:
                statuses.append(reply["Location"] or "")
    assert refused > 100

    stack.settle()
    assert {stack.wait_for_status(status)["status"] for status in statuses} == {"applied"}
    assert (stack.rows(_DDL), stack.as_superuser(_OTHERS)) == before
    rows = dict(stack.rows("SELECT geonameid, name FROM cities"))
    assert rows[canary["geonameid"]] == "canary"
    assert {key: rows[key] for key in (city["geonameid"] for city in cities)} == {
        city["geonameid"]: city["name"] for city in cities
    }
    stack.flush_cache()
    for city in cities:  # a filter on its exact name finds each city
        reply = stack.client.get(
            f"/v1/cities?select=geonameid&name=eq.{quote(str(city['name']), safe='')}"
        )
        assert {"geonameid": city["geonameid"]} in reply.json(), city["name"]
    operator = Operator(
        stack.settings.state,
        "",
        {"FOREBAY_STATE": str(stack.settings.state), "FOREBAY_OPS_ENV": "local"},
    )
    assert operator.done("verify", "--at", "now")["agrees"] is True
