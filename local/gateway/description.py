"""Convert the AWS API's description of a stage to the gateway's own types.

One setting is read differently from AWS: whether the cache is on. The emulator answers
`cacheClusterEnabled: false` for every stage, regardless of the deployment, so a method counts as
cached if its method setting has `cachingEnabled` and a TTL above 0.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

from local.gateway.deployed import (
    CacheRule,
    CustomResponse,
    Deployed,
    Location,
    Method,
    Parameter,
)

_logger = logging.getLogger(__name__)

_DEFAULT_TIMEOUT_MS = 29_000  # API Gateway's default integration timeout

# The emulator checks credentials, and a cache hit never reaches it. So the callers of a method that
# requires credentials do not share entries: an entry exists only for an authorized caller. The
# gateway doesn't know which parts of a request other authorizers (a function, IAM) read.
_CREDENTIALS: Mapping[str, tuple[Parameter, ...]] = {
    "NONE": (),
    "COGNITO_USER_POOLS": (Parameter("header", "authorization"),),
}
_API_KEY = Parameter("header", "x-api-key")

Described = Mapping[str, Any]


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
    return Deployed.of(
        api_id=api_id,
        stage=stage["stageName"],
        responses=_parse_responses(gateway_responses),
        methods=_parse_methods(resources, settings),
        min_compression_bytes=None if minimum is None else int(minimum),
    )


def _parse_responses(items: Iterable[Described]) -> Mapping[str, CustomResponse]:
    return {
        item["responseType"]: CustomResponse(
            status=int(item["statusCode"]) if item.get("statusCode") else None,
            parameters=dict(item.get("responseParameters") or {}),
            template=(item.get("responseTemplates") or {}).get("application/json"),
        )
        for item in items
        if not item.get("defaultResponse")
    }


def _parse_methods(
    resources: Iterable[Described], settings: Mapping[str, Described]
) -> Iterator[Method]:
    for resource in resources:
        for http_method, description in (resource.get("resourceMethods") or {}).items():
            yield _parse_method(resource, http_method, description, settings)


def _parse_method(
    resource: Described,
    http_method: str,
    description: Described,
    settings: Mapping[str, Described],
) -> Method:
    integration = description.get("methodIntegration") or {}
    parameters = (_parse_parameter(name) for name in description.get("requestParameters") or {})
    timeout_ms = integration.get("timeoutInMillis") or _DEFAULT_TIMEOUT_MS
    return Method(
        resource_id=resource["id"],
        resource_path=resource["path"],
        http_method=http_method,
        is_function=integration.get("type") == "AWS_PROXY",
        declared=frozenset(parameter for parameter in parameters if parameter is not None),
        timeout_seconds=timeout_ms / 1000,
        cache=_parse_cache_rule(resource, http_method, description, settings),
    )


def _parse_parameter(expression: str) -> Parameter | None:
    """Parse `method.request.header.Prefer`; return None if the gateway can't look it up."""
    parts = expression.split(".", 3)
    if len(parts) != 4 or parts[:2] != ["method", "request"]:  # noqa: PLR2004 - as in the example
        return None
    location, name = parts[2], parts[3]
    if location not in get_args(Location):
        return None
    return Parameter(cast("Location", location), name.lower() if location == "header" else name)


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
    if not setting.get("cachingEnabled") or ttl_seconds <= 0:
        return None
    key = [_parse_parameter(name) for name in integration.get("cacheKeyParameters") or []]
    parts = tuple(sorted(part for part in key if part is not None))
    if len(parts) != len(key):
        _logger.warning(
            "%s %s is not cached: the gateway can't build a cache key from %s",
            http_method,
            resource["path"],
            integration["cacheKeyParameters"],
        )
        return None
    return CacheRule(
        ttl_seconds=ttl_seconds,
        namespace=integration.get("cacheNamespace") or resource["id"],
        key=(*parts, *credentials),
    )


def _find_setting(path: str, settings: Mapping[str, Described]) -> Described:
    """Return the most specific setting for GET on the path; `*` matches every path or method."""
    by_path_and_method = {_split_key(key): value for key, value in settings.items()}
    wanted_path = path.strip("/")
    for key in ((wanted_path, "GET"), (wanted_path, "*"), ("*", "GET"), ("*", "*")):
        if key in by_path_and_method:
            return by_path_and_method[key]
    return {}


def _split_key(key: str) -> tuple[str, str]:
    """Split a setting's key into path and method: `~1cities/GET`, `/cities/GET`, `cities/GET`."""
    path, _, http_method = key.rpartition("/")
    return path.replace("~1", "/").replace("~0", "~").strip("/"), http_method
