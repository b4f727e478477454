"""A paused primary: a function without a waiting client waits until the primary is up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from forebay.db.connect import CONNECT_TIMEOUT_SECONDS
from forebay.log import Log
from lambdas.consumer import bootstrap as consumer
from lambdas.consumer.settings import ConsumerSettings
from lambdas.sweep import bootstrap as sweep
from lambdas.sweep.settings import SweepSettings

_ENVIRONMENT = {
    "FOREBAY_ENV": "test",
    "FOREBAY_ARCHIVE_BUCKET": "archive",
    "FOREBAY_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/queue",
    "FOREBAY_DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/dead",
    "FOREBAY_IMPORT_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/imports",
    "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/dead-imports",
}


@pytest.fixture
def sleeping(database_url: str) -> Iterator[str]:
    """A server that accepts connections only after the time that it needs to resume."""
    stated = conninfo_to_dict(database_url)
    with _asleep(str(stated["host"]), int(stated["port"] or 5432)) as port:
        yield make_conninfo(database_url, host="127.0.0.1", port=port)


@contextmanager
def _asleep(host: str, port: int) -> Iterator[int]:
    """Hold the first connection open, as Aurora does while a paused cluster resumes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wake() -> None:
            client, _ = server.accept()
            time.sleep(CONNECT_TIMEOUT_SECONDS + 1)
            with client, socket.create_connection((host, port)) as awake:
                back = threading.Thread(target=_pass_on, args=(awake, client), daemon=True)
                back.start()
                _pass_on(client, awake)
                back.join()

        waking = threading.Thread(target=wake, daemon=True)
        waking.start()
        yield server.getsockname()[1]
        waking.join(timeout=10)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65_536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def _consumer(environment: dict[str, str]) -> Any:
    return consumer.build(ConsumerSettings.from_env(environment), Log("test"))


def _sweep(environment: dict[str, str]) -> Any:
    return sweep.build(SweepSettings.from_env(environment), Log("test"))


@pytest.mark.parametrize("build", [_consumer, _sweep])
def test_a_primary_is_given_the_time_to_wake_up(
    monkeypatch: pytest.MonkeyPatch, sleeping: str, build: Any
) -> None:
    """A consumer that gave up would get its message again only after half an hour.

    Aurora needs about 15 seconds, 30 after a day (Amazon Aurora user guide, "Scaling to Zero
    ACUs").
    """
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    session = build({**_ENVIRONMENT, "FOREBAY_DATABASE_URL": sleeping})._session

    with session.connection() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    session.close()
