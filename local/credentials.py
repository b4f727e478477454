"""The AWS credentials of one stack, and how its own servers prove themselves to the emulator."""

import hashlib
import hmac
import os
from collections.abc import Mapping

from local.errors import CredentialsMissingError
from local.secret import derive, read_secret
from local.settings import ACCOUNT, LocalSettings

#: Emulators take an access key of twelve digits for the account that it names.
ACCESS_KEY_ID = ACCOUNT

#: Carries `own_key` in requests that can't be signed, as their `Authorization` is the client's.
OWN_KEY_HEADER = "x-forebay-own-key"

_VARIABLE = "AWS_SECRET_ACCESS_KEY"


def secret_key(settings: LocalSettings) -> str:
    """The secret access key of the stack's emulator.

    Raises:
        StateUnusableError: the stack has never been started.
    """
    return derive(read_secret(settings.secret), "aws")


def given_secret_key(env: Mapping[str, str] = os.environ) -> str:
    """The secret access key that a server of the stack was started with.

    Raises:
        CredentialsMissingError: its environment has none.
    """
    key = env.get(_VARIABLE)
    if not key:
        raise CredentialsMissingError(
            f"{_VARIABLE} is not set; `make credentials` prints that of a stack"
        )
    return key


def own_key(key: str) -> str:
    """What the stack's own servers show the emulator, made from the secret access key."""
    return hmac.new(key.encode(), b"own servers", hashlib.sha256).hexdigest()
