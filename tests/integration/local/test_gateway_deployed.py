"""The gateway follows CloudFormation's deployment: cache keys, TTLs, time-outs, responses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.emulator import Emulator
from tests.fixtures.gateway import Api, GatewayProcess, ordered, running_gateway

NAME = "gateway-from-a-template"


def _method(resource: Any, function_arn: str) -> dict[str, Any]:
    declared = ["method.request.path.key", "method.request.querystring.order"]
    invocations = f"2015-03-31/functions/{function_arn}/invocations"
    return {
        "Type": "AWS::ApiGateway::Method",
        "Properties": {
            "RestApiId": {"Ref": "Api"},
            "ResourceId": resource,
            "HttpMethod": "GET",
            "AuthorizationType": "NONE",
            "RequestParameters": dict.fromkeys(declared, False),
            "Integration": {
                "Type": "AWS_PROXY",
                "IntegrationHttpMethod": "POST",
                "Uri": f"arn:aws:apigateway:us-east-1:lambda:path/{invocations}",
                "CacheKeyParameters": declared,
                "TimeoutInMillis": 5_000,
            },
        },
    }


def _resource(parent: Any, part: str) -> dict[str, Any]:
    return {
        "Type": "AWS::ApiGateway::Resource",
        "Properties": {"RestApiId": {"Ref": "Api"}, "ParentId": parent, "PathPart": part},
    }


def _template(function_arn: str) -> dict[str, Any]:
    return {
        "Resources": {
            "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": NAME}},
            "Items": _resource({"Fn::GetAtt": ["Api", "RootResourceId"]}, "items"),
            "Item": _resource({"Ref": "Items"}, "{key}"),
            "Get": _method({"Ref": "Item"}, function_arn),
            "Failed": {
                "Type": "AWS::ApiGateway::GatewayResponse",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "ResponseType": "INTEGRATION_FAILURE",
                    "StatusCode": "503",
                    "ResponseParameters": {"gatewayresponse.header.Retry-After": "'7'"},
                    "ResponseTemplates": {"application/json": '{"id": "$context.requestId"}'},
                },
            },
            "Deployment": {
                "Type": "AWS::ApiGateway::Deployment",
                "DependsOn": ["Get", "Failed"],
                "Properties": {"RestApiId": {"Ref": "Api"}},
            },
            "Stage": {
                "Type": "AWS::ApiGateway::Stage",
                "Properties": {
                    "RestApiId": {"Ref": "Api"},
                    "StageName": "v1",
                    "DeploymentId": {"Ref": "Deployment"},
                    "CacheClusterEnabled": True,
                    "CacheClusterSize": "0.5",
                    "MethodSettings": [
                        {
                            "ResourcePath": "/~1items~1{key}",
                            "HttpMethod": "GET",
                            "CachingEnabled": True,
                            "CacheTtlInSeconds": 60,
                        }
                    ],
                },
            },
        }
    }


@pytest.fixture
def from_template(emulator: Emulator, gateway_api: Api, tmp_path: Path) -> Iterator[GatewayProcess]:
    stacks = emulator.client("cloudformation")
    stacks.create_stack(
        StackName=NAME, TemplateBody=json.dumps(_template(gateway_api.function_arn))
    )
    stacks.get_waiter("stack_create_complete").wait(
        StackName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    api = stacks.describe_stack_resource(StackName=NAME, LogicalResourceId="Api")
    api_id = api["StackResourceDetail"]["PhysicalResourceId"]
    # The start of the function's worker may take longer than the integration's time-out.
    emulator.client("lambda").invoke(FunctionName=gateway_api.function_arn, Payload=b"{}")
    arguments = ("--emulator", emulator.url, "--api-id", api_id)
    with running_gateway(*arguments, log=tmp_path / "gateway.log") as gateway:
        yield gateway
    stacks.delete_stack(StackName=NAME)


def test_the_gateway_has_the_settings_of_the_template(from_template: GatewayProcess) -> None:
    client = from_template.client
    first = client.get("/v1/items/1")
    assert client.get("/v1/items/1").call == first.call
    assert client.get("/v1/items/2").call != first.call
    failed = client.get(ordered("/v1/items/1", raise_="x"))
    assert (failed.status, failed["Retry-After"]) == (503, "7")
    assert failed.json() == {"id": failed["x-amzn-RequestId"]}
    assert client.get(ordered("/v1/items/1", sleep=8)).status == 504
    assert client.get("/v1/items/1?limit=1").status == 400


def test_the_emulator_hides_that_a_templates_cache_is_on(
    from_template: GatewayProcess, gateway_api: Api
) -> None:
    """The reason why the gateway reads the method settings; if this fails, it no longer has to."""
    api_id = from_template.client.get("/_gateway/health").json()["api_id"]
    stage = gateway_api.client.get_stage(restApiId=api_id, stageName="v1")
    assert stage["cacheClusterEnabled"] is False
