"""`make run` from its user's view: starts, refusals and ends.

tests/e2e covers the printed commands, and the state that survives a stop or a crash.
"""

import http.client
import json
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from local.postgres.throwaway import open_folder
from tests.fixtures.emulator import wait_until
from tests.fixtures.make_run import Machine, Run, all_gone

# One worker runs all these tests, so that there is only one deployment.
pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make_run")]

COUNTRY = {
    "code": "QQ",
    "name": "Quarterland",
    "iso3": "QQQ",
    "continent": "EU",
    "population": 1,
    "area_km2": 1.5,
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """One state for all tests of this module: only the first start deploys."""
    with open_folder() as folder:
        yield Machine(folder)


def put_country(run: Run, name: str) -> str:
    """Write a country; return the command's id as soon as it is accepted."""
    status, answer = request(run, "PUT", "/v1/countries/QQ", COUNTRY | {"name": name})
    assert status == http.client.ACCEPTED
    return str(json.loads(answer)["command_id"])


def has_applied(run: Run, command: str) -> bool:
    """Return whether the command is visible on the replica."""
    status, answer = request(run, "GET", f"/v1/countries/QQ/commands/{command}")
    return status == http.client.OK and json.loads(answer)["status"] == "applied"


def request(run: Run, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", run.base_port, timeout=60)
    headers = {"Content-Type": "application/json"}
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_users_own_aws_settings_and_proxies_lead_nowhere(machine: Machine) -> None:
    nowhere = "http://127.0.0.1:1"
    with machine.up(
        AWS_PROFILE="missing",
        AWS_ENDPOINT_URL=nowhere,
        AWS_REGION="eu-west-1",
        http_proxy=nowhere,
        HTTPS_PROXY=nowhere,
        PGHOST="nowhere",
        PYTHONPATH="/nonexistent",
    ) as run:
        command = put_country(run, "whatever the environment says")
        wait_until(lambda: has_applied(run, command), "the command's effect")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_every_process_it_started(
    machine: Machine, number: signal.Signals
) -> None:
    with machine.up() as run:
        family = run.family()

        assert run.end(number) == 0

        assert all_gone(family)
        stopped = re.findall(r"■ (\S+(?: \S+)?) ", run.said())
        assert stopped == [
            "gateway", "firehose", "emulator", "read cache", "Postgres replica",
            "Postgres primary",
        ]  # fmt: skip


def test_killing_it_ends_every_process_it_started(machine: Machine) -> None:
    with machine.up() as run:
        family = run.family()

        run.end(signal.SIGKILL)

        wait_until(lambda: all_gone(family), "the end of all processes")


def test_killing_make_ends_it_too(machine: Machine) -> None:
    """A killed `make` sends no signal to its children; the shell stands in for it."""
    with machine.started("sh", "-c", '"$@"; exit $?', "make") as run:
        run.wait_until_up()
        family = run.family()

        run.end(signal.SIGKILL)

        wait_until(lambda: all_gone(family), "the end of all processes")


def test_a_server_that_dies_ends_it_with_the_name_and_the_end_of_the_log(
    machine: Machine,
) -> None:
    with machine.up() as run:
        family = run.family()
        firehose = next(process for process in family if "local.firehose" in process.cmdline())

        firehose.kill()

        assert run.process.wait(60) == 1
        assert all_gone(family)
    assert "firehose ended unexpectedly with signal SIGKILL; the end of" in run.said()
    assert "firehose: ready on" in run.said()


def test_a_second_start_on_the_same_state_is_one_sentence(machine: Machine) -> None:
    with machine.up() as run:
        code, message = machine.does("run")

        assert code == 1
        assert message.startswith(f"process {run.process.pid} already runs the stack on")
        assert message.count("\n") == 1

        assert machine.does("reset", "--yes")[0] == 1


def test_a_taken_port_is_one_sentence_and_nothing_is_started(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.base_port + 2)):
        code, message = machine.does("run")

    assert code == 1
    assert message.startswith(f"port {machine.base_port + 2} (for the firehose) is already")
    assert message.count("\n") == 1


def test_an_interrupted_first_start_leaves_nothing_and_the_next_one_succeeds() -> None:
    with open_folder() as folder:
        machine = Machine(folder)
        with machine.started() as run:
            wait_until((run.state / "logs" / "deploy.log").exists, "the deployment")
            family = run.family()

            assert run.end(signal.SIGINT) == 0

            assert all_gone(family)

        with machine.up() as run:
            assert "cdk deploy" in run.said()

        assert machine.does("reset", "--yes") == (0, f"deleted the state at {machine.state}\n")
        assert not machine.state.exists()


def test_reset_requires_a_confirmation_and_deletes_only_its_own_files() -> None:
    with open_folder() as folder:
        machine = Machine(folder)
        assert machine.does("reset") == (0, f"no state exists at {machine.state}\n")
        (machine.state / "postgres").mkdir(parents=True)
        (machine.state / "somebody's").touch()

        code, message = machine.does("reset")

        assert code == 1
        assert "Delete both databases and the archive at" in message
        assert (machine.state / "postgres").is_dir()

        assert machine.does("reset", "--yes")[0] == 0
        assert [path.name for path in machine.state.iterdir()] == ["somebody's"]
