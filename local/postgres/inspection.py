"""Check whether a server can be started from a cluster's folder."""

import subprocess
from pathlib import Path

import psutil

from local.errors import StateUnusableError
from local.postgres.binaries import MAJOR, find_program

ADVICE = "`make reset` deletes the state after a confirmation"
_IDENTIFIER = "Database system identifier:"


def check_primary(folder: Path) -> None:
    """Raise StateUnusableError if the folder is not a healthy cluster of our version."""
    try:
        version = (folder / "PG_VERSION").read_text(errors="replace").strip()
    except OSError as exc:
        raise StateUnusableError(f"{folder} is not a PostgreSQL cluster; {ADVICE}") from exc
    if version != MAJOR:
        raise StateUnusableError(
            f"{folder} is of PostgreSQL {version[:20]}, but this stack runs {MAJOR}; {ADVICE}"
        )
    if read_system_identifier(folder) is None:
        raise StateUnusableError(f"{folder} is damaged (its control file is unreadable); {ADVICE}")
    _clear_stale_lock(folder)


def find_reason_not_to_follow(primary: Path, replica: Path) -> str | None:
    """Return the reason why the replica's folder can't follow the primary, or None if it can."""
    if not replica.exists():
        return "it did not exist"
    identifier = read_system_identifier(replica)
    if identifier is None:
        return "its folder was damaged"
    if identifier != read_system_identifier(primary):
        return "it belonged to another primary"
    if not (replica / "standby.signal").exists():
        return "it had been promoted to a primary"
    _clear_stale_lock(replica)
    return None


def read_system_identifier(folder: Path) -> str | None:
    """Return the cluster's identifier, shared by primary and replica; None if unreadable."""
    process = subprocess.run(  # noqa: S603
        [find_program("pg_controldata"), "-D", folder],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={"LC_ALL": "C"},
    )
    # A wrong checksum of the control file is a warning of pg_controldata, but fatal to the server.
    if process.returncode != 0 or "warning" in (process.stdout + process.stderr).lower():
        return None
    for line in process.stdout.splitlines():
        if line.startswith(_IDENTIFIER):
            return line.removeprefix(_IDENTIFIER).strip()
    return None


def _clear_stale_lock(folder: Path) -> None:
    """Remove a killed server's lock file.

    Postgres itself removes the file if no process has its pid. But it refuses to start if the pid
    belongs to another process of its user, or to the killed server's zombie, which remains if no
    process reaps zombies: both are common in containers.
    """
    lock = folder / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if _is_working_in(pid, folder):
        raise StateUnusableError(
            f"a PostgreSQL server (pid {pid}) that this command did not start uses {folder}; "
            f"stop it with `kill -INT {pid}`"
        )
    lock.unlink()


def _is_working_in(pid: int, folder: Path) -> bool:
    """Return whether the process's working directory is the folder, as for a Postgres server."""
    try:
        return psutil.Process(pid).cwd() == str(folder)
    except psutil.Error:
        # Ended, a zombie, or another user's process, which can't be a server of the stack.
        return False
