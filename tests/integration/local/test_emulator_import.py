"""The emulator imports a whole definition of an API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.fixtures.emulator import Emulator, running_emulator

NAME = "of-a-definition"
URI = (
    "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/"
    "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:f/invocations"
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("import")) as started:
        started.s3.create_bucket(Bucket="definitions")
        yield started


def define(*paths: str) -> Mapping[str, Any]:
    """A definition of paths with a cached GET, an OPTIONS and a method ANY."""
    function = {"type": "aws_proxy", "httpMethod": "POST", "uri": URI}
    return {
        "openapi": "3.0.1",
        "info": {"title": NAME, "version": "1"},
        "paths": {
            path: {
                "get": {
                    "responses": {},
                    "security": [],
                    "parameters": [
                        {"name": "key", "in": "path", "required": True},
                        {"name": "not.and", "in": "query"},
                    ],
                    "x-amazon-apigateway-integration": {
                        **function,
                        "timeoutInMillis": 700,
                        "cacheKeyParameters": ["method.request.querystring.not.and"],
                    },
                },
                "options": {
                    "responses": {"200": {"description": "d", "headers": {"Vary": {}}}},
                    "security": [],
                    "x-amazon-apigateway-integration": {
                        "type": "mock",
                        "responses": {
                            "default": {
                                "statusCode": "200",
                                "responseParameters": {"method.response.header.Vary": "'Origin'"},
                            }
                        },
                    },
                },
                "x-amazon-apigateway-any-method": {
                    "responses": {},
                    "security": [],
                    "x-amazon-apigateway-integration": function,
                },
            }
            for path in paths
        },
        "x-amazon-apigateway-gateway-responses": {
            "THROTTLED": {"statusCode": "429", "responseTemplates": {"application/json": "{}"}}
        },
    }


def deploy(emulator: Emulator, stack: str, definition: Mapping[str, Any], key: str | None) -> str:
    """Create a stack of an API with the definition; return the API's id."""
    properties: dict[str, Any] = {"Name": NAME, "Mode": "overwrite"}
    if key is None:
        properties["Body"] = definition
    else:
        emulator.s3.put_object(Bucket="definitions", Key=key, Body=json.dumps(definition).encode())
        properties["BodyS3Location"] = {"Bucket": "definitions", "Key": key}
    template = {
        "Resources": {"Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": properties}}
    }
    client = emulator.client("cloudformation")
    client.create_stack(StackName=stack, TemplateBody=json.dumps(template))
    client.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    (resource,) = client.describe_stack_resources(StackName=stack)["StackResources"]
    return str(resource["PhysicalResourceId"])


def list_methods(emulator: Emulator, api_id: str) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The API's methods by HTTP method and path."""
    items = emulator.client("apigateway").get_resources(restApiId=api_id, embed=["methods"])[
        "items"
    ]
    return {
        (name, item["path"]): method
        for item in items
        for name, method in item.get("resourceMethods", {}).items()
    }


@pytest.mark.parametrize("key", [None, "one.json"])
def test_everything_that_a_definition_has_is_imported(emulator: Emulator, key: str | None) -> None:
    api_id = deploy(emulator, f"whole-{key is None}", define("/items/{key}"), key)
    methods = list_methods(emulator, api_id)

    assert set(methods) == {(name, "/items/{key}") for name in ("GET", "OPTIONS", "ANY")}
    get = methods["GET", "/items/{key}"]
    integration = get["methodIntegration"]
    assert get["requestParameters"] == {
        "method.request.path.key": True,
        "method.request.querystring.not.and": False,
    }
    assert integration["cacheKeyParameters"] == ["method.request.querystring.not.and"]
    assert (integration["type"], integration["timeoutInMillis"]) == ("AWS_PROXY", 700)
    if key is not None:  # in a template, CloudFormation's own variables are in their place
        assert "us-east-1:000000000000:function:f" in integration["uri"]
    responses = emulator.client("apigateway").get_gateway_responses(restApiId=api_id)["items"]
    own = [one["responseType"] for one in responses if not one["defaultResponse"]]
    assert own == ["THROTTLED"]
