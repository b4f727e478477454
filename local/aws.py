"""The AWS calls that the start-up code itself makes, all of them to the emulator."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from forebay.aws.archive import Archive
from forebay.aws.queue import Queue
from forebay.errors import TransientError
from local.credentials import ACCESS_KEY_ID, secret_key
from local.errors import ToolFailedError
from local.settings import REGION, LocalSettings

_CONFIG = Config(
    connect_timeout=5,
    # The migrate function may take that long; everything else answers at once.
    read_timeout=300,
    retries={"total_max_attempts": 1},
    s3={"addressing_style": "path"},
    proxies={},  # not even those that the environment names
)
_NOTHING_OF_THE_USERS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class Emulated:
    """The emulator's services.

    Every method raises ToolFailedError where the emulator refuses or does not answer.
    """

    def __init__(self, settings: LocalSettings) -> None:
        """The services of that stack's emulator."""
        self._url = settings.emulator_url
        # Never the user's own credentials, region, profile or files.
        self._session = boto3.Session(
            botocore_session=botocore.session.Session(session_vars=_NOTHING_OF_THE_USERS),
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=secret_key(settings),
            region_name=REGION,
        )

    def make_bucket(self, name: str) -> None:
        """Makes a bucket that is in nobody's stack."""
        with self.translated():
            s3 = self._session.client("s3", endpoint_url=self._url, config=_CONFIG)
            s3.create_bucket(Bucket=name)

    def archive(self, bucket: str) -> Archive:
        """The archive; use it within `translated`."""
        return Archive(
            self._session.client("s3", endpoint_url=self._url, config=_CONFIG),
            bucket,
        )

    def queue(self, url: str) -> Queue:
        """A queue; use it within `translated`."""
        return Queue(self._session.client("sqs", endpoint_url=self._url, config=_CONFIG), url)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns what the emulator refuses into ToolFailedError."""
        try:
            yield
        except (BotoCoreError, ClientError, TransientError) as exc:
            raise ToolFailedError(f"the emulator refused what the start needs: {exc}") from exc

    def client_secret(self, user_pool_id: str, client_id: str) -> str:
        """The secret of a program that fetches tokens."""
        with self.translated():
            pools = self._session.client("cognito-idp", endpoint_url=self._url, config=_CONFIG)
            found = pools.describe_user_pool_client(UserPoolId=user_pool_id, ClientId=client_id)
        secret: str = found["UserPoolClient"]["ClientSecret"]
        return secret

    def update_code(self, function: str, package: bytes) -> None:
        """Replaces a function's code; calls that begin after the return run the new one."""
        with self.translated():
            functions = self._session.client("lambda", endpoint_url=self._url, config=_CONFIG)
            functions.update_function_code(FunctionName=function, ZipFile=package)

    def invoke(self, function: str, event: Mapping[str, str] | None = None) -> None:
        """Runs a function with that event to its end; raises too when the function does."""
        with self.translated():
            functions = self._session.client("lambda", endpoint_url=self._url, config=_CONFIG)
            answer = functions.invoke(
                FunctionName=function, Payload=json.dumps(event or {}).encode()
            )
            if "FunctionError" in answer:
                said = answer["Payload"].read().decode(errors="replace")
                raise ToolFailedError(f"the function {function} failed: {said}")
