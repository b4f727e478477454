"""Complete the emulator's import of API definitions (OpenAPI), and run it without the front.

The emulator imports paths, methods, credentials and the functions' URIs. It leaves out parameters,
cache keys, time-outs, mock integrations, the methods ANY and gateway responses, all of which API
Gateway imports (API Gateway developer guide, "OpenAPI extensions for API Gateway"), and reads no
definition from S3. For another definition it makes another API, but CloudFormation keeps the API.
"""

# ruff: noqa: ANN401, SLF001 - the emulator's functions are private, and have no types.

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

Json = Mapping[str, Any]

_ANY: Final = "x-amazon-apigateway-any-method"
_INTEGRATION: Final = "x-amazon-apigateway-integration"
_RESPONSES: Final = "x-amazon-apigateway-gateway-responses"
_METHODS: Final = {
    **{name: name.upper() for name in ("get", "head", "post", "put", "patch", "delete", "options")},
    _ANY: "ANY",
}
_LOCATIONS: Final = {"path": "path", "query": "querystring", "header": "header"}


def complete_import(emulator: Any) -> None:
    """Replace functions of the emulator when it loads CloudFormation, which takes seconds.

    Args:
        emulator: the module `ministack.app`, not serving yet.
    """
    load = emulator._get_module

    def load_and_complete(name: str) -> Any:
        module = load(name)
        if name == "cloudformation":
            _replace_functions()
        return module

    emulator._get_module = load_and_complete


@cache
def _replace_functions() -> None:
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
    handlers = provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::RestApi"]
    handlers["create"] = _create_with_file(provisioners)
    handlers["update"] = _keep_id(gateway, provisioners)


def _create_with_file(provisioners: Any) -> Any:
    """Return the creation of an API with a definition that may be an object of S3."""
    create = provisioners._apigw_rest_api_create
    return lambda logical_id, props, stack: create(logical_id, _read_body(props), stack)


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


def _keep_id(gateway: Any, provisioners: Any) -> Any:
    """Return the update of an API that keeps its id, as CloudFormation does."""
    update = provisioners._apigw_rest_api_update
    create = _create_with_file(provisioners)

    def update_in_place(
        api_id: str, old: Json, new: Json, stack: str, logical_id: str | None = None
    ) -> tuple[str, Json]:
        names = ("Body", "BodyS3Location")
        if all(new.get(name) == old.get(name) for name in names):
            result: tuple[str, Json] = update(api_id, old, new, stack, logical_id)
            return result
        imported, _ = create(logical_id or api_id, new, stack)
        for store in (gateway._resources, gateway._authorizers_v1, gateway._gateway_responses):
            store[api_id] = store.pop(imported)
        created = gateway._rest_apis[api_id]["createdDate"]
        gateway._rest_apis[api_id] = gateway._rest_apis[imported] | {
            "id": api_id,
            "createdDate": created,
        }
        gateway._delete_rest_api(imported)
        return api_id, provisioners._apigw_rest_api_attrs(api_id)

    return update_in_place


def main() -> None:
    """Run the emulator without a check of its callers, as the tests do."""
    # The emulator reads its settings from the environment at import.
    import ministack.app as emulator  # noqa: PLC0415

    complete_import(emulator)
    emulator.main()


if __name__ == "__main__":
    main()
