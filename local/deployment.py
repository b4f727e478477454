"""Deploy the CDK app onto an emulator with the CDK's own CLI, and keep the result.

The kept deployment is reused until one of its sources changes: a start from it gives exactly the
same resources as a new deployment.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from devtools import node
from infra.front import OpenSettings
from infra.settings import (
    CONTEXT_VARIABLE,
    EMULATOR_ASSETS_BUCKET,
    ENVIRONMENTS,
    FunctionName,
    Settings,
)
from local import emulator, read_cache
from local.aws import Emulated
from local.outputs import ENVIRONMENT, Outputs, build_stack_name, locate_deployment, read_outputs
from local.postgres.config import READER, Cluster
from local.processes import Spec
from local.settings import LocalSettings
from local.supervisor import Supervisor

# Every source that a deployment, or the way it is kept, depends on.
_SOURCES = (
    "infra", "lambdas", "forebay", "resources", "migrations", "local/emulator.py",
    "local/emulator_front.py", "local/emulator_import.py", __file__, "alembic.ini", "cdk.json",
    "uv.lock", "package-lock.json",
)  # fmt: skip
# Written last, before the folder gets its name: a deployment that has it is complete.
_FINGERPRINT = "fingerprint"
_DATA, _SERVICE = build_stack_name("data"), build_stack_name("service")


@dataclass(frozen=True, slots=True)
class Deployed:
    """A finished deployment, as the outputs of its stacks describe it."""

    api_id: str
    stage: str
    archive_bucket: str
    queue_url: str
    dead_letter_queue_url: str
    import_queue_url: str
    #: The bucket of attachments, and the queue of its uploads; None without attachments.
    attachments_bucket: str | None
    upload_queue_url: str | None
    #: The functions' names in the emulator.
    functions: Mapping[FunctionName, str]

    @classmethod
    def from_outputs(cls, outputs: Outputs) -> "Deployed":
        """Parse the file that `cdk deploy --outputs-file` writes."""
        data, service = outputs[_DATA], outputs[_SERVICE]
        return cls(
            api_id=service["ApiId"],
            stage=service["StageName"],
            archive_bucket=data["ArchiveBucketName"],
            queue_url=data["QueueUrl"],
            dead_letter_queue_url=data["DeadLetterQueueUrl"],
            import_queue_url=data["ImportQueueUrl"],
            attachments_bucket=data.get("AttachmentsBucketName"),
            upload_queue_url=data.get("UploadQueueUrl"),
            functions={name: service[_name_output(name)] for name in get_args(FunctionName)},
        )


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployment that a state folder keeps."""

    settings: LocalSettings
    primary: Cluster
    replica: Cluster
    #: The folder of the files of the environments.
    environments: Path = ENVIRONMENTS

    def requires_credentials(self) -> bool:
        """Return whether the API requires a token or an API key.

        Raises:
            forebay.errors.SettingsError: the environment's file is wrong.
        """
        api = Settings.load(ENVIRONMENT, self._build_context(), folder=self.environments).api
        return api.require_api_key or not isinstance(api.authorization, OpenSettings)

    def find_kept(self) -> Deployed | None:
        """Return the last start's deployment, or None if a new deployment would differ."""
        try:
            if (self._kept / _FINGERPRINT).read_text() != self.fingerprint():
                return None
            return Deployed.from_outputs(read_outputs(self.settings))
        except (FileNotFoundError, ValueError, KeyError):
            # There is none, or it is damaged: deploy again.
            return None

    def make(self, supervisor: Supervisor) -> Deployed:
        """Deploy to an empty emulator on the stack's port, and keep the emulator's state.

        The primary must be running: the deployment migrates it.

        Raises:
            ToolFailedError: the app can't be deployed; carries the end of the CLI's output.
        """
        folder = self.settings.emulator / "deploying"
        shutil.rmtree(folder, ignore_errors=True)
        fingerprint = self.fingerprint()
        child = emulator.start(supervisor, self.settings, folder, name="deployment-emulator")
        Emulated.of(self.settings).make_bucket(EMULATOR_ASSETS_BUCKET)
        self._run_cdk(supervisor, folder)
        # The emulator writes its state only at an orderly stop.
        supervisor.stop_one(child)
        for name in ("objects", "temporary"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / _FINGERPRINT).write_text(fingerprint)
        shutil.rmtree(self._kept, ignore_errors=True)
        folder.rename(self._kept)
        return Deployed.from_outputs(read_outputs(self.settings))

    def prepare_folder(self) -> Path:
        """Return the folder of an emulator that starts from the kept state and the archive."""
        folder = self.settings.emulator
        shutil.rmtree(folder / "state", ignore_errors=True)
        shutil.copytree(self._kept / "state", folder / "state")
        return folder

    def fingerprint(self) -> str:
        """Hash every source of a deployment."""
        facts = [json.dumps(self._build_context()), sys.version, str(self.settings.ports.base)]
        return _hash_files(*(self.settings.root / name for name in _SOURCES), facts=facts)

    @property
    def _kept(self) -> Path:
        return locate_deployment(self.settings)

    def _run_cdk(self, supervisor: Supervisor, folder: Path) -> None:
        settings = self.settings
        command = [*node.build_cdk_command(settings.root), "deploy", "--all"]
        command += ["-c", f"env={ENVIRONMENT}"]
        # A change set is only useful for a review, and there is no reviewer here.
        command += ["--method", "direct", "--require-approval", "never"]
        command += ["--progress", "events", "--output", str(folder / "assembly")]
        command += ["--outputs-file", str(folder / "outputs.json")]
        env = node.build_environment(emulator.build_client_environment(settings))
        supervisor.run(
            Spec(
                name="cdk deploy",
                command=command,
                log=settings.logs / "deploy.log",
                env={
                    **env,
                    CONTEXT_VARIABLE: json.dumps(self._build_context()),
                    # `make templates` validates the templates; the first validation of a process
                    # takes most of the time of a synthesis.
                    "CDK_VALIDATION": "false",
                    "CI": "true",
                    "NO_COLOR": "1",
                    "TMPDIR": str(folder / "temporary"),
                },
                cwd=settings.root,
            )
        )

    def _build_context(self) -> dict[str, str]:
        return {
            "database_url": self.primary.url(),
            "replica_url": self.replica.url(READER),
            "firehose_endpoint": self.settings.firehose_url,
            "read_cache": read_cache.build_url(self.settings),
        }


def _name_output(function: str) -> str:
    """Return the name of the output with a function's name."""
    return f"{function.removeprefix('firehose_').capitalize()}FunctionName"


def _hash_files(*tops: Path, facts: Sequence[str] = ()) -> str:
    """Hash facts, and the names and contents of files and of all files in folders."""
    digest = hashlib.sha256("\0".join(facts).encode())
    for top in tops:
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            if "__pycache__" in file.parts or not file.is_file():
                continue
            content = file.read_bytes()
            name = f"{top.name}/{file.relative_to(top)}"
            digest.update(f"\0{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()
