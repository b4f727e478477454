"""The AWS calls that the start-up code itself makes, all of them to the emulator."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.errors import ToolFailedError
from local.settings import REGION, LocalSettings

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

_SQS_BATCH_MAX = 10  # messages of one SendMessageBatch

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
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
            region_name=REGION,
        )

    def make_bucket(self, name: str) -> None:
        """Makes a bucket that is in nobody's stack."""
        with _translated():
            s3 = self._session.client("s3", endpoint_url=self._url, config=_CONFIG)
            s3.create_bucket(Bucket=name)

    def list_keys(self, bucket: str, prefix: str) -> list[str]:
        """The keys of all objects below a prefix."""
        with _translated():
            s3 = self._session.client("s3", endpoint_url=self._url, config=_CONFIG)
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def send(self, queue_url: str, bodies: Sequence[str]) -> None:
        """Puts messages into a queue, all of them or it raises."""
        with _translated():
            sqs = self._session.client("sqs", endpoint_url=self._url, config=_CONFIG)
            for start in range(0, len(bodies), _SQS_BATCH_MAX):
                entries: list[SendMessageBatchRequestEntryTypeDef] = [
                    {"Id": str(number), "MessageBody": body}
                    for number, body in enumerate(bodies[start : start + _SQS_BATCH_MAX])
                ]
                answer = sqs.send_message_batch(QueueUrl=queue_url, Entries=entries)
                if answer.get("Failed"):
                    raise ToolFailedError(f"{queue_url} refused messages: {answer['Failed']}")

    def update_code(self, function: str, package: bytes) -> None:
        """Replaces a function's code; calls that begin after the return run the new one."""
        with _translated():
            functions = self._session.client("lambda", endpoint_url=self._url, config=_CONFIG)
            functions.update_function_code(FunctionName=function, ZipFile=package)

    def invoke(self, function: str) -> None:
        """Runs a function with an empty event to its end; raises too when the function does."""
        with _translated():
            functions = self._session.client("lambda", endpoint_url=self._url, config=_CONFIG)
            answer = functions.invoke(FunctionName=function, Payload=b"{}")
            if "FunctionError" in answer:
                said = answer["Payload"].read().decode(errors="replace")
                raise ToolFailedError(f"the function {function} failed: {said}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as exc:
        raise ToolFailedError(f"the emulator refused what the start needs: {exc}") from exc
