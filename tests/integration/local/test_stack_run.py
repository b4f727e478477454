"""`make run` as its user meets it: starts, restarts, crashes and ends."""

import gzip
import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from local.postgres.throwaway import open_folder
from tests.fixtures.emulator import aws_client, wait_until
from tests.fixtures.make_run import Machine, Run, all_gone

# One worker runs them all, and so deploys once.
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
    """One state for all tests here: only the first start deploys."""
    with open_folder() as folder:
        yield Machine(folder)


def put_country(run: Run, name: str) -> str:
    """Writes; returns the command's id as soon as it is accepted."""
    status, answer = request(run, "PUT", "/v1/countries/QQ", COUNTRY | {"name": name})
    assert status == http.client.ACCEPTED
    return str(json.loads(answer)["command_id"])


def country_after(run: Run, command: str) -> object:
    """The name of the country, from a replica that has applied the command."""
    status, answer = request(run, "GET", "/v1/countries/QQ", read_after=command)
    return json.loads(answer)["name"] if status == http.client.OK else status


def wait_until_applied(run: Run, command: str, name: str) -> None:
    wait_until(lambda: country_after(run, command) == name, f"the country's name is {name!r}")


def request(
    run: Run, method: str, path: str, body: object = None, *, read_after: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", run.base_port, timeout=60)
    headers = {"Content-Type": "application/json"} | (
        {"Read-After": read_after} if read_after else {}
    )
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def archived_names(run: Run) -> set[str]:
    """The names in all commands of all objects of the archive."""
    s3 = aws_client("s3", f"http://127.0.0.1:{run.base_port + 1}")
    bucket = "forebay-local-archive-000000000000-us-east-1"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    objects = [s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys]
    lines = b"".join(gzip.decompress(content) for content in objects).splitlines()
    return {json.loads(line)["body"]["name"] for line in lines}


def test_the_printed_lines_work_when_they_are_pasted(machine: Machine) -> None:
    with machine.up() as run:
        block = run.said().split("line by line:\n", 1)[1].split("\n\n  primary", 1)[0]
        pasted = subprocess.run(["bash", "-ec", block], capture_output=True, text=True, check=False)

    assert pasted.returncode == 0
    assert '"status":"applied"' in pasted.stdout
    assert '"name":"Kosovo"' in pasted.stdout


def test_a_later_start_deploys_nothing_and_still_has_table_and_archive(machine: Machine) -> None:
    with machine.up() as run:
        command = put_country(run, "before the stop")
        wait_until_applied(run, command, "before the stop")
        assert run.end() == 0

    with machine.up() as run:
        assert "cdk deploy" not in run.said()
        assert country_after(run, command) == "before the stop"
        assert "before the stop" in archived_names(run)


def test_what_was_accepted_before_everything_was_killed_is_applied_after_the_next_start(
    machine: Machine,
) -> None:
    with machine.up() as run:
        command = put_country(run, "before the kill")
        run.kill_everything()

    with machine.up() as run:
        wait_until(lambda: country_after(run, command) == "before the kill", "the command's effect")
        assert "before the kill" in archived_names(run)


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
            "gateway", "firehose", "emulator", "Postgres replica", "Postgres primary",
        ]  # fmt: skip


def test_killing_it_ends_every_process_it_started(machine: Machine) -> None:
    with machine.up() as run:
        family = run.family()

        run.end(signal.SIGKILL)

        wait_until(lambda: all_gone(family), "the end of all processes")


def test_killing_make_ends_it_too(machine: Machine) -> None:
    """`make` that is killed tells nobody; the shell stands for it."""
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
    assert "firehose ended by itself with signal SIGKILL; the end of" in run.said()
    assert "firehose: ready on" in run.said()


def test_a_second_start_on_the_same_state_is_one_sentence(machine: Machine) -> None:
    with machine.up() as run:
        code, said = machine.does("run")

        assert code == 1
        assert said.startswith(f"process {run.process.pid} already runs the stack on")
        assert said.count("\n") == 1

        assert machine.does("reset", "--yes")[0] == 1


def test_a_taken_port_is_one_sentence_and_nothing_is_started(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.base_port + 2)):
        code, said = machine.does("run")

    assert code == 1
    assert said.startswith(f"port {machine.base_port + 2} (for the Firehose server) is already")
    assert said.count("\n") == 1


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


def test_reset_asks_takes_silence_for_no_and_deletes_only_what_is_ours() -> None:
    with open_folder() as folder:
        machine = Machine(folder)
        assert machine.does("reset") == (0, f"there is no state at {machine.state}\n")
        (machine.state / "postgres").mkdir(parents=True)
        (machine.state / "somebody's").touch()

        code, said = machine.does("reset")

        assert code == 1
        assert "Delete both databases and the archive at" in said
        assert (machine.state / "postgres").is_dir()

        assert machine.does("reset", "--yes")[0] == 0
        assert [path.name for path in machine.state.iterdir()] == ["somebody's"]
