"""Run the AWS emulator, with its state and temporary files inside the state folder only.

A start deploys to an empty emulator, which is then stopped in an orderly way, so that it writes its
state. A second emulator serves from that state and from the archive's objects. So the deployment
never finds an existing bucket, and state that a crash left half-written is never read: only the
objects outlive a run, and the emulator writes each object when it is put.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devtools import node
from local.credentials import ACCESS_KEY_ID, OWN_KEY_HEADER, derive_own_key, read_secret_key
from local.processes import Child, Spec, StopOrder
from local.requests import is_answering
from local.settings import ACCOUNT, REGION, LocalSettings
from local.supervisor import Supervisor

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of an emulator."""

    #: Everything but objects: read at the start, written at an orderly stop.
    state: Path
    #: The objects of all buckets.
    objects: Path
    #: Code of Lambda workers and other files that are not needed after the run.
    temporary: Path


def start(supervisor: Supervisor, settings: LocalSettings, folders: Folders, *, name: str) -> Child:
    """Empty the temporary folder, start the emulator, and return when it is ready."""
    # A killed emulator leaves its workers' code in this folder.
    shutil.rmtree(folders.temporary, ignore_errors=True)
    folders.temporary.mkdir(parents=True)
    child = supervisor.start(
        Spec(
            name=name,
            command=[sys.executable, "-m", "local.emulator_front"],
            log=settings.logs / f"{name}.log",
            rank=StopOrder.EMULATOR,
            # The CDK's own functions need Node.js.
            env={
                **node.build_environment(build_client_environment(settings)),
                **_build_variables(settings, folders),
            },
            cwd=folders.temporary,
            patience_seconds=_STOP_SECONDS,
        )
    )
    headers = {OWN_KEY_HEADER: derive_own_key(read_secret_key(settings))}
    supervisor.wait_until(
        lambda: is_answering(settings.ports.emulator, "/_ministack/ready", headers),
        child=child,
        timeout_seconds=_READY_SECONDS,
    )
    return child


def build_client_environment(settings: LocalSettings) -> dict[str, str]:
    """Return the process's environment, with every AWS variable pointing at the emulator.

    Raises:
        StateUnusableError: the stack has never been started, so it has no credentials.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        # A profile or a proxy must not direct a local call to another server.
        if not name.startswith(("AWS_", "CDK_", "PYTHON"))
        and name.lower() not in ("http_proxy", "https_proxy", "all_proxy")
    }
    return inherited | {
        "AWS_ENDPOINT_URL": settings.emulator_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": read_secret_key(settings),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _build_variables(settings: LocalSettings, folders: Folders) -> Mapping[str, str]:
    return {
        "PYTHONPATH": str(settings.root),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(settings.ports.emulator),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folders.state),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folders.objects),
        "TMPDIR": str(folders.temporary),
        # The emulator would remove containers that it takes for its own; the stack needs no Docker.
        "DOCKER_HOST": "unix:///nonexistent",
        # Each of these services would listen on its own port.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
