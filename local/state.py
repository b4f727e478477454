"""The state folder: its lock, its free space, and the permissions of its contents."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from local.credentials import make_secret
from local.errors import DiskFullError, StateLockedError, StateUnusableError
from local.processes import is_pid_alive
from local.settings import LocalSettings

LOCK_NAME = "lock"
# The longest orderly stop: the warden of a killed start holds the lock during its stop.
_CLEAN_UP_SECONDS = 45.0
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def lock_state(state: Path, *, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Lock the state folder for one start; yields the descriptor of the lock.

    The kernel releases the lock when the last process with the descriptor ends, however it ends.
    If the holder was killed and its warden is still stopping the servers, wait for the warden.

    Args:
        state: the folder; made if it is missing.
        on_wait: called once, with a sentence that explains the delay.

    Raises:
        StateLockedError: another start uses the folder.
        StateUnusableError: the folder can't be made or written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise StateUnusableError(
            f"the state folder {state} can't be used ({exc.strerror}); "
            "set another folder with FOREBAY_STATE"
        ) from exc
    try:
        _take(descriptor, state, on_wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def keep_private(settings: LocalSettings) -> None:
    """Make the secret if it is missing, and hide data and keys from other users.

    The state folder itself may be shared with other users. Postgres, which may run as another user,
    hides its own folders.

    Raises:
        StateUnusableError: the secret is damaged, or a folder can't be hidden.
    """
    make_secret(settings.secret)
    try:
        for folder in (settings.emulator, settings.firehose, settings.logs):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
    except OSError as exc:
        raise StateUnusableError(
            f"{exc.filename} can't be hidden from other users ({exc.strerror}); "
            "set another folder with FOREBAY_STATE"
        ) from exc


def _take(descriptor: int, state: Path, on_wait: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _CLEAN_UP_SECONDS
    is_reported = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            if (holder and is_pid_alive(holder)) or time.monotonic() > deadline:
                holder_text = f"process {holder}" if holder else "another process"
                raise StateLockedError(
                    f"{holder_text} already runs the stack on {state}; stop it, "
                    "or use another folder and port: FOREBAY_STATE=… make run PORT=…"
                ) from None
        else:
            return
        if not is_reported:
            on_wait("an earlier start was killed; waiting until its servers are stopped")
            is_reported = True
        time.sleep(_POLL_SECONDS)


def _read_holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.isdigit() else None


def check_free_space(folder: Path, min_free_bytes: int) -> None:
    """Raise DiskFullError if the folder's disk has less free space than the minimum."""
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise DiskFullError(
            f"only {free // 1024**2} MiB are free on the disk of {folder}, but "
            f"{min_free_bytes // 1024**2} MiB are required; free space, or set a folder on another "
            "disk with FOREBAY_STATE"
        )
