"""One environment's settings: read from its file, completed from the command line, and checked.

`environments/<name>.toml` contains everything that differs between environments. Values that are
unknown in advance, such as the ports of a local stack, are given as CDK context
(`-c database_url=…`), or in an environment variable, because other users of a machine can see
command lines.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from forebay.errors import SettingsError
from forebay.text_files import read_text_file
from infra.database import AuroraDatabase, DatabaseSettings, ExternalDatabase, check_connections
from infra.deployment import CANARY_FUNCTIONS, DeploymentSettings
from infra.encryption import EncryptionSettings
from infra.front import ApiSettings, EdgeSettings, check_front
from infra.operations import OperationsSettings
from infra.pipeline import (
    ArchiveSettings,
    AttachmentSettings,
    ConsumerSettings,
    IdempotencySettings,
    QueueSettings,
    ReplaySettings,
    StreamSettings,
    SweepSettings,
)
from infra.read_cache import ReadCacheSettings, check_read_cache
from infra.section import Section

#: A package, named after its folder of `lambdas/`.
PackageName = Literal["write", "read", "about", "imports", "consumer", "migrate", "sweep"]
#: A deployed function, as environments and AWS name it.
FunctionName = Literal[
    "write", "read", "status", "about", "imports", "firehose_consumer", "migrate", "sweep"
]
#: The package that each function runs.
PACKAGE_OF: Final[Mapping[FunctionName, PackageName]] = {
    "write": "write",
    "read": "read",
    # A function of its own: its requests may wait.
    "status": "read",
    "about": "about",
    "imports": "imports",
    # Another name would replace the deployed function.
    "firehose_consumer": "consumer",
    "migrate": "migrate",
    "sweep": "sweep",
}

#: Names another folder of environments, relative to the checkout; the tests use one of their own.
ENVIRONMENTS_VARIABLE: Final = "FOREBAY_ENVIRONMENTS"
ENVIRONMENTS: Final = Path(__file__).resolve().parents[1] / (
    os.environ.get(ENVIRONMENTS_VARIABLE) or "infra/environments"
)

#: Context values that complete an environment, and the keys that they set.
CONTEXT: Final[Mapping[str, tuple[str, str]]] = {
    "database_url": ("database", "url"),
    "replica_url": ("database", "replica_url"),
    "firehose_endpoint": ("stream", "endpoint"),
    "read_cache": ("read_cache", "address"),
    "canary": ("deployment", "canary"),
}

#: The same as a JSON object. The command line takes precedence.
CONTEXT_VARIABLE: Final = "FOREBAY_CDK_CONTEXT"

#: The CLI's bucket for files on the emulator; the code that starts the emulator creates it.
EMULATOR_ASSETS_BUCKET: Final = "forebay-cdk-assets"

#: With more frequent sweeps, a database that may pause would hardly ever pause.
MIN_MINUTES_BETWEEN_WAKINGS: Final = 240

_GATEWAY_TIMEOUT_SECONDS = 29  # API Gateway's time-out for an integration

FunctionTimeout = Annotated[int, Field(ge=1, le=900)]  # Lambda's limit


class LogSettings(Section):
    """The level of the logs, and their retention."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    retention_days: Literal[1, 7, 14, 30, 90, 365]
    #: True if X-Ray traces some of the calls.
    traces: bool


class FunctionSettings(Section):
    """The size of one function."""

    memory_mebibytes: Annotated[int, Field(ge=128, le=10_240)]
    timeout_seconds: FunctionTimeout
    reserved_concurrency: Annotated[int, Field(ge=1)] | None = None
    #: Start instances from a snapshot of one that has already started.
    snap_start: bool = True
    #: Instances that are kept ready, and billed all the time.
    provisioned_concurrency: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check_starts(self) -> Self:
        provisioned = self.provisioned_concurrency
        if provisioned is None:
            return self
        if self.snap_start:
            raise ValueError(
                "snap_start and provisioned_concurrency exclude each other (a limit of Lambda): "
                "set snap_start = false to use provisioned instances"
            )
        if self.reserved_concurrency is not None and provisioned > self.reserved_concurrency:
            raise ValueError("provisioned_concurrency must not exceed reserved_concurrency")
        return self


class FunctionsSettings(Section):
    """The sizes of all functions."""

    write: FunctionSettings
    read: FunctionSettings
    status: FunctionSettings
    about: FunctionSettings
    imports: FunctionSettings
    firehose_consumer: FunctionSettings
    migrate: FunctionSettings
    sweep: FunctionSettings

    @model_validator(mode="after")
    def _check_timeouts(self) -> Self:
        for name in ("write", "read", "status", "about"):
            if self.of(name).timeout_seconds > _GATEWAY_TIMEOUT_SECONDS:
                raise ValueError(
                    f"{name}.timeout_seconds must be at most {_GATEWAY_TIMEOUT_SECONDS}, "
                    "the time-out of API Gateway"
                )
        return self

    def of(self, name: FunctionName) -> FunctionSettings:
        """The size of the named function."""
        settings: FunctionSettings = getattr(self, name)
        return settings


class Settings(Section):
    """All settings that differ between environments."""

    #: The environment's name, which is its file's. The longest name derived from it is the
    #: archive's, `forebay-<env>-archive-<account>-<region>`; S3 accepts 63 characters. RDS accepts
    #: no two hyphens in a row.
    name: Annotated[str, Field(pattern=r"^[a-z](-?[a-z0-9])*$", max_length=19)]
    target: Literal["aws", "emulator"]
    region: str
    #: None: the stacks go to the account that the CLI is logged in to.
    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    logs: LogSettings
    database: DatabaseSettings
    archive: ArchiveSettings = ArchiveSettings()
    stream: StreamSettings
    #: None: no table of records; a key guarantees what its derived keys do.
    idempotency: IdempotencySettings | None = None
    #: None: no bucket; items have no attachments.
    attachments: AttachmentSettings | None = None
    queue: QueueSettings
    functions: FunctionsSettings
    consumer: ConsumerSettings
    replay: ReplaySettings
    sweep: SweepSettings
    #: The longest `Prefer: wait` of a status; 0 accepts none.
    wait_cap_seconds: Annotated[int, Field(ge=0, le=25)] = 20
    api: ApiSettings
    #: None: clients reach the API directly.
    edge: EdgeSettings | None = None
    #: None: the read function always asks the replicas.
    read_cache: ReadCacheSettings | None = None
    operations: OperationsSettings = OperationsSettings()
    deployment: DeploymentSettings = DeploymentSettings()
    encryption: EncryptionSettings = EncryptionSettings()

    @classmethod
    def load(
        cls, name: str, context: Mapping[str, str | None], folder: Path = ENVIRONMENTS
    ) -> Self:
        """Load the settings of the named environment.

        Args:
            name: the file's name, without `.toml`.
            context: values for the names in `CONTEXT`; they override the file.
            folder: the folder of the files.

        Raises:
            SettingsError: the file is missing, or keys are unknown, missing, of the wrong type or
                contradict each other; the message names the file and all these keys.
        """
        file = folder / f"{name}.toml"
        if not file.is_file():
            names = ", ".join(sorted(environment.stem for environment in folder.glob("*.toml")))
            raise SettingsError(f"the environment {name!r} does not exist; choose one of: {names}")
        try:
            return cls.model_validate({"name": name, **_complete(_parse(file), context)})
        except ValidationError as invalid:
            raise SettingsError(_explain(file, invalid)) from invalid

    @property
    def prefix(self) -> str:
        """The prefix of the names of this environment's stacks and resources."""
        return f"forebay-{self.name}"

    @property
    def database_role(self) -> str:
        """The last part of the name of the database's stack."""
        return "database" if self._database_number == 1 else f"database-{self._database_number}"

    @property
    def server_name(self) -> str:
        """The name of the primary, and the beginning of its replicas' names."""
        number = self._database_number
        # Not `-2`, which is the name of an instance of the first Aurora cluster.
        return self.prefix if number == 1 else f"{self.prefix}-db{number}"

    @property
    def _database_number(self) -> int:
        return 1 if isinstance(self.database, ExternalDatabase) else self.database.number

    @property
    def emulated(self) -> bool:
        """True if the stacks go to the emulator of the one-machine stack."""
        return self.target == "emulator"

    @property
    def visibility_seconds(self) -> int:
        """How long a message is hidden while the consumer processes it.

        Lambda recommends six times the function's time-out, plus the batching window.
        """
        timeout = self.functions.firehose_consumer.timeout_seconds
        return 6 * timeout + self.consumer.window_seconds

    @model_validator(mode="after")
    def _check_reserved_concurrency(self) -> Self:
        reserved = self.functions.firehose_consumer.reserved_concurrency
        needed = self.consumer.max_concurrency + self.replay.max_concurrency
        if reserved is not None and reserved < needed:
            raise ValueError(
                "functions.firehose_consumer.reserved_concurrency must be at least "
                "the sum of consumer.max_concurrency and replay.max_concurrency, or throttled "
                "messages become dead letters"
            )
        return self

    @property
    def standby(self) -> bool:
        """True if this region only reads, until it is promoted after a disaster."""
        return isinstance(self.database, AuroraDatabase) and self.database.secondary

    @model_validator(mode="after")
    def _check_connections(self) -> Self:
        functions = self.functions
        check_connections(
            self.database,
            applying=functions.firehose_consumer.reserved_concurrency
            or self.consumer.max_concurrency + self.replay.max_concurrency,
            reading={
                "read": functions.read.reserved_concurrency,
                "status": functions.status.reserved_concurrency,
                "about": functions.about.reserved_concurrency,
                "sweep": functions.sweep.reserved_concurrency,
            },
        )
        return self

    @model_validator(mode="after")
    def _check_sweep_interval(self) -> Self:
        database = self.database
        if not isinstance(database, AuroraDatabase) or not database.pauses:
            return self
        if self.sweep.every_minutes < MIN_MINUTES_BETWEEN_WAKINGS:
            raise ValueError(
                f"sweep.every_minutes must be at least {MIN_MINUTES_BETWEEN_WAKINGS} if "
                "database.serverless.pause_after_seconds is given: each sweep wakes the database"
            )
        return self

    @model_validator(mode="after")
    def _check_wait_cap(self) -> Self:
        if self.wait_cap_seconds and self.stream.buffer_seconds >= self.wait_cap_seconds:
            raise ValueError(
                f"stream.buffer_seconds must be less than wait_cap_seconds "
                f"({self.wait_cap_seconds}), or each `Prefer: wait` would end before its command "
                "is applied; set wait_cap_seconds = 0 to disable waiting"
            )
        if self.wait_cap_seconds >= self.functions.status.timeout_seconds:
            raise ValueError(
                "wait_cap_seconds must be less than functions.status.timeout_seconds, "
                "or a long wait fails"
            )
        return self

    @model_validator(mode="after")
    def _check_read_timeout(self) -> Self:
        for name in ("read", "status"):
            if self.database.read_timeout_seconds >= self.functions.of(name).timeout_seconds:
                raise ValueError(
                    f"database.read_timeout_seconds must be less than "
                    f"functions.{name}.timeout_seconds, or the function is killed before the "
                    "query times out"
                )
        return self

    @model_validator(mode="after")
    def _check_copy(self) -> Self:
        copy = self.archive.copy_to
        if copy is not None and copy.region == self.region:
            raise ValueError("archive.copy_to.region must differ from the environment's region")
        return self

    @model_validator(mode="after")
    def _check_encryption(self) -> Self:
        for arn in self.encryption.arns:
            if arn.split(":")[3] != self.region:
                raise ValueError(f"the key {arn} must be in the environment's region")
        copy = self.archive.copy_to
        if self.encryption.used and copy is not None and copy.key is None:
            raise ValueError(
                "archive.copy_to.key is required with encryption.key: S3 copies encrypted objects "
                "only if it has the ARN of a key in the other region"
            )
        return self

    @model_validator(mode="after")
    def _check_runner(self) -> Self:
        if self.operations.runner and isinstance(self.database, ExternalDatabase):
            raise ValueError(
                "operations.runner requires a database of the environment (database.kind 'rds' or "
                "'aurora'): the runner is in its network"
            )
        return self

    @model_validator(mode="after")
    def _check_canary(self) -> Self:
        """Lambda refuses provisioned instances for an alias with two versions.

        ("Alias with weights can not be used with Provisioned Concurrency",
        aws/serverless-application-model#1296.)
        """
        for name in CANARY_FUNCTIONS if self.deployment.has_canaries else ():
            if self.functions.of(name).provisioned_concurrency is not None:
                raise ValueError(
                    f"functions.{name}.provisioned_concurrency excludes deployment.canary, "
                    "because Lambda keeps no instances ready for an alias with two versions: set "
                    f"functions.{name}.snap_start = true instead, or deployment.canary = 'off'"
                )
        return self

    @model_validator(mode="after")
    def _check_front(self) -> Self:
        check_front(self.api, self.edge, region=self.region, emulated=self.emulated)
        return self

    @model_validator(mode="after")
    def _check_read_cache(self) -> Self:
        if self.read_cache is not None:
            check_read_cache(self.read_cache, self.database, emulated=self.emulated)
        return self

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if self.emulated:
            return self._check_emulator()
        if self.stream.endpoint is not None:
            raise ValueError("stream.endpoint (-c firehose_endpoint=…) is for the emulator only")
        if isinstance(self.database, ExternalDatabase):
            self.database.check_no_password()
        return self

    def _check_emulator(self) -> Self:
        if self.account is None:
            raise ValueError("account is required by the emulator")
        if self.stream.endpoint is None:
            raise ValueError(
                "stream.endpoint is required, because the emulator's Firehose does not buffer; "
                "set it with -c firehose_endpoint=…"
            )
        if not isinstance(self.database, ExternalDatabase):
            raise ValueError(  # noqa: TRY004 - pydantic takes nothing else
                "database.kind must be 'external': the emulator has no databases"
            )
        for name in FunctionsSettings.model_fields:
            settings: FunctionSettings = getattr(self.functions, name)
            if settings.snap_start or settings.provisioned_concurrency is not None:
                raise ValueError(
                    f"functions.{name}.snap_start must be false, and provisioned_concurrency "
                    "absent: the emulator supports neither"
                )
        if self.deployment.has_canaries:
            raise ValueError("deployment.canary must be 'off': the emulator has no CodeDeploy")
        if self.encryption.used:
            raise ValueError("encryption.key must be 'managed': the emulator encrypts nothing")
        if self.archive.copy_to is not None or self.archive.lock is not None:
            raise ValueError("archive.copy_to and archive.lock are for AWS only")
        return self


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text_file(file))
    except tomllib.TOMLDecodeError as broken:
        raise SettingsError(f"{file} is not valid TOML: {broken}") from broken


def _complete(values: Mapping[str, Any], context: Mapping[str, str | None]) -> dict[str, Any]:
    complete = dict(values)
    for name, (section, key) in CONTEXT.items():
        value = context.get(name)
        # Without its section, the file disables the part.
        if value is not None and section in complete:
            complete[section] = {**complete.get(section, {}), key: value}
    return complete


def _explain(file: Path, invalid: ValidationError) -> str:
    """One line per problem, each beginning with file and key."""
    return "\n".join(_describe_problem(file, error["loc"], error) for error in invalid.errors())


def _drop_kinds(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The key as in the file: pydantic adds the kind after a table of several kinds."""
    return tuple(
        part
        for previous, part in zip((None, *location), location, strict=False)
        if (previous not in {"database", "authorization"} or not _is_kind(part))
        and not str(part).startswith(("literal[", "constrained-str"))
    )


def _is_kind(part: int | str) -> bool:
    return part in {"external", "rds", "aurora", "none", "cognito", "iam", "lambda"}


def _describe_problem(file: Path, location: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    location = _drop_kinds(location)
    key = ".".join(str(part) for part in location)
    prefix = f"{file}: {key}" if key else f"{file}"
    match error["type"]:
        case "missing":
            hint = next((name for name, path in CONTEXT.items() if path == location), None)
            return f"{prefix} is missing" + (f"; set it with -c {hint}=…" if hint else "")
        case "extra_forbidden":
            return f"{prefix} is not a setting"
        case "value_error":
            return f"{prefix}: {error['ctx']['error']}"
        case "union_tag_invalid":
            kinds = error["ctx"]["expected_tags"].replace("'", "")
            return f"{prefix}.kind is {error['ctx']['tag']!r}, but must be one of {kinds}"
        case _ if location == ("name",):
            return (
                f"{file}: {error['input']!r} is no name of an environment: it begins with a "
                "lower-case letter, and has lower-case letters, digits and single hyphens, at most "
                "19 characters"
            )
        case _:
            return f"{prefix}: {error['msg']}, not {error['input']!r}"


def read_context(env: Mapping[str, str]) -> dict[str, str | None]:
    """The context values in the environment variable; empty if it is not set.

    Raises:
        SettingsError: it is not a JSON object of known names and texts.
    """
    text = env.get(CONTEXT_VARIABLE, "{}")
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(
        name in CONTEXT and isinstance(value, str) for name, value in values.items()
    ):
        raise SettingsError(
            f"{CONTEXT_VARIABLE} must be a JSON object with the names {', '.join(CONTEXT)} and "
            "strings as values"
        )
    return values
