"""Read the deployed API by the AWS API, the only source of the gateway's configuration.

One setting is read differently from AWS: whether the cache is on. The emulator answers
`cacheClusterEnabled: false` for every stage, regardless of the deployment, so a method counts as
cached if its method setting has `cachingEnabled` and a TTL above 0.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

from botocore.exceptions import BotoCoreError, ClientError

from local.aws import Emulated
from local.errors import LocalStackError
from local.gateway.deployed import (
    CacheRule,
    CustomResponse,
    Deployed,
    Location,
    Method,
    Parameter,
    rank,
    split_path,
)
from local.gateway.forward import EmulatorUnreachableError

_PAGE = 500  # the largest page of GetResources
_ANSWER_SECONDS = 5
_DEFAULT_TIMEOUT_MS = 29_000  # API Gateway's default integration timeout

# The emulator checks credentials, and a cache hit never reaches it. So the callers of a method that
# requires credentials do not share entries: an entry exists only for an authorized caller. The
# gateway doesn't know which parts of a request other authorizers (a function, IAM) read.
_CREDENTIALS: Mapping[str, tuple[Parameter, ...]] = {
    "NONE": (),
    "COGNITO_USER_POOLS": (Parameter("header", "authorization"),),
}
_API_KEY = Parameter("header", "x-api-key")
_HEADER_PREFIX = "gatewayresponse.header."
_PARAMETER_PREFIX = "method.request."

Described = Mapping[str, Any]


class NotDeployedError(LocalStackError):
    """The emulator has no such API, or the API has no such stage."""


def read_stage(endpoint_url: str, *, key: str, api_id: str, stage: str) -> Deployed:
    """Read a stage from the emulator with the secret access key `key`.

    Raises:
        NotDeployedError: there is no such API or stage.
        EmulatorUnreachableError: the emulator does not answer.
    """
    client = Emulated(endpoint_url, key).client("apigateway", _ANSWER_SECONDS)
    try:
        description = client.get_stage(restApiId=api_id, stageName=stage)
        pages = client.get_paginator("get_resources").paginate(
            restApiId=api_id, embed=["methods"], PaginationConfig={"PageSize": _PAGE}
        )
        resources = [item for page in pages for item in page["items"]]
        responses = client.get_gateway_responses(restApiId=api_id).get("items", [])
        api = client.get_rest_api(restApiId=api_id)
    except client.exceptions.NotFoundException as exc:
        raise NotDeployedError(
            f"the emulator at {endpoint_url} has no stage {stage!r} of the "
            f"REST API {api_id!r}; deploy it first"
        ) from exc
    except ClientError as exc:
        raise EmulatorUnreachableError(
            f"the emulator at {endpoint_url} refused to describe the API: {exc}"
        ) from exc
    except BotoCoreError as exc:
        raise EmulatorUnreachableError(
            f"the emulator at {endpoint_url} does not respond; start it first"
        ) from exc
    return describe(api_id, description, resources, responses, api=api)


def describe(
    api_id: str,
    stage: Described,
    resources: Iterable[Described],
    gateway_responses: Iterable[Described],
    *,
    api: Described | None = None,
) -> Deployed:
    """Convert the AWS API's answers to a stage."""
    minimum = (api or {}).get("minimumCompressionSize")
    settings: Mapping[str, Described] = stage.get("methodSettings") or {}
    methods = [
        (
            split_path(resource["path"]),
            {
                http_method: _parse_method(resource, http_method, description, settings)
                for http_method, description in (resource.get("resourceMethods") or {}).items()
            },
        )
        for resource in resources
    ]
    return Deployed(
        api_id=api_id,
        stage=stage["stageName"],
        responses={
            item["responseType"]: _parse_response(item)
            for item in gateway_responses
            if not item.get("defaultResponse")
        },
        resources=sorted((item for item in methods if item[1]), key=lambda item: rank(item[0])),
        min_compression_bytes=None if minimum is None else int(minimum),
    )


def _parse_response(item: Described) -> CustomResponse:
    return CustomResponse(
        status=int(item["statusCode"]) if item.get("statusCode") else None,
        headers=tuple(
            (target.removeprefix(_HEADER_PREFIX), source[1:-1])
            for target, source in (item.get("responseParameters") or {}).items()
            if target.startswith(_HEADER_PREFIX) and source[:1] == source[-1:] == "'"
        ),
        template=(item.get("responseTemplates") or {}).get("application/json"),
    )


def _parse_method(
    resource: Described,
    http_method: str,
    description: Described,
    settings: Mapping[str, Described],
) -> Method:
    integration = description.get("methodIntegration") or {}
    timeout_ms = integration.get("timeoutInMillis") or _DEFAULT_TIMEOUT_MS
    return Method(
        resource_path=resource["path"],
        http_method=http_method,
        declared=frozenset(_parse_parameters(description.get("requestParameters") or ())),
        timeout_seconds=timeout_ms / 1000,
        cache=_parse_cache_rule(resource, http_method, description, settings),
    )


def _parse_parameters(expressions: Iterable[str]) -> Iterator[Parameter]:
    """Parse `method.request.header.Prefer`; leave out the kinds that the gateway can't look up."""
    for expression in expressions:
        location, _, name = expression.removeprefix(_PARAMETER_PREFIX).partition(".")
        if location in get_args(Location):
            lower = name.lower() if location == "header" else name
            yield Parameter(cast("Location", location), lower)


def _parse_cache_rule(
    resource: Described,
    http_method: str,
    description: Described,
    settings: Mapping[str, Described],
) -> CacheRule | None:
    credentials = _CREDENTIALS.get(description.get("authorizationType") or "NONE")
    if http_method not in ("GET", "ANY") or credentials is None:
        return None
    if description.get("apiKeyRequired"):
        credentials = (*credentials, _API_KEY)
    integration = description.get("methodIntegration") or {}
    setting = _find_setting(resource["path"], settings)
    ttl_seconds = int(setting.get("cacheTtlInSeconds") or 0)
    expressions = integration.get("cacheKeyParameters") or []
    key = tuple(sorted(_parse_parameters(expressions)))
    # Without one of its parts, two different requests would share an entry.
    if not setting.get("cachingEnabled") or ttl_seconds <= 0 or len(key) != len(expressions):
        return None
    return CacheRule(
        ttl_seconds=ttl_seconds,
        namespace=integration.get("cacheNamespace") or resource["id"],
        key=(*key, *credentials),
    )


def _find_setting(path: str, settings: Mapping[str, Described]) -> Described:
    """Return the setting for GET on the path, else the stage's; a key is `/~1cities/GET` or so."""
    by_name = {name.replace("~1", "/").strip("/"): value for name, value in settings.items()}
    return by_name.get(f"{path.strip('/')}/GET", by_name.get("*/*", {}))
