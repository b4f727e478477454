"""Finds the database, the archive, the queues and the streams that a command works on.

Each address comes from the first of three places that has it: the command's option, the environment
variable (`FOREBAY_…`, the names that the functions use), and the stack outputs of the environment
that `--env` names. `local` is the one-machine stack of this checkout; any other name means
CloudFormation stacks.

A replica's address is used only if no earlier place has a primary's address, because the replica
may follow another primary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import psycopg
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from psycopg.conninfo import conninfo_to_dict

import resources
from forebay.db.connect import Connection, connect
from forebay.read_cache.address import Address
from forebay.read_cache.connection import make_announcing_class
from forebay.read_cache.link import CHANGE_BUDGET, Link
from forebay.read_cache.records import ANSWER_SECONDS
from forebay.read_cache.writer import Announcer
from forebay.resource.spec import ResourceSpec
from ops.archive.layout import check_layout
from ops.archive.store import ObjectStore, open_store
from ops.archive.strays import Strays
from ops.certificates import add_certificates
from ops.errors import UnavailableError, UsageError
from ops.local_stack import LocalStack, read_local_stack

if TYPE_CHECKING:
    import boto3
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
    """The address of a part that commands use: its option and its environment variable."""

    name: str
    #: None if the commands have no option for it.
    option: str | None
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
    "the replay's dead-letter queue", None, "FOREBAY_REPLAY_DEAD_LETTER_QUEUE_URL"
)
IMPORT_QUEUE: Final = Setting(
    "the imports' queue", "--import-queue-url", "FOREBAY_IMPORT_QUEUE_URL"
)
IMPORT_DEAD_LETTERS: Final = Setting(
    "the imports' dead-letter queue",
    "--import-dead-letter-queue-url",
    "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL",
)
UPLOAD_QUEUE: Final = Setting("the uploads' queue", None, "FOREBAY_UPLOAD_QUEUE_URL")
UPLOAD_DEAD_LETTERS: Final = Setting(
    "the uploads' dead-letter queue", None, "FOREBAY_UPLOAD_DEAD_LETTER_QUEUE_URL"
)
READ_CACHE: Final = Setting("the read cache", None, "FOREBAY_READ_CACHE")
ATTACHMENTS: Final = Setting("the bucket of attachments", None, "FOREBAY_ATTACHMENTS_BUCKET")
STREAMS: Final = Setting("the delivery streams", None, "FOREBAY_STREAMS")

#: The output of an environment's stacks that contains each setting.
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
    UPLOAD_QUEUE: "UploadQueueUrl",
    UPLOAD_DEAD_LETTERS: "UploadDeadLetterQueueUrl",
    READ_CACHE: "ReadCacheUrl",
    ATTACHMENTS: "AttachmentsBucketName",
    STREAMS: "DeliveryStreamNames",
}


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A database to which a command has connected, as results name it; without a password."""

    #: `primary` or `replica`, as it was configured.
    role: str
    host: str
    port: int
    database: str

    @classmethod
    def of(cls, role: str, connection: Connection) -> DatabaseServer:
        """Return the server of a connection; its URL may list several hosts."""
        info = connection.info
        return cls(role, info.host, info.port, info.dbname)

    def __str__(self) -> str:
        return f"{self.role} {self.host}:{self.port}, database {self.database}"

    def facts(self) -> dict[str, Any]:
        """Return the members for a JSON result."""
        return asdict(self)


@dataclass(frozen=True)
class Context:
    """The settings, connections and clients of one command, each created at its first use."""

    #: Values of options by setting; None if the option was not given.
    options: Mapping[Setting, str | None] = field(default_factory=dict)
    #: The value of `--env`; None if it was not given.
    env: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    #: The databases, in the order of their connections; results name them (`Console.result`).
    databases: dict[DatabaseServer, None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    #: The archive's strays; results name them too.
    strays: Strays = field(default_factory=Strays, init=False, compare=False, repr=False)

    def get(self, setting: Setting) -> str:
        """Return the setting's value.

        Raises:
            UsageError: no place has the value; the message names the places.
            UnavailableError: CloudFormation did not answer.
        """
        value = self.find(setting)
        if value is None and setting is REPLICA and self.find(DATABASE) is not None:
            raise UsageError(
                f"{setting.name} is not known for the given database; give {setting.option} too"
            )
        if value is None:
            option = f"give {setting.option}, " if setting.option else ""
            raise UsageError(
                f"{setting.name} is not known; {option}set {setting.variable}, "
                "or name an environment with --env"
            )
        return value

    def find(self, setting: Setting) -> str | None:
        """Return the setting's value from the first place that has it; None if no place has it.

        The address of a database on RDS includes the file of the certificates.

        Raises:
            UsageError: the file does not exist.
            UnavailableError: CloudFormation did not answer.
        """
        for place in self._list_places():
            # Values from a file with CRLF line ends have a carriage return at their end.
            value = (place(setting) or "").strip()
            if value:
                is_database = setting in {DATABASE, REPLICA}
                return add_certificates(value, self.environment) if is_database else value
            if setting is REPLICA and place(DATABASE):
                return None  # a later place may have a replica of another primary
        return None

    def _list_places(self) -> Iterator[Callable[[Setting], str | None]]:
        """Yield functions that look a setting up in one place, in the order of precedence."""
        yield self.options.get
        yield lambda setting: self.environment.get(setting.variable)
        yield lambda setting: self._outputs.get(_OUTPUTS[setting])

    def copy_settings(self) -> Context:
        """Return a context with the same settings that holds no clients and can be pickled."""
        return Context(self.options, self.env, self.environment)

    @cached_property
    def resources(self) -> Mapping[str, ResourceSpec]:
        """The declared resources by their paths."""
        return resources.load()

    @cached_property
    def archive(self) -> ObjectStore:
        """The archive in a bucket or a folder.

        Raises:
            UsageError: no place has the archive's address, or the source does not have an archive's
                layout.
            TransientError: the bucket did not answer.
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
        """Return a new connection to the primary.

        Raises:
            UsageError: no place has the address, or it is no address of a database.
            psycopg.OperationalError: the server did not answer, or refused the connection.
        """
        connection = connect(
            _check_address(DATABASE, self.get(DATABASE)),
            application_name=f"forebay-{purpose}",
            statement_timeout_ms=statement_timeout_ms,
            lock_timeout_ms=30_000,
            connect_timeout_seconds=connect_timeout_seconds,
            connection_class=self._make_connection_class(),
        )
        self._record_database("primary", connection)
        return connection

    def _make_connection_class(self) -> type[Connection]:
        """Make the class of a connection to the primary: with a read cache, it announces changes.

        Only the environment that has the database also has its cache: another database, named by
        an option or a variable, has none unless a variable names one.
        """
        text = ""
        for place in self._list_places():
            text = (place(READ_CACHE) or "").strip()
            if text or place(DATABASE):
                break
        address = Address.parse(text)
        if address is None:
            return psycopg.Connection
        announcer = Announcer(Link(address, CHANGE_BUDGET, on_failure=_warn))
        return make_announcing_class(announcer)

    def connect_for_reading(
        self,
        *,
        purpose: str,
        statement_timeout_ms: int = 0,
        connect_timeout_seconds: int | None = None,
    ) -> Connection:
        """Return a new read-only connection, to the replica if its address is known.

        Otherwise the connection is to the primary.
        """
        replica = self.find(REPLICA)
        setting = REPLICA if replica else DATABASE
        connection = connect(
            _check_address(setting, replica or self.get(DATABASE)),
            application_name=f"forebay-{purpose}",
            statement_timeout_ms=statement_timeout_ms,
            read_only=True,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._record_database("replica" if replica else "primary", connection)
        return connection

    def _record_database(self, role: str, connection: Connection) -> None:
        """Record a database for the result; safe if threads connect concurrently."""
        self.databases.setdefault(DatabaseServer.of(role, connection))

    @cached_property
    def s3(self) -> S3Client:
        """The client of the environment's S3."""
        client: S3Client = self.client("s3")
        return client

    @cached_property
    def sqs(self) -> SQSClient:
        """The client of the environment's SQS."""
        client: SQSClient = self.client("sqs")
        return client

    @cached_property
    def firehose(self) -> FirehoseClient:
        """The client of the environment's Firehose."""
        client: FirehoseClient = self.client("firehose")
        return client

    def client(self, service: str) -> Any:  # noqa: ANN401 - any service: the caller names its type
        """Return a new client of an AWS service."""
        from botocore.config import Config  # noqa: PLC0415 - see _session

        stack = self._local_stack
        if stack is None:
            return self._session.client(  # type: ignore[call-overload]
                service, config=Config(**_AWS)
            )
        # The emulator never receives the operator's own credentials.
        return self._session.client(  # type: ignore[call-overload]
            service, config=Config(**_LOCAL_AWS), **stack.configure_client(service)
        )

    @cached_property
    def _session(self) -> boto3.Session:
        """The session of all clients; a new session reads botocore's tables again, for 0.1 s.

        The process's default session would keep the credentials of its first user.
        """
        # The import takes a third of a second and 11 MiB, and most commands don't need it.
        import boto3  # noqa: PLC0415

        # As the AWS CLI does; boto3 reads AWS_DEFAULT_REGION and the profile only.
        return boto3.Session(region_name=self.environment.get("AWS_REGION") or None)

    @cached_property
    def _outputs(self) -> Mapping[str, str]:
        """The outputs of the stacks of `--env`, by name."""
        if self.env is None:
            return {}
        if self._local_stack is not None:
            return self._local_stack.outputs
        return self._describe_stacks()

    def _describe_stacks(self) -> Mapping[str, str]:
        """Return the outputs of the CloudFormation stacks of an environment on AWS."""
        outputs = {
            **self._describe_stack(f"forebay-{self.env}-data"),
            **self._describe_stack(f"forebay-{self.env}-service"),
        }
        # Database stacks of earlier settings may be left, so the name alone is no proof of use.
        if (database := outputs.get("DatabaseStackName")) is not None:
            outputs |= self._describe_stack(database)
        return outputs

    def _describe_stack(self, name: str) -> Mapping[str, str]:
        """Return the outputs of one CloudFormation stack."""
        cloudformation = self.client("cloudformation")
        try:
            stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
        except ClientError as exc:
            raise UsageError(
                f"the stack {name} can't be described: {exc}; "
                "check that it is deployed, and the account and region"
            ) from exc
        except NoCredentialsError:
            raise  # a repetition can't help
        except BotoCoreError as exc:
            raise UnavailableError(f"CloudFormation did not answer: {exc}; try again") from exc
        return {
            output["OutputKey"]: output["OutputValue"]
            for stack in stacks
            for output in stack.get("Outputs", [])
        }

    @cached_property
    def _local_stack(self) -> LocalStack | None:
        """The one-machine stack; None if `--env` names another environment."""
        return read_local_stack(self.environment) if self.env == LOCAL else None


def _check_address(setting: Setting, url: str) -> str:
    """Return the address of a database, if libpq can parse it.

    Raises:
        UsageError: it can't. Libpq's message is left out, because it may quote a password.
    """
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise UsageError(
            f"{setting.name} ({setting.option}, {setting.variable}) is not an address of a "
            "database; write postgresql://user@host:port/database"
        ) from None
    return url


def _warn(reason: str) -> None:
    sys.stderr.write(
        f"the read cache does not answer ({reason}); its answers may be {ANSWER_SECONDS} s old\n"
    )
