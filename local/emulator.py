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
from pathlib import Path

from devtools import node
from local.credentials import ACCESS_KEY_ID, OWN_KEY_HEADER, derive_own_key, read_secret_key
from local.processes import Child, Spec, StopOrder
from local.requests import is_answering
from local.settings import ACCOUNT, REGION, LocalSettings
from local.supervisor import Supervisor

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


def start(
    supervisor: Supervisor, settings: LocalSettings, folder: Path, name: str = "emulator"
) -> Child:
    """Start the emulator, and return when it is ready.

    Args:
        supervisor: the parent of the process.
        settings: contain the ports and the keys.
        folder: has `objects` of all buckets; `state`, all else that is read at the start and
            written at an orderly stop; and `temporary`, emptied here, with the code of Lambda
            workers and other files that are not needed after the run.
        name: of the process and its log.
    """
    temporary = folder / "temporary"
    # A killed emulator leaves its workers' code there.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    child = supervisor.start(
        Spec(
            name=name,
            command=[sys.executable, "-m", "local.emulator_front"],
            log=settings.logs / f"{name}.log",
            rank=StopOrder.EMULATOR,
            # The CDK's own functions need Node.js.
            env={
                **node.build_environment(build_client_environment(settings)),
                **_build_variables(settings, folder),
            },
            cwd=temporary,
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


def _build_variables(settings: LocalSettings, folder: Path) -> Mapping[str, str]:
    return {
        "PYTHONPATH": str(settings.root),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(settings.ports.emulator),
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "MINISTACK_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(folder / "state"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "objects"),
        "TMPDIR": str(folder / "temporary"),
        # The emulator would remove containers that it takes for its own; the stack needs no Docker.
        "DOCKER_HOST": "unix:///nonexistent",
        # Each of these services would listen on its own port.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
