"""Calls of AWS's services; all of them go to the emulator."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.errors import TransientError
from local.credentials import ACCESS_KEY_ID, read_secret_key
from local.errors import ToolFailedError
from local.settings import REGION, LocalSettings

_START_SECONDS = 300  # a migration may take that long; all other calls return immediately
_NOTHING_OF_THE_USERS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class Emulated:
    """The emulator's services.

    Every method but `client` raises ToolFailedError if the emulator refuses a call or does not
    answer.
    """

    def __init__(self, url: str, key: str) -> None:
        """Open a session with the emulator at the URL, with its secret access key."""
        self._url = url
        # Never the user's own credentials, region, profile or files.
        self._session = boto3.Session(
            botocore_session=botocore.session.Session(session_vars=_NOTHING_OF_THE_USERS),
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=key,
            region_name=REGION,
        )

    @classmethod
    def of(cls, settings: LocalSettings) -> Self:
        """Open a session with the emulator of a stack."""
        return cls(settings.emulator_url, read_secret_key(settings))

    def client(self, service: str, seconds: float = _START_SECONDS) -> Any:  # noqa: ANN401
        """Make a client of any service that waits so long for an answer, and does not retry."""
        config = Config(
            connect_timeout=5,
            read_timeout=seconds,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            proxies={},  # not even the proxies that the environment names
        )
        client: Any = self._session.client
        return client(service, endpoint_url=self._url, config=config)

    def make_bucket(self, name: str) -> None:
        """Create a bucket that belongs to no CDK stack."""
        with self.translated():
            self.client("s3").create_bucket(Bucket=name)

    def archive(self, bucket: str) -> Archive:
        """Return the archive; use it within `translated`."""
        return Archive(self.client("s3"), bucket)

    def queue(self, url: str) -> Queue:
        """Return a queue; use it within `translated`."""
        return Queue(self.client("sqs"), url)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the emulator into ToolFailedError."""
        try:
            yield
        except (BotoCoreError, ClientError, TransientError) as exc:
            raise ToolFailedError(f"the emulator refused a call of the start: {exc}") from exc

    def client_secret(self, user_pool_id: str, client_id: str) -> str:
        """The secret of a program that fetches tokens."""
        with self.translated():
            pools = self.client("cognito-idp")
            answer = pools.describe_user_pool_client(UserPoolId=user_pool_id, ClientId=client_id)
        secret: str = answer["UserPoolClient"]["ClientSecret"]
        return secret

    def update_code(self, function: str, package: bytes) -> None:
        """Replace a function's code; calls that begin after the return run the new code."""
        with self.translated():
            self.client("lambda").update_function_code(FunctionName=function, ZipFile=package)

    def invoke(self, function: str, event: Mapping[str, object] | None = None) -> None:
        """Run a function with that event to its end; also raises if the function fails."""
        with self.translated():
            payload = json.dumps(event or {}).encode()
            answer = self.client("lambda").invoke(FunctionName=function, Payload=payload)
            if "FunctionError" in answer:
                message = answer["Payload"].read().decode(errors="replace")
                raise ToolFailedError(f"the function {function} failed: {message}")
