"""The REST API: its definition, stage cache and usage plan, all derived from the list of routes."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from forebay.routes import API_PREFIX, Route
from infra.components.authorization import Authorization
from infra.components.definition import Definition, Json
from infra.components.domain import add_domain
from infra.components.findings import accept
from infra.components.functions import Target
from infra.components.reach import build_access_policy
from infra.front import ApiSettings, LambdaAuthorizerSettings
from infra.quotas import check_definition, find_path_warning

STAGE_NAME: Final = API_PREFIX.removeprefix("/")

_ENDPOINTS: Final = {
    "regional": apigateway.EndpointType.REGIONAL,
    "edge": apigateway.EndpointType.EDGE,
    "private": apigateway.EndpointType.PRIVATE,
}

#: The largest definition that the template contains. A template has at most 1 MB (CloudFormation
#: quotas), and the rest of it grows with the routes too.
_MAX_INLINE_BYTES: Final = 700_000

_LOGGING_POLICY: Final = (
    "arn:<AWS::Partition>:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
)

#: CDK's notation of a value that is not known yet, with a number that differs between two runs.
_TOKEN: Final = re.compile(r"\$\{Token\[[^\]]*\]\}")

_UNKNOWN_POOL: Final = (
    "With so many resources the API's definition is a file, which can't refer to another stack: "
    "deploy the identity stack first, with --exclusively, then set "
    "api.authorization.created_pool_arn to its output UserPoolArn"
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
        functions: Mapping[str, Target],
        settings: ApiSettings,
        read_timeout_seconds: int,
        log_retention: logs.RetentionDays,
        user_pool_arn: str | None = None,
        known_by: Sequence[str] = (),
    ) -> None:
        """Add the API.

        Args:
            scope: the stack.
            construct_id: the construct's id.
            name: of the API.
            routes: the API's routes.
            functions: the functions by `Route.function`.
            settings: the API's settings.
            read_timeout_seconds: the longest time of a read.
            log_retention: of both logs.
            user_pool_arn: the pool of the tokens that the API accepts; None without Cognito.
            known_by: the values by which the API recognises the edge.
        """
        super().__init__(scope, construct_id)
        self._settings = settings
        #: The document that API Gateway imports.
        self.definition: Json = Definition(
            name=name,
            routes=routes,
            functions={key: target.name for key, target in functions.items()},
            settings=settings,
            authorization=Authorization(settings, user_pool_arn),
            read_timeout_seconds=read_timeout_seconds,
        ).build()
        policy = build_access_policy(settings, known_by=known_by, sid=self._mark_definition())
        self.api = self._add_api(name, policy, self._configure_stage(name, routes, log_retention))
        self._keep_execution_log_for(log_retention)
        self._allow_calls(functions)
        self._add_plan(name)
        if settings.domain is not None:
            add_domain(
                self.api,
                settings.domain,
                stage=self.api.deployment_stage,
                endpoint=_ENDPOINTS[settings.endpoint],
            )
        self._accept_findings()
        if warning := find_path_warning(routes, settings.resources_quota):
            cdk.Annotations.of(self).add_warning_v2("forebay:resourcesPerApi", warning)

    def _add_api(
        self, name: str, policy: iam.PolicyDocument, stage: apigateway.StageOptions
    ) -> apigateway.SpecRestApi:
        endpoint = _ENDPOINTS[self._settings.endpoint]
        api = apigateway.SpecRestApi(
            self,
            "Api",
            rest_api_name=name,
            api_definition=self._store_definition(policy),
            # The default mode keeps the paths that the definition no longer has.
            mode=apigateway.RestApiMode.OVERWRITE,
            # An import makes an edge-optimized API unless its parameters name another type.
            parameters={"endpointConfigurationTypes": endpoint.value},
            endpoint_configuration=self._configure_endpoint(endpoint),
            policy=policy,
            cloud_watch_role=True,
            min_compression_size=cdk.Size.bytes(self._settings.compress_from_bytes),
            deploy_options=stage,
            # A custom domain replaces AWS's domain; otherwise clients could still use both.
            disable_execute_api_endpoint=self._settings.domain is not None or None,
        )
        # The output has an address on AWS, which is wrong on the emulator and incomplete behind a
        # CDN.
        api.node.try_remove_child("Endpoint")
        return api

    def _mark_definition(self) -> str:
        """A mark of the definition that the policy contains.

        An import overwrites the API, its policy too (Amazon API Gateway, `PutRestApi`), and a file
        of S3 can't contain the policy, which refers to secrets. With the mark the policy changes
        together with the definition, so that CloudFormation sets it again.
        """
        content = _TOKEN.sub("", json.dumps(self.definition))
        return f"Definition{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def _store_definition(self, policy: iam.PolicyDocument) -> apigateway.ApiDefinition:
        """Put the definition into the template, or into a file of S3 if it is too large."""
        content = json.dumps(self.definition, separators=(",", ":"))
        check_definition(len(content))
        if len(content) <= _MAX_INLINE_BYTES:
            document = json.loads(self._fill_in(content))
            document["x-amazon-apigateway-policy"] = policy.to_json()
            return apigateway.ApiDefinition.from_inline(document)
        if cdk.Token.is_unresolved(content):
            cdk.Annotations.of(self).add_error(_UNKNOWN_POOL)
        # The CDK copies the file at once; its name on S3 is its hash.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "openapi.json"
            file.write_text(content, encoding="utf-8")
            asset = s3_assets.Asset(self, "Definition", path=str(file))
        return apigateway.ApiDefinition.from_bucket(asset.bucket, asset.s3_object_key)

    def _fill_in(self, content: str) -> str:
        """Replace API Gateway's variables, which are not allowed in a template, by their values."""
        stack = cdk.Stack.of(self)
        values = {"Partition": stack.partition, "Region": stack.region, "AccountId": stack.account}
        for name, value in values.items():
            content = content.replace(f"${{AWS::{name}}}", value)
        return content

    def _allow_calls(self, functions: Mapping[str, Target]) -> None:
        """Let the API call the functions, with one permission each for all of its methods.

        A function's policy has 20 KB (AWS: "Lambda quotas"), too little for one per method. The
        definition names the functions, so CloudFormation does not know that they come first.
        """
        targets = {target.name: (key, target.entry) for key, target in functions.items()}
        for key, entry in targets.values():
            self._allow_call(entry, f"{key.title()}Permission", self.api.arn_for_execute_api())
            self.api.node.add_dependency(entry)
        if isinstance(self._settings.authorization, LambdaAuthorizerSettings):
            judge = lambda_.Function.from_function_attributes(
                self,
                "Judge",
                function_arn=self._settings.authorization.function_arn,
                same_environment=True,
            )
            authorizers = cdk.Stack.of(self).format_arn(
                service="execute-api",
                resource=self.api.rest_api_id,
                resource_name="authorizers/*",
            )
            self._allow_call(judge, "AuthorizerPermission", authorizers)

    def _allow_call(self, function: lambda_.IFunction, construct_id: str, source_arn: str) -> None:
        function.add_permission(
            construct_id,
            scope=self,
            principal=iam.ServicePrincipal("apigateway.amazonaws.com"),
            source_arn=source_arn,
        )

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

    def _configure_endpoint(
        self, endpoint: apigateway.EndpointType
    ) -> apigateway.EndpointConfiguration:
        endpoints = [
            ec2.InterfaceVpcEndpoint.from_interface_vpc_endpoint_attributes(
                self, f"VpcEndpoint{number}", vpc_endpoint_id=name, port=443
            )
            for number, name in enumerate(self._settings.vpc_endpoint_ids)
        ]
        return apigateway.EndpointConfiguration(types=[endpoint], vpc_endpoints=endpoints or None)

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
                if self._find_ttl(route) > 0
            },
            access_log_destination=apigateway.LogGroupLogDestination(access_log),
            access_log_format=apigateway.AccessLogFormat.custom(_ACCESS_LOG),
        )

    def _find_ttl(self, route: Route) -> int:
        """Seconds that the stage cache keeps answers of a route; 0 if it doesn't."""
        return self._settings.ttl_of(route.name) if route.cached else 0

    def _configure_method(self, route: Route) -> apigateway.MethodDeploymentOptions:
        """A method's options; they replace the stage's as a whole, so they repeat those."""
        return apigateway.MethodDeploymentOptions(
            caching_enabled=True,
            cache_ttl=cdk.Duration.seconds(self._find_ttl(route)),
            cache_data_encrypted=True,
            throttling_rate_limit=self._settings.rate_per_second,
            throttling_burst_limit=self._settings.burst,
            metrics_enabled=False,
            logging_level=apigateway.MethodLoggingLevel.ERROR,
            data_trace_enabled=False,
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

    def _accept_findings(self) -> None:
        accept(
            self,
            {
                "AwsSolutions-APIG2": "The functions check requests against the declaration that "
                "the routes are derived from, and report all errors, which the gateway can't.",
                "AwsSolutions-APIG3": "The web ACL belongs to the edge in front of the API, in "
                "environments with an edge.",
                f"AwsSolutions-IAM4[Policy::{_LOGGING_POLICY}]": "API Gateway logs with one role "
                "for the whole account, and AWS provides this policy for it.",
            },
        )
