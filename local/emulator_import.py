"""Complete the emulator's API Gateway: the import of definitions (OpenAPI), and failed functions.

The emulator imports paths, methods, credentials and the functions' URIs. It leaves out parameters,
cache keys, time-outs, mock integrations, the methods ANY and gateway responses, all of which API
Gateway imports (API Gateway developer guide, "OpenAPI extensions for API Gateway"), and reads no
definition from S3. It answers the error of a failed function itself, instead of a gateway response.
"""

# ruff: noqa: ANN401, SLF001 - the emulator's functions are private, and have no types.

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

Json = Mapping[str, Any]

#: A header of all answers of functions. The other answers are the emulator's own.
FUNCTION_HEADER: Final = "x-forebay-function"

_ANY: Final = "x-amazon-apigateway-any-method"
_INTEGRATION: Final = "x-amazon-apigateway-integration"
_RESPONSES: Final = "x-amazon-apigateway-gateway-responses"
_METHODS: Final = {
    **{name: name.upper() for name in ("get", "head", "post", "put", "patch", "delete", "options")},
    _ANY: "ANY",
}
_LOCATIONS: Final = {"path": "path", "query": "querystring", "header": "header"}


class _FunctionFailedError(Exception):
    """A function raised, died, timed out, or is at its concurrency limit."""


def complete_gateway(emulator: Any) -> None:
    """Replace functions of the emulator's modules when it loads them, which takes seconds.

    Args:
        emulator: the module `ministack.app`, not serving yet.
    """
    load = emulator._get_module

    def load_and_complete(name: str) -> Any:
        module = load(name)
        if name == "cloudformation":
            _complete_import()
        if name == "apigateway_v1":
            _complete_answers()
        return module

    emulator._get_module = load_and_complete


@cache
def _complete_answers() -> None:
    """Answer failed functions by gateway responses, and mark all other answers of functions."""
    from ministack.services import apigateway_v1 as gateway  # noqa: PLC0415 - takes seconds

    invoke, shape_answer = gateway._invoke_lambda_proxy_v1, gateway._lambda_proxy_response

    def shape_answer_or_fail(result: Json) -> Any:
        if result.get("error") or result.get("throttle"):
            raise _FunctionFailedError
        return shape_answer(result)

    async def invoke_and_mark(*arguments: Any, **options: Any) -> Any:
        try:
            answer = await invoke(*arguments, **options)
        except _FunctionFailedError:
            return gateway._GatewayError(
                "INTEGRATION_FAILURE", "Internal server error", "InternalServerErrorException"
            )
        if isinstance(answer, gateway._GatewayError):
            return answer
        status, headers, body = answer
        return status, {**headers, FUNCTION_HEADER: "1"}, body

    gateway._lambda_proxy_response = shape_answer_or_fail
    gateway._invoke_lambda_proxy_v1 = invoke_and_mark


@cache
def _complete_import() -> None:
    from ministack.services import apigateway_v1 as gateway  # noqa: PLC0415 - takes seconds
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415

    import_path, import_api = gateway._import_path_item, gateway._import_rest_api

    def import_whole_path(
        api_id: str, path: str, item: Json, schemes: Json | None = None, security: Any = None
    ) -> None:
        import_path(api_id, path, item, schemes, security)
        resource_id = next(
            key for key, resource in gateway._resources[api_id].items() if resource["path"] == path
        )
        if _ANY in item:
            gateway._import_operation(api_id, resource_id, "ANY", item[_ANY], schemes, security)
        for key, method in _METHODS.items():
            if key in item:
                _complete_method(gateway, (api_id, resource_id, method), item[key])

    def import_whole_api(definition: Json, data: Json | None = None) -> str:
        api_id: str = import_api(definition, data)
        for response_type, response in definition.get(_RESPONSES, {}).items():
            gateway._put_gateway_response(api_id, response_type, response)
        return api_id

    gateway._import_path_item, gateway._import_rest_api = import_whole_path, import_whole_api
    create = provisioners._apigw_rest_api_create
    provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::RestApi"]["create"] = (
        lambda logical_id, props, stack: create(logical_id, _read_body(props), stack)
    )


def _read_body(props: Json) -> Json:
    """Return the properties with the definition itself, in which variables are replaced."""
    location = props.get("BodyS3Location")
    if location is None:
        return props
    from ministack.core.responses import get_account_id, get_region  # noqa: PLC0415
    from ministack.services import s3  # noqa: PLC0415

    content = s3._get_object_data(location["Bucket"], location["Key"]).decode()
    values = {"Partition": "aws", "Region": get_region(), "AccountId": get_account_id()}
    for name, value in values.items():
        content = content.replace(f"${{AWS::{name}}}", value)
    return {**props, "Body": json.loads(content)}


def _complete_method(gateway: Any, place: tuple[str, str, str], operation: Json) -> None:
    api_id, resource_id, method = place
    description = gateway._resources[api_id][resource_id]["resourceMethods"][method]
    description["requestParameters"] = dict(_map_parameters(operation))
    for status, response in operation.get("responses", {}).items():
        headers = {f"method.response.header.{name}": True for name in response.get("headers", {})}
        gateway._put_method_response(*place, status, {"responseParameters": headers})
    integration = operation[_INTEGRATION]
    gateway._put_integration(*place, {**integration, "type": integration["type"].upper()})
    for pattern, response in integration.get("responses", {}).items():
        selection = "" if pattern == "default" else pattern
        gateway._put_integration_response(
            *place, response["statusCode"], {**response, "selectionPattern": selection}
        )


def _map_parameters(operation: Json) -> Iterator[tuple[str, bool]]:
    for parameter in operation.get("parameters", []):
        location = _LOCATIONS[parameter["in"]]
        yield f"method.request.{location}.{parameter['name']}", parameter.get("required", False)
