"""The settings of an environment that determine its bill, from `infra/environments/<name>.toml`.

The file has more settings, which the synthesis checks (infra/settings.py). This module repeats the
names and the defaults of the settings that have a price, because the operators' tool can be
installed without the CDK app; a test compares both.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from forebay.text_files import read_text_file
from ops.errors import UsageError

#: The variable is that of `infra.settings`, which this tool does not import.
ENVIRONMENTS: Final = Path(__file__).resolve().parents[2] / (
    os.environ.get("FOREBAY_ENVIRONMENTS") or "infra/environments"
)


class Section(BaseModel):
    """A table of the file; settings without a price are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Logs(Section):
    """The logs and traces of all functions."""

    retention_days: int
    traces: bool


class Function(Section):
    """A function's size."""

    memory_mebibytes: int
    snap_start: bool = True
    provisioned_concurrency: int | None = None

    @property
    def gigabytes(self) -> float:
        """The memory in Lambda's unit of billing."""
        return self.memory_mebibytes / 1024


class Functions(Section):
    """The sizes of all functions."""

    write: Function
    read: Function
    status: Function
    about: Function
    imports: Function
    firehose_consumer: Function
    migrate: Function
    sweep: Function

    def list_all(self) -> list[Function]:
        """Return every function."""
        return [getattr(self, name) for name in type(self).model_fields]


class ExternalDatabase(Section):
    """An existing database, which is not on this bill."""

    kind: Literal["external"]


class RdsDatabase(Section):
    """An RDS instance and its read replicas."""

    kind: Literal["rds"]
    instance_class: str
    replica_class: str | None = None
    replicas: int
    multi_az: bool
    storage_gibibytes: int
    proxy: bool = False


class Serverless(Section):
    """The capacity of Aurora Serverless v2."""

    min_units: float
    max_units: float
    pause_after_seconds: int | None = None


class GlobalRole(Section):
    """The role of the cluster in a global database."""

    role: Literal["primary", "secondary"]


class AuroraDatabase(Section):
    """An Aurora cluster."""

    kind: Literal["aurora"]
    instance_class: str | None = None
    serverless: Serverless | None = None
    replicas: int
    io_optimized: bool = False
    proxy: bool = False
    in_global: GlobalRole | None = None

    @property
    def secondary(self) -> bool:
        """True if this cluster follows a primary in another region, and accepts no writes."""
        return self.in_global is not None and self.in_global.role == "secondary"

    @property
    def instances(self) -> int:
        """The number of writers and readers; a secondary region has no writer."""
        return max(1, self.replicas) if self.secondary else 1 + self.replicas


ManagedDatabase = RdsDatabase | AuroraDatabase


class Archive(Section):
    """The storage of the archive."""

    glacier_after_days: int | None = None


class Stream(Section):
    """The delivery streams."""

    buffer_mebibytes: int
    buffer_seconds: int
    count: int = 1


class Idempotency(Section):
    """The records of requests with an Idempotency-Key."""

    retention_hours: int = 24


class Attachments(Section):
    """The bucket of attachments."""


class Sweep(Section):
    """The interval of the sweep."""

    every_minutes: int


class Cache(Section):
    """The stage cache."""

    size_gigabytes: str


class Api(Section):
    """The API."""

    cache: Cache


class Edge(Section):
    """CloudFront and its web ACL."""

    origin_secrets: Annotated[tuple[str, ...], Strict(strict=False)] = ("1",)


class ReadCache(Section):
    """The nodes of the read cache."""

    #: None on the emulator.
    node_type: str | None = None
    replicas: int = 0


class Operations(Section):
    """The runner of operators' commands."""

    runner: bool = False


class Deployment(Section):
    """How calls move to new code."""

    canary: str = "off"


class Encryption(Section):
    """The keys of the environment."""

    key: str = "managed"
    former_keys: Annotated[tuple[str, ...], Strict(strict=False)] = ()

    @property
    def creates_key(self) -> bool:
        """True if the environment creates a key; others are not on its bill."""
        return "own" in (self.key, *self.former_keys)


class Settings(Section):
    """The priced settings of one environment."""

    target: Literal["aws", "emulator"]
    region: str
    logs: Logs
    database: Annotated[
        ExternalDatabase | RdsDatabase | AuroraDatabase, Field(discriminator="kind")
    ]
    archive: Archive = Archive()
    stream: Stream
    idempotency: Idempotency | None = None
    attachments: Attachments | None = None
    functions: Functions
    sweep: Sweep
    api: Api
    edge: Edge | None = None
    read_cache: ReadCache | None = None
    operations: Operations = Operations()
    deployment: Deployment = Deployment()
    encryption: Encryption = Encryption()


def load(name: str, folder: Path = ENVIRONMENTS) -> Settings:
    """Return the settings of an environment on AWS.

    Args:
        name: the name of the file, without `.toml`.
        folder: the folder of the files.

    Raises:
        UsageError: there is no such file, it lacks a setting or has an invalid value, or it is for
            the emulator.
        forebay.errors.SettingsError: the file is not UTF-8.
    """
    names = sorted(file.stem for file in folder.glob("*.toml"))
    if name not in names:
        raise UsageError(
            f"--env {name!r} has no file in {folder}; the environments are {', '.join(names)}"
        )
    file = folder / f"{name}.toml"
    settings = _parse(file, read_text_file(file))
    if settings.target == "emulator":
        raise UsageError(f"--env {name} runs on one machine and costs nothing on AWS")
    return settings


def _parse(file: Path, text: str) -> Settings:
    try:
        values: dict[str, Any] = tomllib.loads(text)
        return Settings.model_validate(values)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{file} is not valid TOML: {exc}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{file}: {key}: {first['msg']}; `make synth ENV={file.stem}` checks all settings"
        ) from exc
