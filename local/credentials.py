"""The random secret of a state folder, and the passwords and keys derived from it."""

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from local.errors import CredentialsMissingError, StateUnusableError
from local.settings import ACCOUNT, LocalSettings

#: Emulators read an access key id of twelve digits as an account id.
ACCESS_KEY_ID = ACCOUNT

#: Carries the own key in requests that can't be signed, as `Authorization` is the client's.
OWN_KEY_HEADER = "x-forebay-own-key"

_VARIABLE = "AWS_SECRET_ACCESS_KEY"
_BYTES = 32
_HEX_DIGITS = frozenset("0123456789abcdef")


def make_secret(file: Path) -> None:
    """Make a secret that only the file's owner can read, unless the file exists.

    Call it while no other start uses the folder.

    Raises:
        StateUnusableError: the existing file is not a secret.
    """
    if not file.exists():
        # Written under another name, then renamed: a crash must not leave an empty secret.
        descriptor, name = tempfile.mkstemp(prefix="secret-", dir=file.parent)
        with os.fdopen(descriptor, "w") as new:
            new.write(secrets.token_hex(_BYTES))
        Path(name).replace(file)
    file.chmod(0o600)
    read_secret(file)


def read_secret(file: Path) -> bytes:
    """Read the secret; raises StateUnusableError if it is missing, damaged or another user's."""
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        raise StateUnusableError(
            f"no secret exists at {file}: start the stack once (`make run`), "
            "or set its folder with FOREBAY_STATE"
        ) from None
    except PermissionError:
        raise StateUnusableError(
            f"{file} is readable only by the user who runs the stack; run the command as that user"
        ) from None
    if len(text) != 2 * _BYTES or not _HEX_DIGITS.issuperset(text):
        raise StateUnusableError(
            f"{file} is damaged; stop the stack and delete it; the next start creates another"
        )
    return bytes.fromhex(text)


def derive(secret: bytes, purpose: str) -> str:
    """Derive a password for one purpose, 64 hexadecimal digits that reveal no other password.

    It is HMAC-SHA256 of the purpose under the secret (RFC 2104).
    """
    return hmac.new(secret, purpose.encode(), hashlib.sha256).hexdigest()


def read_secret_key(settings: LocalSettings) -> str:
    """Return the emulator's secret access key; raises StateUnusableError as `read_secret`."""
    return derive(read_secret(settings.secret), "aws")


def get_secret_key(env: Mapping[str, str] = os.environ) -> str:
    """Return the secret access key that a server of the stack was started with.

    Raises:
        CredentialsMissingError: the environment has no key.
    """
    key = env.get(_VARIABLE)
    if not key:
        raise CredentialsMissingError(
            f"{_VARIABLE} is not set; `make credentials` prints the value of a stack"
        )
    return key


def derive_own_key(key: str) -> str:
    """Derive the key that the stack's own servers send the emulator."""
    return derive(key.encode(), "own servers")
