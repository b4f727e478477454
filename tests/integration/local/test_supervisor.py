"""The supervisor with real processes: order, patience, unexpected ends, and clean-up."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from local.errors import ChildDiedError, StartTimeoutError, StoppingError, ToolFailedError
from local.events import Listener
from local.processes import Child, Spec, StopOrder
from local.settings import ROOT
from local.state import lock_state
from local.supervisor import Supervisor
from tests.fixtures.emulator import wait_until

# A server that runs until a signal ends it.
SERVES = "import signal; print('up', flush=True); signal.pause()"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVES
# A server with a worker in its process group, like the emulator; the worker survives its parent.
HAS_A_WORKER = f"""
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", {IGNORES_SIGTERM!r}])
print("worker", worker.pid, flush=True)
worker.wait()
"""

# It uses all of its patience to end, so that the tests can observe the time before.
TAKES_ITS_TIME = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN){HAS_A_WORKER}"

Stops = list[tuple[str, bool]]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as started:
        yield started


@pytest.fixture
def supervising(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that supervises a server until it is killed, or until this process ends."""
    code = f"""
import sys
from pathlib import Path
from local.processes import Spec, StopOrder
from local.state import lock_state
from local.supervisor import Supervisor

folder = Path({str(tmp_path)!r})
with lock_state(folder) as lock, Supervisor(keep_open=[lock]) as supervisor:
    command = [sys.executable, "-c", {TAKES_ITS_TIME!r}]
    gateway = StopOrder.GATEWAY
    child = supervisor.start(
        Spec(name="server", command=command, log=folder / "server.log", rank=gateway)
    )
    (folder / "pid").write_text(str(child.process.pid))
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def spec(
    folder: Path, name: str, code: str = SERVES, *, rank: int = 1, patience_seconds: float = 10
) -> Spec:
    return Spec(
        name=name,
        command=[sys.executable, "-c", code],
        log=folder / f"{name}.log",
        rank=StopOrder(rank),
        patience_seconds=patience_seconds,
    )


def said(child: Child, text: str) -> Callable[[], bool]:
    return lambda: text in child.spec.log.read_text()


def up(supervisor: Supervisor, wanted: Spec, text: str = "up") -> Child:
    child = supervisor.start(wanted)
    supervisor.wait_until(said(child, text), child=child, timeout_seconds=20)
    return child


def stop_and_record(supervisor: Supervisor, *, hurry: bool = False) -> Stops:
    stops: Stops = []

    class Recorder(Listener):
        def report_stop(self, name: str, seconds: float, *, forced: bool) -> None:
            assert seconds >= 0
            stops.append((name, forced))

    supervisor.stop(listener=Recorder(), hurry=lambda: hurry)
    return stops


def test_processes_are_stopped_by_rank_in_any_order_of_start(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    for name, rank in (("emulator", 3), ("gateway", 1), ("primary", 5), ("firehose", 2)):
        up(supervisor, spec(tmp_path, name, rank=rank))

    stops = stop_and_record(supervisor)

    assert stops == [(name, False) for name in ("gateway", "firehose", "emulator", "primary")]


def test_a_process_that_ignores_the_polite_signal_is_killed_when_its_patience_ends(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    up(supervisor, spec(tmp_path, "stubborn", IGNORES_SIGTERM, patience_seconds=0.2))

    assert stop_and_record(supervisor) == [("stubborn", True)]


def test_hurry_ends_the_patience(supervisor: Supervisor, tmp_path: Path) -> None:
    up(supervisor, spec(tmp_path, "stubborn", IGNORES_SIGTERM, patience_seconds=600))

    assert stop_and_record(supervisor, hurry=True) == [("stubborn", True)]


def test_a_worker_that_outlives_its_server_is_ended_with_it(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    server = up(supervisor, spec(tmp_path, "server", HAS_A_WORKER), "up")
    worker = worker_of(server)

    supervisor.stop()

    wait_until(lambda: gone(worker), "the worker's end")


def test_a_server_that_ends_by_itself_is_reported_with_the_end_of_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    child = supervisor.start(spec(tmp_path, "gateway", "import sys; sys.exit('no more memory')"))
    child.process.wait()

    with pytest.raises(ChildDiedError, match=r"(?s)gateway ended .* with code 1.*no more memory"):
        supervisor.check()


def test_waiting_for_one_server_notices_that_another_has_died(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    gateway = up(supervisor, spec(tmp_path, "gateway"))
    emulator = up(supervisor, spec(tmp_path, "emulator"))
    os.kill(emulator.process.pid, signal.SIGKILL)

    with pytest.raises(ChildDiedError, match="emulator ended unexpectedly with signal SIGKILL"):
        supervisor.wait_until(lambda: False, child=gateway, timeout_seconds=20)


def test_a_server_that_does_not_become_ready_is_reported_with_its_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    child = up(supervisor, spec(tmp_path, "gateway"))

    with pytest.raises(StartTimeoutError, match=r"(?s)gateway was not ready after 0 s.*up"):
        supervisor.wait_until(lambda: False, child=child, timeout_seconds=0)


def test_the_output_of_a_tool_is_in_its_log(supervisor: Supervisor, tmp_path: Path) -> None:
    tool = spec(tmp_path, "tool", "print(6 * 7)")
    supervisor.run(tool)
    assert tool.log.read_text() == "42\n"
    supervisor.check()


def test_a_failing_tool_is_reported_with_its_output(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match=r"(?s)initdb failed with code 1.*no room"):
        supervisor.run(spec(tmp_path, "initdb", "import sys; sys.exit('no room')"))


def test_a_program_that_is_not_there_is_a_sentence(supervisor: Supervisor, tmp_path: Path) -> None:
    missing = replace(spec(tmp_path, "node"), command=[tmp_path / "no-such-program"])

    with pytest.raises(ToolFailedError, match="node can't be started"):
        supervisor.run(missing)


def test_no_process_starts_after_the_stop(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.stop()

    with pytest.raises(StoppingError):
        supervisor.start(spec(tmp_path, "late"))


def test_the_last_run_s_log_is_kept(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run(spec(tmp_path, "tool", "print('first')"))
    supervisor.run(spec(tmp_path, "tool", "print('second')"))

    assert (tmp_path / "tool.log").read_text() == "second\n"
    assert (tmp_path / "tool.log.old").read_text() == "first\n"


def test_killing_the_supervisor_ends_its_servers_and_their_workers(
    supervising: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    server, worker = server_and_worker(tmp_path)

    supervising.kill()
    supervising.wait()

    wait_until(lambda: gone(server) and gone(worker), "the end of server and worker")


def test_a_next_start_waits_until_the_servers_of_a_killed_one_have_ended(
    supervising: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    server, worker = server_and_worker(tmp_path)

    supervising.kill()
    supervising.wait()

    with lock_state(tmp_path):
        assert gone(server)
        wait_until(lambda: gone(worker), "the end of the killed worker")


def server_and_worker(folder: Path) -> tuple[int, int]:
    log = folder / "server.log"
    wait_until(lambda: log.exists() and "up" in log.read_text(), "the worker")
    pid = folder / "pid"
    wait_until(lambda: pid.exists() and bool(pid.read_text()), "the server's pid")
    return int(pid.read_text()), worker_in(log)


def worker_of(server: Child) -> int:
    return worker_in(server.spec.log)


def worker_in(log: Path) -> int:
    line = next(line for line in log.read_text().splitlines() if line.startswith("worker"))
    return int(line.split()[1])


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
