"""One environment's settings: read from its file, completed from the command line, checked once.

`environments/<name>.toml` says everything that differs between environments. What it can't know,
such as the ports of a local stack, is given as CDK context (`-c database_url=…`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

from forebay.errors import SettingsError
from infra.front import ApiSettings, EdgeSettings, check_front
from infra.operations import OperationsSettings
from infra.section import Section

FunctionName = Literal["write", "read", "about", "firehose_consumer", "migrate"]

ENVIRONMENTS: Final = Path(__file__).resolve().parent / "environments"

#: Context values that complete an environment, and the keys that they stand for.
CONTEXT: Final[Mapping[str, tuple[str, str]]] = {
    "database_url": ("database", "url"),
    "replica_url": ("database", "replica_url"),
    "firehose_endpoint": ("stream", "endpoint"),
}

#: Where the CLI puts files for the emulator; whoever starts the emulator makes this bucket.
EMULATOR_ASSETS_BUCKET: Final = "forebay-cdk-assets"

_GATEWAY_TIMEOUT_SECONDS = 29  # API Gateway gives up on an integration after this

Seconds = Annotated[int, Field(ge=0)]
FunctionTimeout = Annotated[int, Field(ge=1, le=900)]  # Lambda's limit
RetentionDays = Annotated[int, Field(ge=1, le=14)]  # SQS's limit


class LogSettings(Section):
    """What is logged, and how long it is kept."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    retention_days: Literal[1, 7, 14, 30, 90, 365]


class DatabaseSettings(Section):
    """Where the database is, as the functions reach it."""

    url: str
    replica_url: str
    #: How long an item or a list may take before it is a 504.
    read_timeout_seconds: Annotated[int, Field(ge=1, le=25)]


class StreamSettings(Section):
    """How long the delivery stream gathers commands before it writes an object."""

    buffer_mebibytes: Annotated[int, Field(ge=1, le=128)]
    buffer_seconds: Annotated[int, Field(ge=0, le=900)]
    #: Firehose's address, where it isn't the region's.
    endpoint: str | None = None


class QueueSettings(Section):
    """The queue between the archive and the consumer, and its dead letters."""

    retention_days: RetentionDays
    dead_letter_retention_days: RetentionDays
    #: Deliveries of one message before it becomes a dead letter.
    max_receives: Annotated[int, Field(ge=5)]

    @model_validator(mode="after")
    def _dead_letters_outlive_the_queue(self) -> Self:
        # A dead letter keeps the age that it had in the queue.
        if self.dead_letter_retention_days <= self.retention_days:
            raise ValueError("dead_letter_retention_days must be greater than retention_days")
        return self


class FunctionSettings(Section):
    """The size of one function."""

    memory_mebibytes: Annotated[int, Field(ge=128, le=10_240)]
    timeout_seconds: FunctionTimeout
    reserved_concurrency: Annotated[int, Field(ge=1)] | None = None


class FunctionsSettings(Section):
    """The sizes of all functions."""

    write: FunctionSettings
    read: FunctionSettings
    about: FunctionSettings
    firehose_consumer: FunctionSettings
    migrate: FunctionSettings

    @model_validator(mode="after")
    def _answers_before_the_gateway_gives_up(self) -> Self:
        for name in ("write", "read", "about"):
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


class ConsumerSettings(Section):
    """How the queue's messages reach the consumer."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)]
    window_seconds: Annotated[int, Field(ge=0, le=300)]
    #: The primary's connections from live traffic are bounded by this; Lambda allows no 1.
    max_concurrency: Annotated[int, Field(ge=2, le=1000)]

    @model_validator(mode="after")
    def _big_batches_need_a_window(self) -> Self:
        if self.batch_size > 10 and self.window_seconds == 0:  # noqa: PLR2004 - Lambda's rule
            raise ValueError("window_seconds must be at least 1 where batch_size is above 10")
        return self


class Settings(Section):
    """All that differs between environments."""

    #: The environment's name, which is its file's.
    name: str
    target: Literal["aws", "emulator"]
    region: str
    #: Where absent, the stacks go to whatever account the CLI is logged in to.
    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    logs: LogSettings
    database: DatabaseSettings
    stream: StreamSettings
    queue: QueueSettings
    functions: FunctionsSettings
    consumer: ConsumerSettings
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
        if reserved is not None and reserved < self.consumer.max_concurrency:
            raise ValueError(
                "functions.firehose_consumer.reserved_concurrency must be at least "
                "consumer.max_concurrency, or messages are throttled into dead letters"
            )
        return self

    @model_validator(mode="after")
    def _front_fits_together(self) -> Self:
        check_front(self.api, self.edge, region=self.region, emulated=self.emulated)
        return self

    @model_validator(mode="after")
    def _fits_the_target(self) -> Self:
        if self.emulated:
            if self.account is None:
                raise ValueError("account is required by the emulator")
            if self.stream.endpoint is None:
                raise ValueError(
                    "stream.endpoint is required, because the emulator's Firehose doesn't buffer; "
                    "give it with -c firehose_endpoint=…"
                )
            return self
        if self.stream.endpoint is not None:
            raise ValueError("stream.endpoint (-c firehose_endpoint=…) is for the emulator only")
        for key in ("url", "replica_url"):
            if urlsplit(getattr(self.database, key)).password is not None:
                raise ValueError(f"database.{key} must carry no password")
        return self


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
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


def _problem(file: Path, location: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
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
