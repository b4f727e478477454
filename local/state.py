"""The state folder: its lock, its free space, the permissions of its contents, and its end."""

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from local.credentials import make_secret
from local.errors import StateUnusableError
from local.settings import LocalSettings

# Held by a start, and by its warden, which outlives a killed start until its servers have ended.
LOCK_NAMES = ("lock", "warden.lock")


@contextlib.contextmanager
def lock_state(state: Path, *, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[int]:
    """Lock the state folder for one start; yields the descriptor that its warden keeps open.

    The kernel releases a lock when the last process with the descriptor ends, however it ends.
    If the last start was killed and its warden still ends the servers, wait for the warden.

    Args:
        state: the folder; made if it is missing.
        on_wait: called once, with a sentence that explains the delay.

    Raises:
        StateUnusableError: another start uses the folder.
        StateUnusableError: the folder can't be made or written.
    """
    with contextlib.ExitStack() as files:
        try:
            state.mkdir(parents=True, exist_ok=True)
            lock, warden = (files.enter_context((state / name).open("a+")) for name in LOCK_NAMES)
        except OSError as exc:
            raise StateUnusableError(
                f"the state folder {state} can't be used ({exc.strerror}); "
                "set another folder with FOREBAY_STATE"
            ) from exc
        if not _take(lock):
            lock.seek(0)
            raise StateUnusableError(
                f"process {lock.read()} already runs the stack on {state}; stop it, "
                "or use another folder and port: FOREBAY_STATE=… make run PORT=…"
            )
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        if not _take(warden):
            on_wait("an earlier start was killed; waiting until its servers are stopped")
            fcntl.flock(warden, fcntl.LOCK_EX)
        yield warden.fileno()


def _take(file: TextIO) -> bool:
    """Lock the file, unless another process has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def check_free_space(folder: Path, min_free_bytes: int) -> None:
    """Raise StateUnusableError if the folder's disk has less free space than the minimum."""
    free = shutil.disk_usage(folder).free
    if free < min_free_bytes:
        raise StateUnusableError(
            f"only {free // 1024**2} MiB are free on the disk of {folder}, but "
            f"{min_free_bytes // 1024**2} MiB are required; free space, or set a folder on another "
            "disk with FOREBAY_STATE"
        )


def reset(settings: LocalSettings, *, assume_yes: bool = False) -> int:
    """Delete the databases, the archive and all other files of the stack in its state folder.

    Returns:
        The exit code: 0, also if there was no state; 1 if the user did not confirm.
    """
    if not any(path.exists() for path in _list_files(settings)):
        sys.stdout.write(f"no state exists at {settings.state}\n")
        return 0
    with lock_state(settings.state):
        if not assume_yes and not _ask_user(settings):
            sys.stdout.write("nothing was deleted\n")
            return 1
        for path in _list_files(settings):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    # Fails, and is ignored, if the folder holds other files.
    with contextlib.suppress(OSError):
        settings.state.rmdir()
    sys.stdout.write(f"deleted the state at {settings.state}\n")
    return 0


def _list_files(settings: LocalSettings) -> list[Path]:
    """Return the files of the stack; with a wrong FOREBAY_STATE the user's own files survive."""
    return [
        settings.postgres,
        settings.emulator,
        settings.firehose,
        settings.logs,
        settings.secret,
        settings.addresses,
        *(settings.state / name for name in LOCK_NAMES),
    ]


def _ask_user(settings: LocalSettings) -> bool:
    files = (path for top in _list_files(settings) for path in (top, *top.rglob("*")))
    mebibytes = sum(path.lstat().st_size for path in files if path.is_file()) / 1024**2
    sys.stdout.write(
        f"Delete both databases and the archive at {settings.state} ({mebibytes:,.0f} MiB)? [y/N] "
    )
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
