"""The trial: has API Gateway import the API's definition into an API that is deleted at once.

No document settles whether API Gateway accepts query parameters such as `and` and `not.and`
together, so only an import shows it. The trial's API has no authorizers, is not deployed, and
costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from forebay.routes import Route
from infra.components.authorization import Authorization
from infra.components.definition import Definition
from infra.front import OpenSettings
from infra.preflight.account import Account, MissingError, PreflightError, UnansweredError
from infra.preflight.findings import Finding, State
from infra.settings import Settings

_CHECK: Final = "definition"
#: API Gateway refuses a definition with this error.
_REFUSED: Final = "BadRequestException"


def try_definition(
    settings: Settings, routes: Sequence[Route], account: Account
) -> Iterator[Finding]:
    """Import the definition of these routes, and delete the API.

    Args:
        settings: of the environment.
        routes: those that the environment serves.
        account: the account.

    Raises:
        PreflightError: the import was not answered.
    """
    name, region = f"{settings.prefix}-trial", settings.region
    body = _define(name, settings, routes)
    try:
        answer = account.call("apigateway", region, "import_rest_api", body=body)
    except UnansweredError as error:
        if error.code != _REFUSED:
            raise
        next_step = "set api.dotted_parameters = false, and run the trial again"
        if not settings.api.dotted_parameters:
            next_step = "compare the message with the routes of resources/"
        yield Finding(State.WILL_FAIL, _CHECK, name, f"refused: {error}", next_step)
        return
    api_id = answer["id"]
    if warnings := answer.get("warnings", ()):
        detail = f"accepted, with warnings: {'; '.join(warnings)}"
        yield Finding(State.WARNING, _CHECK, name, detail, "read the warnings")
    else:
        yield Finding(State.OK, _CHECK, name, f"accepted with {len(routes)} routes")
    yield from _delete(account, region, api_id)


def _define(name: str, settings: Settings, routes: Sequence[Route]) -> bytes:
    """The definition, without authorizers and the properties of a network or a domain."""
    api = settings.api.model_copy(
        update={
            "authorization": OpenSettings(),
            "domain": None,
            "vpc_endpoint_ids": (),
        }
    )
    functions: dict[str, str] = {route.function: f"{name}-{route.function}" for route in routes}
    definition = Definition(
        name=name,
        routes=routes,
        functions=functions,
        settings=api,
        authorization=Authorization(api),
        read_timeout_seconds=settings.database.read_timeout_seconds,
    )
    return orjson.dumps(definition.build())


def _delete(account: Account, region: str, api_id: str) -> Iterator[Finding]:
    try:
        account.call("apigateway", region, "delete_rest_api", restApiId=api_id)
    except MissingError:
        return
    except PreflightError as error:
        detail = f"the trial's API is not deleted: {error}"
        next_step = f"aws apigateway delete-rest-api --region {region} --rest-api-id {api_id}"
        yield Finding(State.WARNING, _CHECK, api_id, detail, next_step)
