"""Refused callers: pages of other origins, rebound names, other users of the machine.

The pages are loaded in a real browser. A page can't read the results of some attempts, so the tests
check for their effects in the stack.
"""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from selenium.webdriver import Chrome

from local.credentials import read_secret_key
from local.postgres.config import OWNER, READER, SUPERUSER, locate_primary, locate_replica
from tests.fixtures.emulator import aws_client
from tests.fixtures.stack import RunningStack, new_city

#: The browser resolves every name below `.example` to this machine, as after a rebinding.
FOREIGN = "evil.example"
REBOUND = "rebound.example"
_ANOTHER = 12345  # an unused user id

# Sends requests concurrently; returns type, status and text of each answer visible to the page.
_FETCH = """
const [requests, done] = arguments;
const within = (promise, seconds) => Promise.race(
  [promise, new Promise((_, late) => setTimeout(() => late("no answer"), seconds * 1000))]);
Promise.all(requests.map(async ([url, options]) => {
  try {
    const answer = await within(fetch(url, options), 20);
    return [answer.type, answer.status, await within(answer.text(), 20)];
  } catch (error) {
    return ["error", 0, String(error)];
  }
})).then(done);
"""
# Loads a script and opens a WebSocket; returns whether each of them succeeded.
_LOAD = """
const [url, socket, done] = arguments;
const tried = (element, source) => new Promise((resolve) => {
  element.onload = () => resolve(true);
  element.onerror = () => resolve(false);
  element.src = source;
  document.body.append(element);
});
const opened = new Promise((resolve) => {
  const tried = new WebSocket(socket);
  tried.onopen = () => resolve(true);
  tried.onerror = () => resolve(false);
});
Promise.all([tried(document.createElement("script"), url), opened]).then(done);
"""
# Sends a form into a frame, as JSON for a server that ignores the media type.
_FORM = """
const [url, name, value, done] = arguments;
const frame = document.createElement("iframe");
frame.name = "target";
document.body.append(frame);
const form = document.createElement("form");
Object.assign(form, {action: url, method: "POST", enctype: "text/plain", target: "target"});
const input = document.createElement("input");
Object.assign(input, {name, value});
form.append(input);
document.body.append(form);
// A frame whose address is refused need not tell that it is done.
setTimeout(() => done(true), 5000);
form.submit();
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>foreign</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Suppress the log."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of a server for pages of another origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def foreign(browser: Chrome, site: int) -> Chrome:
    """A browser that shows a page of another origin."""
    browser.set_script_timeout(60)
    browser.get(f"http://{FOREIGN}:{site}/")
    return browser


def fetched(page: Chrome, *requests: tuple[str, dict[str, Any]]) -> list[list[Any]]:
    results: list[list[Any]] = page.execute_async_script(_FETCH, requests)
    return results


def addresses(port: int) -> list[str]:
    return [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")]


def emulated(stack: RunningStack, service: str) -> Any:
    return aws_client(service, stack.settings.emulator_url, key=read_secret_key(stack.settings))


def function_order(name: str) -> str:
    """The body that makes Lambda create a function; a caller that can send it can run code."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.py", "def h(event, context):\n    return 1\n")
    code = base64.b64encode(archive.getvalue()).decode()
    return json.dumps(
        {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Handler": "a.h",
            "Code": {"ZipFile": code},
        }
    )


def has_function(stack: RunningStack, name: str) -> bool:
    pages = emulated(stack, "lambda").get_paginator("list_functions").paginate()
    return name in {function["FunctionName"] for page in pages for function in page["Functions"]}


def has_city(stack: RunningStack, key: int) -> bool:
    stack.settle()
    return bool(stack.rows("SELECT FROM cities WHERE geonameid = %s", key))


def test_a_foreign_page_runs_no_code_in_the_emulator(stack: RunningStack, foreign: Chrome) -> None:
    """A browser sends a simple request (Fetch standard) without a preflight."""
    options = {"method": "POST", "mode": "no-cors", "headers": {"Content-Type": "text/plain"}}
    for number, url in enumerate(addresses(stack.settings.ports.emulator)):
        name = f"page-{number}"
        functions = f"{url}/2015-03-31/functions"
        fetched(foreign, (functions, {**options, "body": function_order(name)}))
        assert not has_function(stack, name)
        text = function_order(f"form-{name}")[:-1] + ', "x": "'
        foreign.execute_async_script(_FORM, functions, text, '"}')
        assert not has_function(stack, f"form-{name}")


def test_a_foreign_page_reads_nothing(stack: RunningStack, foreign: Chrome) -> None:
    ports = stack.settings.ports
    requests: list[tuple[str, dict[str, Any]]] = [
        (f"{url}{path}", options)
        for port, paths in (
            (ports.gateway, ("/v1/countries?limit=1", "/v1/docs", "/_gateway/stats", "/")),
            (ports.emulator, ("/", "/_ministack/health", "/2015-03-31/functions")),
            (ports.firehose, ("/_status", "/_faults", "/")),
            (ports.primary, ("/",)),
            (ports.replica, ("/",)),
        )
        for url in addresses(port)
        for path in paths
        for options in ({}, {"headers": {"X-Asks": "first"}}, {"method": "DELETE"})
    ]
    answers = fetched(foreign, *requests)
    readable = [
        (request[0], answer)
        for request, answer in zip(requests, answers, strict=True)
        if answer[0] != "error"
    ]
    assert readable == []


def test_a_foreign_page_loads_nothing_of_the_documentation(
    stack: RunningStack, foreign: Chrome
) -> None:
    page = stack.send("GET", "/docs").body.decode()
    script = next(part for part in page.split('"') if part.endswith(".js"))
    assert stack.client.get(script).status == 200
    address = f"http://127.0.0.1:{stack.settings.ports.gateway}{script}"
    socket = f"ws://127.0.0.1:{stack.settings.ports.emulator}/_aws/execute-api/x/v1"
    assert foreign.execute_async_script(_LOAD, address, socket) == [False, False]


def test_a_foreign_page_writes_nothing(stack: RunningStack, foreign: Chrome) -> None:
    city = new_city()
    stack.client.get("/v1/countries?limit=1")
    entries = stack.client.get("/_gateway/stats").json()["entries"]
    assert entries > 0
    body = json.dumps(city)
    plain = {"method": "POST", "mode": "no-cors", "body": body}
    options = {"method": "POST", "body": body, "headers": {"Content-Type": "application/json"}}
    faults = {"method": "PUT", "body": '{"down": "error"}'}
    for gateway in addresses(stack.settings.ports.gateway):
        answers = fetched(
            foreign,
            (f"{gateway}/v1/cities", plain),
            (f"{gateway}/v1/cities", options),
            (f"{gateway}/_gateway/flush", {"method": "POST", "mode": "no-cors"}),
        )
        assert [answer[0] for answer in answers if answer[0] == "cors"] == []
    for firehose in addresses(stack.settings.ports.firehose):
        fetched(foreign, (f"{firehose}/_faults", faults), (f"{firehose}/_flush", plain))
    assert not has_city(stack, city["geonameid"])
    assert stack.client.get("/_gateway/stats").json()["entries"] >= entries


def test_a_name_that_is_rebound_to_this_machine_reaches_nothing(
    stack: RunningStack, browser: Chrome
) -> None:
    """The page then has the same origin: it may send any request and read every answer."""
    ports = stack.settings.ports
    city = new_city()
    sent = {
        "method": "POST",
        "body": json.dumps(city),
        "headers": {"Content-Type": "application/json"},
    }
    target = {
        "method": "POST",
        "body": "{}",
        "headers": {"X-Amz-Target": "Firehose_20150804.ListDeliveryStreams"},
    }
    tried: dict[int, list[tuple[str, dict[str, Any]]]] = {
        ports.gateway: [
            *(("/v1/countries?limit=1", {}), ("/v1/cities", sent), ("/_gateway/stats", {})),
            ("/_gateway/flush", {"method": "POST"}),
        ],
        ports.emulator: [
            *(("/_ministack/health", {}), ("/", {}), ("/x", {"method": "OPTIONS"})),
            ("/2015-03-31/functions", {"method": "POST", "body": function_order("rebound")}),
        ],
        ports.firehose: [
            *(("/_status", {}), ("/_faults", {"method": "PUT", "body": "{}"}), ("/", target)),
        ],
    }
    browser.set_script_timeout(60)
    for port, requests in tried.items():
        browser.get(f"http://{REBOUND}:{port}/")
        answers = fetched(browser, *requests)
        assert {answer[1] for answer in answers} <= {0, 403}, (port, answers)
        assert not any(name in str(answers) for name in ("Andorra", "streams", "services"))
    assert not has_function(stack, "rebound")
    assert not has_city(stack, city["geonameid"])


def test_a_page_of_this_machine_uses_the_api_as_its_cors_declares(
    stack: RunningStack, browser: Chrome, site: int
) -> None:
    """A front end under development uses the API; the stack's other servers refuse it."""
    ports = stack.settings.ports
    browser.set_script_timeout(60)
    browser.get(f"http://localhost:{site}/")
    city = new_city()
    put = {
        "method": "PUT",
        "body": json.dumps(city),
        "headers": {"Content-Type": "application/json"},
    }
    read, written, stats, emulator = fetched(
        browser,
        (f"http://127.0.0.1:{ports.gateway}/v1/countries?limit=1", {}),
        (f"http://127.0.0.1:{ports.gateway}/v1/cities/{city['geonameid']}", put),
        (f"http://127.0.0.1:{ports.gateway}/_gateway/stats", {}),
        (f"http://127.0.0.1:{ports.emulator}/_ministack/health", {}),
    )
    assert (read[1], written[1]) == (200, 202)
    assert (stats[0], emulator[0]) == ("error", "error")
    assert has_city(stack, city["geonameid"])


def listeners(stack: RunningStack) -> set[tuple[str, int]]:
    """The addresses on which the stack's processes listen."""
    addresses = set()
    for process in stack.process.family():
        with suppress(psutil.Error):
            addresses |= {
                (connection.laddr.ip, connection.laddr.port)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
            unix = [
                connection.laddr
                for connection in process.net_connections("unix")
                if connection.laddr and str(connection.laddr).startswith("/")
            ]
            assert unix == []
    return addresses


def test_the_stack_listens_on_its_five_ports_of_the_loopback_address_only(
    stack: RunningStack,
) -> None:
    """Each new listener needs a security test of its own before it is added here."""
    ports = stack.settings.ports._asdict().values()
    assert listeners(stack) == {("127.0.0.1", port) for port in ports}


def test_no_password_is_on_a_command_line_or_in_the_output(stack: RunningStack) -> None:
    """Every user of the machine can read command lines."""
    primary = locate_primary(stack.settings)
    secrets = [primary.password(role) for role in (SUPERUSER, OWNER, READER)]
    secrets.append(read_secret_key(stack.settings))
    seen = [stack.process.said()]
    for process in stack.process.family():
        with suppress(psutil.Error):
            seen.append(" ".join(process.cmdline()))
    assert not [secret for secret in secrets for text in seen if secret in text]


def test_the_printed_credentials_open_the_emulator_and_the_databases(
    stack: RunningStack,
) -> None:
    code, output = stack.machine.does("credentials")
    assert code == 0
    values = dict(line.removeprefix("export ").split("=", 1) for line in output.splitlines())
    for service, operation in (("s3", "list_buckets"), ("firehose", "list_delivery_streams")):
        variable = "AWS_ENDPOINT_URL_FIREHOSE" if service == "firehose" else "AWS_ENDPOINT_URL"
        client = aws_client(service, values[variable], key=values["AWS_SECRET_ACCESS_KEY"])
        assert getattr(client, operation)()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert values["ARCHIVE_BUCKET"] == stack.deployed.archive_bucket
    for name, role in (
        ("PRIMARY_URL", OWNER),
        ("REPLICA_URL", READER),
        ("ADMIN_URL", SUPERUSER),
    ):
        with psycopg.connect(values[name]) as login:
            assert login.execute("SELECT current_user").fetchone() == (role,)


def admitted(urls: Sequence[str]) -> list[str]:
    """Return the logins that succeed."""
    names = []
    for url in urls:
        try:
            psycopg.connect(url, connect_timeout=20).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                continue
            names.append(f"{url}: {error}")
        else:
            names.append(url)
    return names


def readable(paths: Sequence[Path]) -> list[str]:
    """Return the contents of the files and folders that can be read."""
    names = []
    for path in paths:
        with suppress(PermissionError):
            names.append(str(list(path.iterdir()) if path.is_dir() else path.read_bytes()))
    return names


def as_another_user(do: Callable[[], list[str]]) -> str:
    """Call the function in a process of another user (needs root); return its result as text."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_ANOTHER)
                os.setuid(_ANOTHER)
            os.write(theirs, str(do()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_another_user_of_the_machine_logs_in_nowhere_and_reads_no_file(
    stack: RunningStack,
) -> None:
    settings = stack.settings
    clusters = (locate_primary(settings), locate_replica(settings))
    urls = [
        f"postgresql://{role}:{role}@127.0.0.1:{cluster.port}/{database}"
        for cluster in clusters
        for role in (SUPERUSER, OWNER, READER)
        for database in ("postgres", "forebay")
    ]
    assert as_another_user(lambda: admitted(urls)) == "[]"
    hidden = [settings.secret, settings.emulator, settings.firehose, settings.logs]
    hidden += [cluster.folder for cluster in clusters]
    assert not any(stat.S_IMODE(path.stat().st_mode) & 0o077 for path in hidden)
    if os.geteuid() == 0:
        assert as_another_user(lambda: readable(hidden)) == "[]"
