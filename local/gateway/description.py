"""Convert the AWS API's description of a stage to the gateway's own types.

One setting is read differently from AWS: whether the cache is on. The emulator answers
`cacheClusterEnabled: false` for every stage, regardless of the deployment, so a method counts as
cached if its method setting has `cachingEnabled` and a TTL above 0.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast, get_args

import orjson

from local.gateway.deployed import (
    CacheRule,
    CustomResponse,
    Deployed,
    Location,
    Method,
    Parameter,
    Refresh,
)

_logger = logging.getLogger(__name__)

_DEFAULT_TIMEOUT_MS = 29_000  # API Gateway's default integration timeout

Described = Mapping[str, Any]


def describe(
    api_id: str,
    stage: Described,
    resources: Iterable[Described],
    gateway_responses: Iterable[Described],
    *,
    api: Described | None = None,
) -> Deployed:
    """Convert the AWS API's answers to a stage.

    Args:
        api_id: of the API.
        stage: the answer of GetStage.
        resources: the items of GetResources, with their methods.
        gateway_responses: the items of GetGatewayResponses.
        api: the answer of GetRestApi.
    """
    minimum = (api or {}).get("minimumCompressionSize")
    settings: Mapping[str, Described] = stage.get("methodSettings") or {}
    return Deployed.of(
        api_id=api_id,
        stage=stage["stageName"],
        deployment_id=str(stage.get("deploymentId", "")),
        fingerprint=fingerprint(stage),
        responses=_custom_responses(gateway_responses),
        methods=_methods(resources, settings),
        min_compression_bytes=None if minimum is None else int(minimum),
    )


def fingerprint(stage: Described) -> str:
    """Return a hash that differs after every redeployment and every change of the stage."""
    # Hash the whole stage, not only its dates, which have a resolution of one second.
    told = {name: value for name, value in stage.items() if name != "ResponseMetadata"}
    encoded = orjson.dumps(told, default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(encoded).hexdigest()


def _custom_responses(items: Iterable[Described]) -> Mapping[str, CustomResponse]:
    return {
        item["responseType"]: CustomResponse(
            status=int(item["statusCode"]) if item.get("statusCode") else None,
            parameters=dict(item.get("responseParameters") or {}),
            template=(item.get("responseTemplates") or {}).get("application/json"),
        )
        for item in items
        if not item.get("defaultResponse")
    }


def _methods(resources: Iterable[Described], settings: Mapping[str, Described]) -> Iterator[Method]:
    for resource in resources:
        for http_method, described in (resource.get("resourceMethods") or {}).items():
            yield _method(resource, http_method, described, settings)


def _method(
    resource: Described,
    http_method: str,
    described: Described,
    settings: Mapping[str, Described],
) -> Method:
    integration = described.get("methodIntegration") or {}
    declared = (_parameter(name) for name in described.get("requestParameters") or {})
    timeout_ms = integration.get("timeoutInMillis") or _DEFAULT_TIMEOUT_MS
    return Method(
        resource_id=resource["id"],
        resource_path=resource["path"],
        http_method=http_method,
        is_function=integration.get("type") == "AWS_PROXY",
        declared=frozenset(found for found in declared if found is not None),
        timeout_seconds=timeout_ms / 1000,
        authorization=described.get("authorizationType") or "NONE",
        needs_api_key=bool(described.get("apiKeyRequired")),
        cache=_cache_rule(resource, http_method, integration, settings),
    )


def _parameter(expression: str) -> Parameter | None:
    """Parse `method.request.header.Prefer`; return None if the gateway can't look it up."""
    parts = expression.split(".", 3)
    if len(parts) != 4 or parts[:2] != ["method", "request"]:  # noqa: PLR2004 - as in the example
        return None
    location, name = parts[2], parts[3]
    if location not in get_args(Location):
        return None
    return Parameter(cast("Location", location), name.lower() if location == "header" else name)


def _cache_rule(
    resource: Described,
    http_method: str,
    integration: Described,
    settings: Mapping[str, Described],
) -> CacheRule | None:
    if http_method not in ("GET", "ANY"):
        return None
    found = _setting(resource["path"], settings)
    ttl_seconds = int(found.get("cacheTtlInSeconds") or 0)
    if not found.get("cachingEnabled") or ttl_seconds <= 0:
        return None
    key = [_parameter(name) for name in integration.get("cacheKeyParameters") or []]
    known = tuple(sorted(part for part in key if part is not None))
    if len(known) != len(key):
        _logger.warning(
            "%s %s is not cached: the gateway can't make a key of %s",
            http_method,
            resource["path"],
            integration["cacheKeyParameters"],
        )
        return None
    return CacheRule(
        ttl_seconds=ttl_seconds,
        namespace=integration.get("cacheNamespace") or resource["id"],
        key=known,
        refresh=_refresh(found),
    )


def _setting(path: str, settings: Mapping[str, Described]) -> Described:
    """Return the most specific setting for GET on the path; `*` matches every path or method."""
    normal = {_normal(key): value for key, value in settings.items()}
    wanted = path.strip("/")
    for key in ((wanted, "GET"), (wanted, "*"), ("*", "GET"), ("*", "*")):
        if key in normal:
            return normal[key]
    return {}


def _normal(key: str) -> tuple[str, str]:
    """Split a setting's key into path and method: `~1cities/GET`, `/cities/GET`, `cities/GET`."""
    path, _, http_method = key.rpartition("/")
    return path.replace("~1", "/").replace("~0", "~").strip("/"), http_method


def _refresh(setting: Described) -> Refresh:
    if not setting.get("requireAuthorizationForCacheControl", True):
        return "ALLOWED"
    strategy = setting.get("unauthorizedCacheControlHeaderStrategy")
    if strategy in get_args(Refresh):
        return cast("Refresh", strategy)
    return "SUCCEED_WITH_RESPONSE_HEADER"
