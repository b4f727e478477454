"""Taken ports are found before any server is started."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from local.errors import PortTakenError
from local.ports import check_free
from local.settings import Ports
from tests.fixtures.make_run import free_base_port


@pytest.fixture
def ports() -> Ports:
    return Ports.from_base(free_base_port())


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(port: int, opened: ExitStack) -> None:
    opened.enter_context(socket.create_server(("127.0.0.1", port)))


def test_free_ports_pass(ports: Ports) -> None:
    check_free(ports)


def test_a_taken_port_is_named_with_its_use_its_owner_and_the_way_out(
    ports: Ports, opened: ExitStack
) -> None:
    listen(ports.primary, opened)

    with pytest.raises(PortTakenError) as refusal:
        check_free(ports)

    message = str(refusal.value)
    assert message.startswith(f"port {ports.primary} (for the primary) is already in use by")
    assert f"(pid {os.getpid()})" in message
    assert "make run PORT=" in message


def test_all_taken_ports_are_named_at_once(ports: Ports, opened: ExitStack) -> None:
    listen(ports.gateway, opened)
    listen(ports.replica, opened)

    with pytest.raises(PortTakenError, match=rf"port {ports.gateway} .*, port {ports.replica} "):
        check_free(ports)


def test_a_connection_of_the_last_run_that_lingers_takes_no_port(ports: Ports) -> None:
    """The side that closes first keeps the address in TIME_WAIT for a minute."""
    with socket.create_server(("127.0.0.1", ports.gateway)) as server:
        client = socket.create_connection(("127.0.0.1", ports.gateway))
        connection, _ = server.accept()
        connection.close()
        client.recv(1)
        client.close()

    check_free(ports)
