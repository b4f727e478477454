"""The clock of a write function is wrong."""

import time

import botocore.session
import orjson
import pytest
from botocore.config import Config

import resources
from forebay.access import Access
from forebay.aws.archive import Archive
from forebay.aws.firehose import FirehoseSink
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from local.credentials import read_secret_key
from tests.fixtures.api import event
from tests.fixtures.emulator import wait_until
from tests.fixtures.faulty import FaultyStack
from tests.fixtures.gateway import Client
from tests.fixtures.stack import new_city

WRONG_BY_SECONDS = 5 * 60


def writer(stack: FaultyStack, ahead_seconds: int) -> WriteApp:
    """The write function's app in this process; its clock is `ahead_seconds` ahead."""
    session = botocore.session.get_session()
    session.set_credentials("test", read_secret_key(stack.settings))

    def client(service: str, url: str) -> object:
        return session.create_client(
            service,
            region_name="us-east-1",
            endpoint_url=url,
            config=Config(s3={"addressing_style": "path"}),
        )

    sink = FirehoseSink(
        client("firehose", stack.settings.firehose_url),  # type: ignore[arg-type]
        stack.variables("write")["FOREBAY_STREAMS"].split(","),
    )
    store = Archive(
        client("s3", stack.settings.emulator_url),  # type: ignore[arg-type]
        stack.deployed.archive_bucket,
    )
    log = Log("test")
    return WriteApp(
        resources=resources.load(),
        acceptor=Acceptor(sink, store, log),
        ids=IdSource(lambda: time.time_ns() // 1_000_000 + ahead_seconds * 1000),
        answers=Answers(1.0),
        log=log,
        access=Access("none"),
    )


class Item:
    """A city that several writers write."""

    def __init__(self, stack: FaultyStack) -> None:
        self._stack = stack
        self._key = new_city()["geonameid"]

    def put_by(self, app: WriteApp, name: str, **headers: str) -> str:
        """Put by the app with the wrong clock; return the command id."""
        answer = app.handle(
            event(
                "PUT",
                "/cities/{key}",
                path={"key": str(self._key)},
                headers={
                    "Content-Type": "application/json",
                    **{header.replace("_", "-"): value for header, value in headers.items()},
                },
                body=orjson.dumps(self._city(name)).decode(),
            )
        )
        assert answer.status == 202, answer.body
        return str(orjson.loads(answer.body)["command_id"])

    def put(self, name: str, **headers: str) -> str:
        """Put through the API; return the command id."""
        named = {header.replace("_", "-"): value for header, value in headers.items()}
        named["Content-Type"] = "application/json"
        client = Client(self._stack.settings.ports.gateway)
        path = f"/v1/cities/{self._key}"
        reply = client.request("PUT", path, named, orjson.dumps(self._city(name)))
        assert reply.status == 202, reply.body
        return str(reply.json()["command_id"])

    def status(self, command_id: str) -> str:
        """The final status of a command."""
        path = f"/v1/cities/{self._key}/commands/{command_id}"
        client = Client(self._stack.settings.ports.gateway)
        reply = client.get(path, {"Prefer": "wait=20"})
        assert reply.status == 200, (reply.status, reply.body)
        return str(reply.json()["status"])

    @property
    def version(self) -> str | None:
        """The version of the row on the primary."""
        rows = self._stack.as_superuser(
            f"SELECT _version::text FROM cities WHERE geonameid = {self._key}"
        )
        return rows[0][0] if rows else None

    def _city(self, name: str) -> dict[str, object]:
        return new_city(geonameid=self._key, name=name)


@pytest.mark.parametrize("ahead", [True, False], ids=["ahead", "behind"])
def test_a_writers_clock_is_wrong(faulty_stack: FaultyStack, *, ahead: bool) -> None:
    stack = faulty_stack
    item = Item(stack)
    app = writer(stack, WRONG_BY_SECONDS if ahead else -WRONG_BY_SECONDS)
    with stack.fault(
        f"clock of one writer 5 minutes {'ahead' if ahead else 'behind'}",
        "a writer with that clock and the write function put one key in turn, first without "
        "naming the other's version, then with `If-Match`",
        part="intake",
    ) as watched:
        if ahead:
            early, late = item.put_by(app, "by the wrong one"), item.put("without having seen it")
        else:
            early = item.put("by the right one")
            late = item.put_by(app, "without having seen it")
        wait_until(lambda: item.version == early, "the greater id is there")
        assert [item.status(early), item.status(late)] == ["applied", "superseded"]
        seen = {"If_Match": f'"{early}"'}
        last = item.put("seen", **seen) if ahead else item.put_by(app, "seen", **seen)
        wait_until(lambda: item.version == last, "the one that had seen it is there")
        assert item.status(last) == "applied"
        watched.ends()
        watched.fault.remark = (
            "a write that names no version may lose to the other clock's: its status is "
            "`superseded`; with `If-Match` or `Read-After` the later write wins"
        )
