"""The AWS credentials of a stack, and the key that its own servers send the emulator."""

import hashlib
import hmac
import os
from collections.abc import Mapping

from local.errors import CredentialsMissingError
from local.secret import derive, read_secret
from local.settings import ACCOUNT, LocalSettings

#: Emulators read an access key id of twelve digits as an account id.
ACCESS_KEY_ID = ACCOUNT

#: Carries the own key in requests that can't be signed, as `Authorization` is the client's.
OWN_KEY_HEADER = "x-forebay-own-key"

_VARIABLE = "AWS_SECRET_ACCESS_KEY"


def read_secret_key(settings: LocalSettings) -> str:
    """Return the secret access key of the stack's emulator.

    Raises:
        StateUnusableError: the stack has never been started.
    """
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
    return hmac.new(key.encode(), b"own servers", hashlib.sha256).hexdigest()
