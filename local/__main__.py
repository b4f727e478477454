"""The commands of the Makefile: `python -m local run | migrate | reset | psql | alembic | …`.

Exit codes: 0 success (for `run`: stopped on request); 1 failure, with one sentence that gives the
reason; 2 wrong usage. A command named after a program returns that program's exit code.
"""

# Each command imports its dependencies when it runs: `psql` shouldn't wait for the AWS SDK.
# ruff: noqa: PLC0415

import argparse
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from local.errors import LocalStackError
from local.settings import DEFAULT_BASE_PORT, LocalSettings

Command = Callable[[LocalSettings, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't encode the check marks gets question marks instead.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        settings = LocalSettings.from_env(base_port=options.port)
    except ValueError as exc:
        parser.error(str(exc))
    command: Command = options.do
    try:
        return command(settings, options)
    except LocalStackError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1


def _run(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.run import run

    return run(settings, stop_with_parent=options.stop_with_parent, accepted=options.accept or None)


def _reset(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.state import reset

    return reset(settings, assume_yes=options.yes)


def _run_psql(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.postgres.binaries import find_program
    from local.postgres.config import OWNER, READER, locate_primary, locate_replica

    cluster, user = locate_primary(settings), OWNER
    if options.replica:
        cluster, user = locate_replica(settings), READER
    command = [find_program("psql"), cluster.address(user), *options.arguments]
    return subprocess.call(  # noqa: S603
        command, env={**os.environ, "PGPASSWORD": cluster.password(user)}
    )


def _print_credentials(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local import read_cache
    from local.credentials import ACCESS_KEY_ID, read_secret_key
    from local.outputs import build_stack_name, read_outputs
    from local.postgres.config import READER, SUPERUSER, locate_primary, locate_replica
    from local.settings import REGION

    values = {
        "AWS_ENDPOINT_URL": settings.emulator_url,
        "AWS_ENDPOINT_URL_FIREHOSE": settings.firehose_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": read_secret_key(settings),
        "PRIMARY_URL": locate_primary(settings).url(),
        "REPLICA_URL": locate_replica(settings).url(READER),
        "READ_CACHE_URL": read_cache.build_url(settings),
        # Makes databases, which the owner of the tables may not.
        "ADMIN_URL": locate_primary(settings).url(SUPERUSER, "postgres"),
    }
    try:
        values["ARCHIVE_BUCKET"] = read_outputs(settings)[build_stack_name("data")][
            "ArchiveBucketName"
        ]
    except FileNotFoundError:
        sys.stderr.write(
            "no stack was deployed yet, so ARCHIVE_BUCKET is not set; run `make run` first\n"
        )
    sys.stdout.writelines(f"export {name}={value}\n" for name, value in values.items())
    return 0


def _print_token(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.tokens import fetch_access_token

    sys.stdout.write(f"{fetch_access_token(settings, options.client)}\n")
    return 0


def _run_alembic(_settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.migrations import run_alembic

    return run_alembic(options.arguments, core=options.core)


def _write_migration(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.migrations import write_migration

    return write_migration(options.message, settings.root)


def _migrate(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.schema_changes import migrate_running

    return migrate_running(settings, options.accept or None)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.split("\n")[0])
    port_help = "port of the API, the first of six ports (default: %(default)s)"
    parser.add_argument("--port", type=int, default=DEFAULT_BASE_PORT, help=port_help)
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, do: Command, description: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=description, description=description
        )
        command.set_defaults(do=do)
        return command

    run = add("run", _run, "run the stack until Ctrl-C")
    run.add_argument(
        "--stop-with-parent", action="store_true", help="stop when the calling process ends"
    )
    migrate = add("migrate", _migrate, "run the waiting migrations, after a confirmation")
    accept_help = "the newest of the migrations to accept, which may drop or change data"
    for command in (run, migrate):
        command.add_argument("--accept", metavar="REVISION", help=accept_help)
    reset = add("reset", _reset, "delete the stack's state, after a confirmation")
    reset.add_argument("--yes", action="store_true", help="skip the confirmation")
    psql = add("psql", _run_psql, "open a psql prompt on the running primary")
    psql.add_argument("--replica", action="store_true", help="use the replica")
    psql.add_argument("arguments", nargs="*", help="arguments for psql, after --")
    add("credentials", _print_credentials, "print variables for AWS's tools and for Postgres")
    token = add("token", _print_token, "print an access token, if the API requires Cognito tokens")
    token.add_argument("client", help="a name in api.authorization.machine_clients")
    migration = add("migration", _write_migration, "write a migration, and record the shapes")
    migration.add_argument("-m", "--message", required=True, help="title of the migration")
    alembic = add("alembic", _run_alembic, "run alembic with a migrated temporary database")
    alembic.add_argument("--core", action="store_true", help="of the pipeline's own tables")
    alembic.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
