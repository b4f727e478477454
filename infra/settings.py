"""One environment's settings: read from its file, completed from the command line, checked once.

`environments/<name>.toml` says everything that differs between environments. What it can't know,
such as the ports of a local stack, is given as CDK context (`-c database_url=…`), or in the
environment, as other users of a machine see command lines.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from forebay.errors import SettingsError
from forebay.text_files import read_text_file
from infra.database import AuroraDatabase, DatabaseSettings, ExternalDatabase, check_connections
from infra.front import ApiSettings, EdgeSettings, check_front
from infra.operations import OperationsSettings
from infra.pipeline import (
    ArchiveSettings,
    ConsumerSettings,
    QueueSettings,
    ReplaySettings,
    StreamSettings,
    SweepSettings,
)
from infra.section import Section

#: What a package is made for, which is a folder of `lambdas/`.
PackageName = Literal["write", "read", "about", "imports", "firehose_consumer", "migrate", "sweep"]
#: `status` runs the read function's package, apart from it: its requests may wait.
FunctionName = Literal[
    "write", "read", "status", "about", "imports", "firehose_consumer", "migrate", "sweep"
]

ENVIRONMENTS: Final = Path(__file__).resolve().parent / "environments"

#: Context values that complete an environment, and the keys that they stand for.
CONTEXT: Final[Mapping[str, tuple[str, str]]] = {
    "database_url": ("database", "url"),
    "replica_url": ("database", "replica_url"),
    "firehose_endpoint": ("stream", "endpoint"),
}

#: The same as a JSON object. What the command line says wins.
CONTEXT_VARIABLE: Final = "FOREBAY_CDK_CONTEXT"

#: Where the CLI puts files for the emulator; whoever starts the emulator makes this bucket.
EMULATOR_ASSETS_BUCKET: Final = "forebay-cdk-assets"

#: More often, and a database that may pause hardly would.
MIN_MINUTES_BETWEEN_WAKINGS: Final = 240

_GATEWAY_TIMEOUT_SECONDS = 29  # API Gateway gives up on an integration after this

Seconds = Annotated[int, Field(ge=0)]
FunctionTimeout = Annotated[int, Field(ge=1, le=900)]  # Lambda's limit


class LogSettings(Section):
    """What is logged, and how long it is kept."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    retention_days: Literal[1, 7, 14, 30, 90, 365]
    #: Whether X-Ray gets a trace of some calls.
    traces: bool


class FunctionSettings(Section):
    """The size of one function."""

    memory_mebibytes: Annotated[int, Field(ge=128, le=10_240)]
    timeout_seconds: FunctionTimeout
    reserved_concurrency: Annotated[int, Field(ge=1)] | None = None
    #: Instances begin as copies of one that has started already.
    snap_start: bool = True
    #: Instances that are kept waiting, and paid for while they do.
    provisioned_concurrency: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _starts_in_one_way(self) -> Self:
        provisioned = self.provisioned_concurrency
        if provisioned is None:
            return self
        if self.snap_start:
            raise ValueError(
                "snap_start and provisioned_concurrency exclude each other (a limit of Lambda): "
                "set snap_start = false to keep instances waiting"
            )
        if self.reserved_concurrency is not None and provisioned > self.reserved_concurrency:
            raise ValueError("provisioned_concurrency must be at most reserved_concurrency")
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
    def _answers_before_the_gateway_gives_up(self) -> Self:
        for name in ("write", "read", "status", "about"):
            if self.of(name).timeout_seconds > _GATEWAY_TIMEOUT_SECONDS:
                raise ValueError(
                    f"{name}.timeout_seconds must be at most {_GATEWAY_TIMEOUT_SECONDS}, "
                    "because API Gateway waits no longer"
                )
        return self

    def of(self, name: FunctionName) -> FunctionSettings:
        """The size of the named function."""
        found: FunctionSettings = getattr(self, name)
        return found


class Settings(Section):
    """All that differs between environments."""

    #: The environment's name, which is its file's. The longest name made of it is the archive's,
    #: `forebay-<env>-archive-<account>-<region>`, of which S3 takes 63 characters; RDS takes no two
    #: hyphens in a row.
    name: Annotated[str, Field(pattern=r"^[a-z](-?[a-z0-9]){0,18}$")]
    target: Literal["aws", "emulator"]
    region: str
    #: Where absent, the stacks go to whatever account the CLI is logged in to.
    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    logs: LogSettings
    database: DatabaseSettings
    archive: ArchiveSettings = ArchiveSettings()
    stream: StreamSettings
    queue: QueueSettings
    functions: FunctionsSettings
    consumer: ConsumerSettings
    replay: ReplaySettings
    sweep: SweepSettings
    #: The longest `Prefer: wait` of a status; 0 takes none.
    wait_cap_seconds: Annotated[int, Field(ge=0, le=25)] = 20
    api: ApiSettings
    #: Where absent, clients reach the API itself.
    edge: EdgeSettings | None = None
    operations: OperationsSettings = OperationsSettings()

    @classmethod
    def load(
        cls, name: str, context: Mapping[str, str | None], folder: Path = ENVIRONMENTS
    ) -> Self:
        """The settings of the named environment.

        Args:
            name: of the file, without `.toml`.
            context: values for the names in `CONTEXT`; they win over the file.
            folder: where the files are.

        Raises:
            SettingsError: no such file, or a key is unknown, missing, of the wrong type or in
                contradiction to another; names file and key, all of them at once.
        """
        file = folder / f"{name}.toml"
        if not file.is_file():
            known = ", ".join(sorted(found.stem for found in folder.glob("*.toml")))
            raise SettingsError(f"there is no environment {name!r}; known are: {known}")
        try:
            return cls.model_validate({"name": name, **_completed(_parsed(file), context)})
        except ValidationError as invalid:
            raise SettingsError(_explained(file, invalid)) from invalid

    @property
    def prefix(self) -> str:
        """What the names of this environment's stacks and resources begin with."""
        return f"forebay-{self.name}"

    @property
    def emulated(self) -> bool:
        """Whether the stacks go to the emulator of the one-machine stack."""
        return self.target == "emulator"

    @property
    def visibility_seconds(self) -> int:
        """How long a message is hidden while the consumer works on it.

        Lambda asks for six times the function's timeout, besides the batching window.
        """
        timeout = self.functions.firehose_consumer.timeout_seconds
        return 6 * timeout + self.consumer.window_seconds

    @model_validator(mode="after")
    def _concurrency_is_reserved_for_the_pollers(self) -> Self:
        reserved = self.functions.firehose_consumer.reserved_concurrency
        used = self.consumer.max_concurrency + self.replay.max_concurrency
        if reserved is not None and reserved < used:
            raise ValueError(
                "functions.firehose_consumer.reserved_concurrency must be at least "
                "consumer.max_concurrency and replay.max_concurrency together, or messages are "
                "throttled into dead letters"
            )
        return self

    @property
    def standby(self) -> bool:
        """Whether this region only reads, until it is promoted after a disaster."""
        return isinstance(self.database, AuroraDatabase) and self.database.secondary

    @model_validator(mode="after")
    def _connections_suffice(self) -> Self:
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
    def _sweeps_let_the_database_sleep(self) -> Self:
        database = self.database
        if not isinstance(database, AuroraDatabase) or not database.pauses:
            return self
        if self.sweep.every_minutes < MIN_MINUTES_BETWEEN_WAKINGS:
            raise ValueError(
                f"sweep.every_minutes must be at least {MIN_MINUTES_BETWEEN_WAKINGS} where "
                "database.serverless.pause_after_seconds is given: each sweep wakes the database"
            )
        return self

    @model_validator(mode="after")
    def _a_wait_can_end(self) -> Self:
        if self.wait_cap_seconds and self.stream.buffer_seconds >= self.wait_cap_seconds:
            raise ValueError(
                f"stream.buffer_seconds must be less than wait_cap_seconds "
                f"({self.wait_cap_seconds}), or no `Prefer: wait` would ever see its command "
                "applied; set wait_cap_seconds = 0 to take no such requests"
            )
        if self.wait_cap_seconds >= self.functions.status.timeout_seconds:
            raise ValueError(
                "wait_cap_seconds must be less than functions.status.timeout_seconds, "
                "or a wait ends as a failure"
            )
        return self

    @model_validator(mode="after")
    def _reads_end_before_the_function(self) -> Self:
        for name in ("read", "status"):
            if self.database.read_timeout_seconds >= self.functions.of(name).timeout_seconds:
                raise ValueError(
                    f"database.read_timeout_seconds must be less than "
                    f"functions.{name}.timeout_seconds, or the function is killed before the "
                    "database gives up"
                )
        return self

    @model_validator(mode="after")
    def _copies_go_elsewhere(self) -> Self:
        copy = self.archive.copy_to
        if copy is not None and copy.region == self.region:
            raise ValueError("archive.copy_to.region must be another region than the environment's")
        return self

    @model_validator(mode="after")
    def _front_fits_together(self) -> Self:
        check_front(self.api, self.edge, region=self.region, emulated=self.emulated)
        return self

    @model_validator(mode="after")
    def _fits_the_target(self) -> Self:
        if self.emulated:
            return self._fits_the_emulator()
        if self.stream.endpoint is not None:
            raise ValueError("stream.endpoint (-c firehose_endpoint=…) is for the emulator only")
        if isinstance(self.database, ExternalDatabase):
            self.database.check_no_password()
        return self

    def _fits_the_emulator(self) -> Self:
        if self.account is None:
            raise ValueError("account is required by the emulator")
        if self.stream.endpoint is None:
            raise ValueError(
                "stream.endpoint is required, because the emulator's Firehose doesn't buffer; "
                "give it with -c firehose_endpoint=…"
            )
        if not isinstance(self.database, ExternalDatabase):
            raise ValueError(  # noqa: TRY004 - pydantic takes nothing else
                "database.kind must be 'external': the emulator has no databases"
            )
        for name in FunctionsSettings.model_fields:
            found: FunctionSettings = getattr(self.functions, name)
            if found.snap_start or found.provisioned_concurrency is not None:
                raise ValueError(
                    f"functions.{name}.snap_start must be false, and provisioned_concurrency "
                    "absent: the emulator has neither"
                )
        if self.archive.copy_to is not None or self.archive.lock is not None:
            raise ValueError("archive.copy_to and archive.lock are for AWS only")
        return self


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text_file(file))
    except tomllib.TOMLDecodeError as broken:
        raise SettingsError(f"{file} is not valid TOML: {broken}") from broken


def _completed(values: Mapping[str, Any], context: Mapping[str, str | None]) -> dict[str, Any]:
    completed = dict(values)
    for name, (section, key) in CONTEXT.items():
        value = context.get(name)
        if value is not None:
            completed[section] = {**completed.get(section, {}), key: value}
    return completed


def _explained(file: Path, invalid: ValidationError) -> str:
    """One line per problem, each beginning with file and key."""
    return "\n".join(_problem(file, error["loc"], error) for error in invalid.errors())


def _without_kinds(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """As the file has it: behind a table of several kinds, pydantic names the kind."""
    return tuple(
        part
        for before, part in zip((None, *location), location, strict=False)
        if before not in {"database", "authorization"} or not _is_kind(part)
    )


def _is_kind(part: int | str) -> bool:
    return part in {"external", "rds", "aurora", "none", "cognito", "iam", "lambda"}


def _problem(file: Path, location: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    location = _without_kinds(location)
    key = ".".join(str(part) for part in location)
    where = f"{file}: {key}" if key else f"{file}"
    match error["type"]:
        case "missing":
            hint = next((name for name, path in CONTEXT.items() if path == location), None)
            return f"{where} is missing" + (f"; give it with -c {hint}=…" if hint else "")
        case "extra_forbidden":
            return f"{where} is not a setting"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case _:
            return f"{where}: {error['msg']}, not {error['input']!r}"


def given_context(env: Mapping[str, str]) -> dict[str, str | None]:
    """The context values that the environment variable gives; none where it is not set.

    Raises:
        SettingsError: it is no JSON object of known names and texts.
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
            f"{CONTEXT_VARIABLE} must be a JSON object whose names are of {', '.join(CONTEXT)}, "
            "and whose values are texts"
        )
    return values
