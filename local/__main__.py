"""The commands behind the Makefile: `python -m local run | migrate | reset | psql | cdk | …`.

Exit codes: 0 all is well (for `run`: it was asked to stop); 1 it could not be done, with one
sentence that says why; 2 wrong usage. Those named after a program pass on that program's code.
"""

# A command imports what it needs when it runs: `psql` should not wait for AWS's SDK.
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
    """Runs one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without our marks gets question marks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser = _parser()
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
    from local.reset import reset

    return reset(settings, assume_yes=options.yes)


def _psql(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.postgres.binaries import program
    from local.postgres.config import OWNER, READER, primary_of, replica_of

    cluster, user = primary_of(settings), OWNER
    if options.replica:
        cluster, user = replica_of(settings), READER
    command = [program("psql"), cluster.address(user), *options.arguments]
    return subprocess.call(  # noqa: S603
        command, env={**os.environ, "PGPASSWORD": cluster.password(user)}
    )


def _credentials(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local.credentials import ACCESS_KEY_ID, secret_key
    from local.outputs import outputs_of, stack_name
    from local.postgres.config import READER, SUPERUSER, primary_of, replica_of
    from local.settings import REGION

    values = {
        "AWS_ENDPOINT_URL": settings.emulator_url,
        "AWS_ENDPOINT_URL_FIREHOSE": settings.firehose_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": secret_key(settings),
        "PRIMARY_URL": primary_of(settings).url(),
        "REPLICA_URL": replica_of(settings).url(READER),
        # Makes databases, which the owner of the tables may not.
        "ADMIN_URL": primary_of(settings).url(SUPERUSER, "postgres"),
    }
    try:
        values["ARCHIVE_BUCKET"] = outputs_of(settings)[stack_name("data")]["ArchiveBucketName"]
    except FileNotFoundError:
        sys.stderr.write("no stack was deployed yet, so there is no ARCHIVE_BUCKET\n")
    sys.stdout.writelines(f"export {name}={value}\n" for name, value in values.items())
    return 0


def _token(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.tokens import access_token

    sys.stdout.write(f"{access_token(settings, options.client)}\n")
    return 0


def _setup(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local import node

    node.ensure(settings.root)
    return 0


def _cdk(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local import node

    node.ensure(settings.root)
    command = [*node.cdk_command(settings.root), *options.arguments]
    env = node.environment(os.environ)
    return subprocess.call(command, cwd=settings.root, env=env)  # noqa: S603


def _alembic(_settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.migrations import alembic

    return alembic(options.arguments)


def _migration(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.declarations import write_migration

    return write_migration(options.message, settings.root)


def _declarations(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local.declarations import check

    return check(settings.root)


def _migrate(settings: LocalSettings, options: argparse.Namespace) -> int:
    from local.schema_changes import migrate_running

    return migrate_running(settings, options.accept or None)


def _openapi(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local.description import written

    (settings.root / "docs" / "openapi.json").write_bytes(written())
    return 0


def _templates(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local import node
    from local.templates import check_templates

    node.ensure(settings.root)
    return check_templates(settings.root)


def _audit(settings: LocalSettings, _options: argparse.Namespace) -> int:
    from local.audit import audit

    return audit(settings.root)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_BASE_PORT,
        help="the clients' port, the first of five (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(name: str, do: Command, what: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what)
        command.set_defaults(do=do)
        return command

    run = add("run", _run, "start the stack, until Ctrl-C")
    run.add_argument("--stop-with-parent", action="store_true", help="also when the caller ends")
    accept = "the newest of the migrations that may drop or change data"
    run.add_argument("--accept", metavar="REVISION", help=accept)
    migrate = add("migrate", _migrate, "run the migrations that wait, after asking")
    migrate.add_argument("--accept", metavar="REVISION", help=f"{accept}; asks nothing")
    reset = add("reset", _reset, "delete the stack's state, after asking")
    reset.add_argument("--yes", action="store_true", help="without asking")
    psql = add("psql", _psql, "a prompt of the running database")
    psql.add_argument("--replica", action="store_true", help="of the replica")
    psql.add_argument("arguments", nargs="*", help="for psql itself, after --")
    add("credentials", _credentials, "print what a shell needs for AWS's tools and for Postgres")
    token = add("token", _token, "print an access token, where the API asks for tokens of Cognito")
    token.add_argument("client", help="a name in api.authorization.machine_clients")
    add("setup", _setup, "install the npm packages")
    cdk = add("cdk", _cdk, "the CDK CLI, with the Node.js that belongs to it")
    cdk.add_argument("arguments", nargs=argparse.REMAINDER)
    add("templates", _templates, "synthesise every environment and check its templates")
    add("audit", _audit, "ask for known holes in what the lock files name")
    add("openapi", _openapi, "write docs/openapi.json")
    migration = add("migration", _migration, "write a migration, and note what bodies look like")
    migration.add_argument("-m", "--message", required=True, help="what it does")
    add("declarations", _declarations, "check the declarations against what was archived")
    alembic = add("alembic", _alembic, "alembic, with a migrated throw-away database")
    alembic.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
