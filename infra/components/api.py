"""The REST API: methods, stage cache and usage plan, all derived from the list of routes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from forebay.routes import API_PREFIX, Parameter, Route
from infra.components.authorization import Authorization
from infra.components.domain import add_domain
from infra.components.findings import accept
from infra.components.gateway_responses import add_gateway_responses
from infra.components.reach import build_access_policy
from infra.front import ApiSettings, OpenSettings

STAGE_NAME: Final = API_PREFIX.removeprefix("/")

_LOCATIONS: Final = {"path": "path", "query": "querystring", "header": "header"}

_ENDPOINTS: Final = {
    "regional": apigateway.EndpointType.REGIONAL,
    "edge": apigateway.EndpointType.EDGE,
    "private": apigateway.EndpointType.PRIVATE,
}

#: The cache key parameter that separates the answers of authenticated callers.
_CALLER: Final = Parameter("header", "Authorization")

_WITHOUT_CREDENTIALS: Final = {
    True: "API keys identify the callers; a browser's preflight can't contain credentials.",
    False: "Only the pages that describe the API, and a browser's preflight, require no "
    "credentials, or the credentials in the environment's settings instead of Cognito's.",
}

_LOGGING_POLICY: Final = (
    "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
)

#: Headers that browsers may send across origins, in addition to the safelisted ones.
_REQUEST_HEADERS: Final = (
    "Authorization",
    "Baggage",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Range",
    "Range-Unit",
    "Read-After",
    "Traceparent",
    "Tracestate",
    "X-Api-Key",
)

# One JSON object per line. Values are not escaped, so it contains no free text of clients.
_ACCESS_LOG: Final = json.dumps(
    {
        "requestId": "$context.requestId",
        "time": "$context.requestTimeEpoch",
        "ip": "$context.identity.sourceIp",
        "apiKeyId": "$context.identity.apiKeyId",
        "method": "$context.httpMethod",
        "route": "$context.resourcePath",
        "status": "$context.status",
        "responseBytes": "$context.responseLength",
        "latencyMs": "$context.responseLatency",
        "functionLatencyMs": "$context.integration.latency",
        "functionStatus": "$context.integration.integrationStatus",
        "gatewayResponse": "$context.error.responseType",
    }
)


class RoutesApi(Construct):
    """A REST API with one stage that answers exactly the given routes."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        routes: Sequence[Route],
        functions: Mapping[str, lambda_.IFunction],
        settings: ApiSettings,
        read_timeout_seconds: int,
        log_retention: logs.RetentionDays,
        user_pool_arn: str | None = None,
        known_by: Sequence[str] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        self._settings = settings
        self._read_timeout = cdk.Duration.seconds(read_timeout_seconds)
        self._authorization = Authorization(
            self, "Authorization", settings=settings, user_pool_arn=user_pool_arn
        )
        self.api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name=name,
            endpoint_configuration=self._configure_endpoint(),
            policy=build_access_policy(settings, known_by=known_by),
            cloud_watch_role=True,
            min_compression_size=cdk.Size.bytes(settings.compress_from_bytes),
            deploy_options=self._configure_stage(name, routes, log_retention),
            # A custom domain replaces AWS's domain; otherwise clients could still use both.
            disable_execute_api_endpoint=settings.domain is not None or None,
        )
        self._keep_execution_log_for(log_retention)
        # The output has an address on AWS, which is wrong on the emulator and incomplete behind a
        # CDN.
        self.api.node.try_remove_child("Endpoint")
        add_gateway_responses(self.api, cors_allow_origin=settings.cors_allow_origin)
        self._add_methods(routes, functions)
        self._add_preflights(routes)
        self._refuse_other_methods(routes, functions["about"])
        self._add_plan(name)
        if settings.domain is not None:
            add_domain(
                self.api,
                settings.domain,
                stage=self.api.deployment_stage,
                endpoint=_ENDPOINTS[settings.endpoint],
            )
        self._accept_findings()

    def _keep_execution_log_for(self, retention: logs.RetentionDays) -> None:
        """Create the log group of API Gateway's errors, which would otherwise keep them forever."""
        log = logs.LogGroup(
            self,
            "ExecutionLog",
            log_group_name=f"API-Gateway-Execution-Logs_{self.api.rest_api_id}/{STAGE_NAME}",
            retention=retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        self.api.deployment_stage.node.add_dependency(log)

    def _configure_endpoint(self) -> apigateway.EndpointConfiguration:
        endpoints = [
            ec2.InterfaceVpcEndpoint.from_interface_vpc_endpoint_attributes(
                self, f"VpcEndpoint{number}", vpc_endpoint_id=name, port=443
            )
            for number, name in enumerate(self._settings.vpc_endpoint_ids)
        ]
        return apigateway.EndpointConfiguration(
            types=[_ENDPOINTS[self._settings.endpoint]], vpc_endpoints=endpoints or None
        )

    def _configure_stage(
        self, name: str, routes: Iterable[Route], retention: logs.RetentionDays
    ) -> apigateway.StageOptions:
        access_log = logs.LogGroup(
            self,
            "AccessLog",
            log_group_name=f"/aws/apigateway/{name}",
            retention=retention,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        return apigateway.StageOptions(
            stage_name=STAGE_NAME,
            cache_cluster_enabled=True,
            cache_cluster_size=self._settings.cache.size_gigabytes,
            # A cluster enables the cache for every GET; the cached routes enable it below.
            caching_enabled=False,
            cache_data_encrypted=True,
            throttling_rate_limit=self._settings.rate_per_second,
            throttling_burst_limit=self._settings.burst,
            # The API's own metrics are free of charge. Metrics per method cost as much as custom
            # metrics and are not needed: the access log contains the route.
            metrics_enabled=False,
            logging_level=apigateway.MethodLoggingLevel.ERROR,
            data_trace_enabled=False,
            method_options={
                f"{route.path}/{route.method}": self._configure_method(route)
                for route in routes
                if route.method == "GET"
            },
            access_log_destination=apigateway.LogGroupLogDestination(access_log),
            access_log_format=apigateway.AccessLogFormat.custom(_ACCESS_LOG),
        )

    def _configure_method(self, route: Route) -> apigateway.MethodDeploymentOptions:
        """A method's options; they replace the stage's as a whole, so they repeat those."""
        ttl_seconds = self._settings.ttl_of(route.name) if route.cached else 0
        return apigateway.MethodDeploymentOptions(
            caching_enabled=ttl_seconds > 0,
            cache_ttl=cdk.Duration.seconds(ttl_seconds),
            cache_data_encrypted=True,
            throttling_rate_limit=self._settings.rate_per_second,
            throttling_burst_limit=self._settings.burst,
            metrics_enabled=False,
            logging_level=apigateway.MethodLoggingLevel.ERROR,
            data_trace_enabled=False,
        )

    def _add_methods(
        self, routes: Iterable[Route], functions: Mapping[str, lambda_.IFunction]
    ) -> None:
        for route in routes:
            parameters = self._declare_parameters(route) if route.reads_query else {}
            options = self._authorization.options(route)
            self.api.root.resource_for_path(route.path).add_method(
                route.method,
                apigateway.LambdaIntegration(
                    functions[route.function],
                    cache_key_parameters=list(parameters) if route.cached else None,
                    # Writes and statuses, which may wait, get the gateway's 29 s.
                    timeout=self._read_timeout if route.reads_rows else None,
                    # One permission for all methods: a function's policy has room for a few dozen.
                    scope_permission_to_method=False,
                ),
                request_parameters=parameters or None,
                api_key_required=options.api_key_required,
                authorization_type=options.authorization_type,
                authorizer=options.authorizer,
                authorization_scopes=options.authorization_scopes,
            )

    def _refuse_other_methods(self, routes: Iterable[Route], function: lambda_.IFunction) -> None:
        """Let a function answer 405 with `Allow`: for API Gateway this is an unknown path.

        These methods require the same credentials as the path's own methods; otherwise any client
        could call the function.
        """
        by_path: dict[str, list[Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, []).append(route)
        for path, path_routes in by_path.items():
            options = self._authorization.options(*path_routes)
            self.api.root.resource_for_path(path).add_method(
                "ANY",
                apigateway.LambdaIntegration(function, scope_permission_to_method=False),
                api_key_required=options.api_key_required,
                authorization_type=options.authorization_type,
                authorizer=options.authorizer,
                authorization_scopes=options.authorization_scopes,
            )

    def _declare_parameters(self, route: Route) -> dict[str, bool]:
        """The parameters of a method; if it is cached, they are its cache keys.

        The function sees the caller if a request may name other resources. On other routes one
        answer would be right for all callers; `shares_cache = false` separates callers there too.
        """
        extra = (_CALLER,) if route.cached and self._settings.tells_callers_apart else ()
        return _map_parameters((*route.parameters, *extra))

    def _add_preflights(self, routes: Iterable[Route]) -> None:
        """Answer the CORS preflight requests of browsers."""
        methods: dict[str, list[str]] = {}
        for route in routes:
            methods.setdefault(route.path, []).append(route.method)
        for path, allowed in methods.items():
            self.api.root.resource_for_path(path).add_cors_preflight(
                allow_origins=[self._settings.cors_allow_origin],
                allow_methods=allowed,
                allow_headers=[*_REQUEST_HEADERS, *self._settings.cors_allow_headers],
                max_age=cdk.Duration.hours(1),
                status_code=200,  # the emulator sends a body, which a 204 must not have
            )

    def _add_plan(self, name: str) -> None:
        plan = self._settings.plan
        usage_plan = self.api.add_usage_plan(
            "Plan",
            name=name,
            throttle=apigateway.ThrottleSettings(
                rate_limit=plan.rate_per_second, burst_limit=plan.burst
            ),
            quota=apigateway.QuotaSettings(
                limit=plan.requests_per_month, period=apigateway.Period.MONTH
            ),
            api_stages=[
                apigateway.UsagePlanPerApiStage(api=self.api, stage=self.api.deployment_stage)
            ],
        )
        self.api_key = self.api.add_api_key("Key", api_key_name=name)
        usage_plan.add_api_key(self.api_key)

    @property
    def _is_open(self) -> bool:
        return isinstance(self._settings.authorization, OpenSettings)

    def _accept_findings(self) -> None:
        accept(
            self,
            {
                "AwsSolutions-APIG2": "The functions check requests against the declaration that "
                "the routes are derived from, and report all errors, which the gateway can't.",
                "AwsSolutions-APIG3": "The web ACL belongs to the edge in front of the API, in "
                "environments with an edge.",
                "AwsSolutions-APIG4": _WITHOUT_CREDENTIALS[self._is_open],
                "AwsSolutions-COG4": _WITHOUT_CREDENTIALS[self._is_open],
                f"AwsSolutions-IAM4[Policy::{_LOGGING_POLICY}]": "API Gateway logs with one role "
                "for the whole account, and AWS provides this policy for it.",
            },
        )


def _map_parameters(parameters: Iterable[Parameter]) -> dict[str, bool]:
    """The parameters in API Gateway's notation, and whether each is required (in paths only)."""
    return {
        f"method.request.{_LOCATIONS[parameter.location]}.{parameter.name}": (
            parameter.location == "path"
        )
        for parameter in parameters
    }
