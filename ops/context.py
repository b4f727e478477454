"""Finds the database, the archive, the queues and the stream that a command works on.

Each is looked for in three places, in this order: the command's own option, the environment
(`FOREBAY_…`, the names that the functions use), the environment that `--env` names: `local` is the
one-machine stack of this checkout, any other one a pair of CloudFormation stacks.

A replica is used only if no place before its own names a database: the replica of one database
proves nothing about another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

import resources
from forebay.db.connect import Connection, connect
from forebay.resource.spec import ResourceSpec
from ops.archive.layout import check_layout
from ops.archive.store import ObjectStore, open_store
from ops.archive.strays import Strays
from ops.errors import UnavailableError, UsageError
from ops.local_stack import LocalStack, read_local_stack

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

LOCAL: Final = "local"

_AWS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"mode": "standard"},
}
_LOCAL_AWS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"total_max_attempts": 2},
    "s3": {"addressing_style": "path"},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that commands need to know, and every way to tell it."""

    name: str
    option: str
    variable: str


DATABASE: Final = Setting("the primary's address", "--database-url", "FOREBAY_DATABASE_URL")
REPLICA: Final = Setting("the replica's address", "--replica-url", "FOREBAY_REPLICA_URL")
ARCHIVE: Final = Setting("the archive", "--source", "FOREBAY_ARCHIVE_BUCKET")
QUEUE: Final = Setting("the consumer's queue", "--queue-url", "FOREBAY_QUEUE_URL")
DEAD_LETTERS: Final = Setting(
    "the dead-letter queue", "--dead-letter-queue-url", "FOREBAY_DEAD_LETTER_QUEUE_URL"
)
REPLAY_QUEUE: Final = Setting("the replay queue", "--replay-queue-url", "FOREBAY_REPLAY_QUEUE_URL")
REPLAY_DEAD_LETTERS: Final = Setting(
    "the replay's dead-letter queue",
    "--replay-dead-letter-queue-url",
    "FOREBAY_REPLAY_DEAD_LETTER_QUEUE_URL",
)
IMPORT_QUEUE: Final = Setting(
    "the imports' queue", "--import-queue-url", "FOREBAY_IMPORT_QUEUE_URL"
)
IMPORT_DEAD_LETTERS: Final = Setting(
    "the imports' dead-letter queue",
    "--import-dead-letter-queue-url",
    "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL",
)
STREAMS: Final = Setting("the delivery streams", "--streams", "FOREBAY_STREAMS")

#: Which output of an environment's stacks tells which setting.
_OUTPUTS: Final[Mapping[Setting, str]] = {
    DATABASE: "DatabaseUrl",
    REPLICA: "ReplicaUrl",
    ARCHIVE: "ArchiveBucketName",
    QUEUE: "QueueUrl",
    DEAD_LETTERS: "DeadLetterQueueUrl",
    REPLAY_QUEUE: "ReplayQueueUrl",
    REPLAY_DEAD_LETTERS: "ReplayDeadLetterQueueUrl",
    IMPORT_QUEUE: "ImportQueueUrl",
    IMPORT_DEAD_LETTERS: "ImportDeadLetterQueueUrl",
    STREAMS: "DeliveryStreamNames",
}


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A database that a command has connected to, as its result names it; never a password."""

    #: `primary` or `replica`, as it was configured.
    role: str
    host: str
    port: int
    database: str

    @classmethod
    def of(cls, role: str, connection: Connection) -> DatabaseServer:
        """Name the server that a connection has reached; a URL may list several hosts."""
        info = connection.info
        return cls(role, info.host, info.port, info.dbname)

    def __str__(self) -> str:
        return f"{self.role} {self.host}:{self.port}, database {self.database}"

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return asdict(self)


@dataclass(frozen=True)
class Context:
    """What one run of the command line works on; everything is looked up when first asked for."""

    #: Values of options by setting; None where the option was not given.
    options: Mapping[Setting, str | None] = field(default_factory=dict)
    #: `--env`.
    env: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: Every database that was connected to, in that order; results name them (`Console.result`).
    databases: dict[DatabaseServer, None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    #: Files of the archive that are no objects by their names; results name them too.
    strays: Strays = field(default_factory=Strays, init=False, compare=False, repr=False)

    def get(self, setting: Setting) -> str:
        """The setting's value.

        Raises:
            UsageError: it is told nowhere; names every way to tell it.
            UnavailableError: the named environment's stacks can't be asked.
        """
        found = self.find(setting)
        if found is None and setting is REPLICA and self.find(DATABASE) is not None:
            raise UsageError(
                f"{setting.name} is not known for the database that was given; "
                f"give {setting.option} too"
            )
        if found is None:
            raise UsageError(
                f"{setting.name} is not known; give {setting.option}, set {setting.variable}, "
                "or name a deployed environment with --env"
            )
        return found

    def find(self, setting: Setting) -> str | None:
        """Return the setting's value from the most explicit place, None where no place has it."""
        for place in self._places():
            # A file of variables with carriage returns leaves one at the end of each value.
            value = (place(setting) or "").strip()
            if value:
                return value
            if setting is REPLICA and place(DATABASE):
                return None  # a less explicit place names a replica of another database
        return None

    def _places(self) -> Iterator[Callable[[Setting], str | None]]:
        """Yield the places of settings, the most explicit one first."""
        yield self.options.get
        yield lambda setting: self.environment.get(setting.variable)
        yield lambda setting: self._outputs.get(_OUTPUTS[setting])

    def anew(self) -> Context:
        """One that works on the same, but has looked nothing up yet: it can go to a process."""
        return Context(self.options, self.env, self.environment)

    @cached_property
    def resources(self) -> Mapping[str, ResourceSpec]:
        """Every declared resource by its path."""
        return resources.load()

    @cached_property
    def archive(self) -> ObjectStore:
        """The archive: the bucket, or the folder, that `--source` or the environment names.

        Raises:
            UsageError: the source does not have an archive's layout.
            TransientError: it did not answer.
        """
        store = open_store(self.get(ARCHIVE), lambda: self.s3, self.strays)
        check_layout(store)
        return store

    def connect(
        self,
        *,
        purpose: str,
        statement_timeout_ms: int = 0,
        connect_timeout_seconds: int | None = None,
    ) -> Connection:
        """A new connection to the primary.

        Raises:
            psycopg.OperationalError: no server, or it refuses us.
        """
        connection = connect(
            self.get(DATABASE),
            application_name=f"forebay-{purpose}",
            statement_timeout_ms=statement_timeout_ms,
            lock_timeout_ms=30_000,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._note("primary", connection)
        return connection

    def connect_for_reading(
        self,
        *,
        purpose: str,
        statement_timeout_ms: int = 0,
        connect_timeout_seconds: int | None = None,
    ) -> Connection:
        """A new read-only connection: to the replica where one is known, else to the primary."""
        replica = self.find(REPLICA)
        connection = connect(
            replica or self.get(DATABASE),
            application_name=f"forebay-{purpose}",
            statement_timeout_ms=statement_timeout_ms,
            read_only=True,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._note("replica" if replica else "primary", connection)
        return connection

    def _note(self, role: str, connection: Connection) -> None:
        """Remember a database for the result; threads may connect at the same time."""
        self.databases.setdefault(DatabaseServer.of(role, connection))

    @cached_property
    def s3(self) -> S3Client:
        """S3, wherever this environment's is."""
        client: S3Client = self._client("s3")
        return client

    @cached_property
    def sqs(self) -> SQSClient:
        """SQS, wherever this environment's is."""
        client: SQSClient = self._client("sqs")
        return client

    @cached_property
    def firehose(self) -> FirehoseClient:
        """Firehose, wherever this environment's is."""
        client: FirehoseClient = self._client("firehose")
        return client

    def client(self, service: str) -> Any:  # noqa: ANN401 - any service: the caller names its type
        """A client of another AWS service."""
        return self._client(service)

    def _client(self, service: str) -> Any:  # noqa: ANN401
        # They take a third of a second and 11 MiB, which most commands do without.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        # Not the process's default session, which keeps the credentials of whoever was first.
        session = boto3.Session()
        stack = self._local_stack
        if stack is None:
            return session.client(service, config=Config(**_AWS))  # type: ignore[call-overload]
        return session.client(  # type: ignore[call-overload]
            service, config=Config(**_LOCAL_AWS), **stack.configure_client(service)
        )

    @cached_property
    def _outputs(self) -> Mapping[str, str]:
        """What the named environment's stacks tell, by the outputs' names."""
        if self.env is None:
            return {}
        if self._local_stack is not None:
            return self._local_stack.outputs
        return self._described()

    def _described(self) -> Mapping[str, str]:
        """The outputs of the CloudFormation stacks of an environment on AWS."""
        outputs: dict[str, str] = {}
        cloudformation = self._client("cloudformation")
        for role in ("data", "service", "database"):
            name = f"forebay-{self.env}-{role}"
            try:
                stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
            except ClientError as exc:
                if role == "database" and exc.response["Error"]["Code"] == "ValidationError":
                    continue  # there is none where the database is somebody else's
                raise UsageError(
                    f"the stack {name} can't be described: {exc}; "
                    "is it deployed, and are account and region the right ones?"
                ) from exc
            except BotoCoreError as exc:
                raise UnavailableError(f"CloudFormation did not answer: {exc}; try again") from exc
            outputs |= {
                output["OutputKey"]: output["OutputValue"]
                for stack in stacks
                for output in stack.get("Outputs", [])
            }
        return outputs

    @cached_property
    def _local_stack(self) -> LocalStack | None:
        """The one-machine stack; None if `--env` names another environment."""
        return read_local_stack(self.environment) if self.env == LOCAL else None
