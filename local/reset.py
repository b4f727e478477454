"""`make reset`: deletes the state of the one-machine stack, after a confirmation."""

import contextlib
import shutil
import sys
from pathlib import Path

from local.settings import LocalSettings
from local.state import LOCK_NAMES, lock_state


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
