"""The CDK app: `cdk synth -c env=<environment>` and `cdk deploy -c env=<environment>` run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

import aws_cdk as cdk

import resources
from forebay.errors import ForebayError, SettingsError
from forebay.routes import Route, drop_dotted, routes
from infra.bundling import PYTHON_VERSION, Packages, stage_asset
from infra.bytecode import NoCompiler, find_compiler
from infra.components.authorization import list_scopes
from infra.components.database_servers import format_for_operators
from infra.components.runner import RunnerPlace
from infra.components.watched import Watched
from infra.database import ExternalDatabase
from infra.front import CognitoSettings, IamSettings, OpenSettings
from infra.quotas import check_template
from infra.settings import CONTEXT, Settings, read_context
from infra.stacks.attachments import export_upload_queues
from infra.stacks.data import DataStack
from infra.stacks.database import DatabaseStack
from infra.stacks.edge import EdgeStack
from infra.stacks.identity import IdentityStack
from infra.stacks.operations import OperationsStack
from infra.stacks.service import ServiceStack


def build_app(
    settings: Settings,
    *,
    app: cdk.App | None = None,
    served: Sequence[Route] | None = None,
    packages: Packages | None = None,
) -> cdk.App:
    """Build the app with the stacks of one environment, ready to be synthesised.

    Args:
        settings: the environment's settings.
        app: the app to which the stacks are added; a new one by default.
        served: routes of the API; those of `resources/` by default.
        packages: returns each function's folder. By default the packages are built, with their
            dependencies if the functions run on AWS.

    Raises:
        SettingsError: the settings name an unknown route or scope, callers would share answers
            that depend on their scopes, or a package can't be built.
    """
    app = app or cdk.App()
    served = routes(resources.load()) if served is None else served
    if not settings.api.dotted_parameters:
        served = drop_dotted(served)
    _check_routes(settings, served)
    _check_scopes(settings, list_scopes(served))
    _check_shared_cache(settings, served)
    builds_packages = packages is None
    packages = packages or partial(stage_asset, with_dependencies=not settings.emulated)
    data = DataStack(app, settings=settings)
    database = _build_database(app, settings, data)
    service = ServiceStack(
        app,
        settings=settings,
        data=data,
        database=database,
        routes=served,
        packages=packages,
        user_pool_arn=_build_user_pool(app, settings, served),
    )
    if builds_packages and not settings.emulated:
        _warn_without_bytecode(service)
    if settings.edge is not None:
        EdgeStack(app, settings=settings, edge=settings.edge, service=service, routes=served)
    if not settings.emulated:
        operations = OperationsStack(
            app,
            settings=settings,
            watched=Watched.of(settings),
            place=_find_runner_place(settings, data, database, service),
            packages=packages,
            keys=data.keys,
        )
        # The runner's role has policies of the service stack, by their names.
        operations.add_stack_dependency(service)
    return app


def main() -> None:
    """Synthesise the environment that the context names; exit with a message if it is invalid."""
    app = cdk.App(analytics_reporting=False)
    try:
        name = app.node.try_get_context("env")
        if not name:
            raise SettingsError(
                "no environment is given; choose one, for example: cdk synth -c env=local"
            )
        context = read_context(os.environ)
        for key in CONTEXT:
            if (value := app.node.try_get_context(key)) is not None:
                context[key] = value
        build_app(Settings.load(name, context), app=app)
        for stack in app.synth().stacks:
            check_template(stack.stack_name, Path(stack.template_full_path).stat().st_size)
    except ForebayError as error:
        sys.exit(f"forebay: {error}")


def _warn_without_bytecode(service: ServiceStack) -> None:
    """Add a warning if packages are built without bytecode: they work, but start slowly."""
    compiler = find_compiler(PYTHON_VERSION)
    if isinstance(compiler, NoCompiler):
        cdk.Annotations.of(service).add_warning_v2(
            "forebay:noBytecode",
            f"The functions' packages contain no bytecode, because Python {PYTHON_VERSION} is not "
            f"available: {compiler.reason}. Each cold start compiles the modules that it imports. "
            f"Install it with `uv python install {PYTHON_VERSION}`.",
        )


def _build_database(app: cdk.App, settings: Settings, data: DataStack) -> DatabaseStack | None:
    """The environment's own database stack; None for an external database."""
    if isinstance(settings.database, ExternalDatabase):
        return None
    return DatabaseStack(
        app,
        settings=settings,
        database=settings.database,
        archive_arn=data.archive.arn,
        attachments_arn=None if data.attachments is None else data.attachments.arn,
        keys=data.keys,
    )


def _find_runner_place(
    settings: Settings, data: DataStack, database: DatabaseStack | None, service: ServiceStack
) -> RunnerPlace | None:
    """The network and the addresses of the runner; None if the settings have no runner."""
    if not settings.operations.runner or database is None:
        return None
    network, reach = database.network, database.reach
    cache = {} if service.read_cache_url is None else {"FOREBAY_READ_CACHE": service.read_cache_url}
    cache_clients = service.read_cache_clients_id
    return RunnerPlace(
        vpc_id=network.vpc.vpc_id,
        subnet_ids=[subnet.subnet_id for subnet in network.used_subnets],
        security_group_ids=[
            network.clients.security_group_id,
            *([] if cache_clients is None else [cache_clients]),
        ],
        logins=[*reach.owner.arns, *reach.writer.arns, *reach.replicas.arns],
        variables={
            "FOREBAY_DATABASE_URL": format_for_operators(reach.writer.url),
            "FOREBAY_REPLICA_URL": format_for_operators(reach.replicas.url),
            "FOREBAY_ARCHIVE_BUCKET": data.archive.bucket.bucket_name,
            "FOREBAY_STREAMS": ",".join(data.delivery.names),
            "FOREBAY_QUEUE_URL": data.events.queue.queue_url,
            "FOREBAY_DEAD_LETTER_QUEUE_URL": data.events.dead_letters.queue_url,
            "FOREBAY_REPLAY_QUEUE_URL": data.replay.queue.queue_url,
            "FOREBAY_REPLAY_DEAD_LETTER_QUEUE_URL": data.replay.dead_letters.queue_url,
            "FOREBAY_IMPORT_QUEUE_URL": data.imports.queue.queue_url,
            "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL": data.imports.dead_letters.queue_url,
            **export_upload_queues(data),
            **cache,
        },
    )


def _build_user_pool(
    app: cdk.App, settings: Settings, served_routes: Sequence[Route]
) -> str | None:
    """The user pool of the tokens that the API accepts, in its own stack; None without Cognito."""
    authorization = settings.api.authorization
    if not isinstance(authorization, CognitoSettings):
        return None
    identity = IdentityStack(
        app, settings=settings, cognito_settings=authorization, scopes=list_scopes(served_routes)
    )
    return identity.user_pool_arn


def _check_scopes(settings: Settings, scopes: Sequence[str]) -> None:
    """Refuse settings that grant scopes which no route requires."""
    grants: dict[str, Collection[str]] = {}
    match settings.api.authorization:
        case CognitoSettings(machine_clients=clients, people_scopes=people):
            grants = {
                f"machine_clients.{name}": granted_scopes
                for name, granted_scopes in clients.items()
            }
            grants["people_scopes"] = people or ()
        case IamSettings(principals=principals):
            grants = {
                f"principals.{name}": granted_scopes for name, granted_scopes in principals.items()
            }
    for key, granted_scopes in grants.items():
        if unknown := sorted(set(granted_scopes) - set(scopes)):
            raise SettingsError(
                f"infra/environments/{settings.name}.toml: api.authorization.{key} contains "
                f"unknown scopes: {', '.join(unknown)}; the scopes are {', '.join(scopes)}"
            )


def _check_shared_cache(settings: Settings, served_routes: Sequence[Route]) -> None:
    """Refuse a shared cache for answers that depend on the caller's scopes."""
    authorization = settings.api.authorization
    if isinstance(authorization, OpenSettings) or not authorization.shares_cache:
        return
    names = [
        route.name
        for route in served_routes
        if route.cached and route.names_others and settings.api.ttl_of(route.name) > 0
    ]
    if names:
        raise SettingsError(
            f"infra/environments/{settings.name}.toml: api.authorization.shares_cache must be "
            f"false, because answers of {', '.join(names)} depend on the caller's scopes: these "
            "lists can contain related resources. Or disable the cache for each of them: "
            f'api.cache.ttl_seconds_by_route."{names[0]}" = 0'
        )


def _check_routes(settings: Settings, served_routes: Sequence[Route]) -> None:
    cached_names = {route.name for route in served_routes if route.cached}
    unknown = sorted(set(settings.api.cache.ttl_seconds_by_route) - cached_names)
    if unknown:
        raise SettingsError(
            f"infra/environments/{settings.name}.toml: api.cache.ttl_seconds_by_route contains "
            f"{', '.join(unknown)}, but the cached routes are {', '.join(sorted(cached_names))}"
        )


if __name__ == "__main__":
    main()
