"""The origin of an answer, and errors formatted by the deployed gateway responses."""

import json

import pytest

from local.gateway.deployed import CustomResponse, Method, RouteMatch
from local.gateway.messages import Answer, Incoming
from local.gateway.responses import (
    FUNCTION_FAILED,
    TIMED_OUT,
    TOO_LARGE,
    Context,
    Origin,
    complete,
    find_origin,
    render,
)

METHOD = Method(
    resource_id="r",
    resource_path="/items/{key}",
    http_method="GET",
    is_function=True,
    declared=frozenset(),
    timeout_seconds=29,
    cache=None,
)
REQUEST = Incoming.parse("GET", "/v1/items/5?limit=1", [("Origin", "http://a")], peer="10.0.0.9")
CONTEXT = Context(REQUEST, "id-1", "api", "v1", RouteMatch(METHOD, {"key": "5"}))


def custom(
    template: str | None = None, status: int | None = None, **headers: str
) -> CustomResponse:
    parameters = {
        f"gatewayresponse.header.{name.replace('_', '-')}": value for name, value in headers.items()
    }
    return CustomResponse(status, parameters, template)


def test_without_customization_the_answer_is_what_aws_sends() -> None:
    answer = render({}, FUNCTION_FAILED, CONTEXT)
    assert answer.status == 502
    assert answer.body == b'{"message":"Internal server error"}'
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-amzn-errortype") == "InternalServerErrorException"
    assert answer.header("x-amzn-requestid") == "id-1"


def test_the_types_own_response_wins_over_the_default() -> None:
    responses = {
        "DEFAULT_5XX": custom("default", 500),
        "INTEGRATION_FAILURE": custom("own", 503),
    }
    answer = render(responses, FUNCTION_FAILED, CONTEXT)
    assert (answer.status, answer.body) == (503, b"own")


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [(TIMED_OUT, 504, b"five"), (TOO_LARGE, 413, b"four")],
)
def test_a_type_without_its_own_takes_the_defaults_words_and_keeps_its_status(
    fault: object, status: int, body: bytes
) -> None:
    responses = {"DEFAULT_4XX": custom("four", 400), "DEFAULT_5XX": custom("five", 500)}
    answer = render(responses, fault, CONTEXT)  # type: ignore[arg-type]
    assert (answer.status, answer.body) == (status, body)


def test_templates_are_filled_with_the_request_and_the_error() -> None:
    template = (
        '["$context.error.message", $context.error.messageString, "$context.error.responseType", '
        '"$context.requestId", "${context.path}", "$context.httpMethod", "$context.stage", '
        '"$context.resourcePath", "$context.identity.sourceIp", "$context.unknown"]'
    )
    answer = render({"INTEGRATION_TIMEOUT": custom(template)}, TIMED_OUT, CONTEXT)
    assert json.loads(answer.body) == [
        "Endpoint request timed out",
        "Endpoint request timed out",
        "INTEGRATION_TIMEOUT",
        "id-1",
        "/v1/items/5",
        "GET",
        "v1",
        "/items/{key}",
        "10.0.0.9",
        "$context.unknown",
    ]


def test_headers_are_fixed_texts() -> None:
    response = custom("{}", Content_Type="'application/problem+json'", Retry_After="'5'")
    answer = render({"DEFAULT_5XX": response}, TIMED_OUT, CONTEXT)
    assert answer.header("content-type") == "application/problem+json"
    assert len([1 for name, _ in answer.headers if name.lower() == "content-type"]) == 1
    assert answer.header("retry-after") == "5"


def test_a_path_cannot_break_the_json_that_it_is_put_into() -> None:
    request = Incoming.parse("GET", '/v1/"}<script>', [], peer="")
    context = Context(request, "id", "api", "v1", None)
    responses = {"DEFAULT_5XX": custom('{"instance": "$context.path"}')}
    assert json.loads(render(responses, TIMED_OUT, context).body) == {
        "instance": "/v1/%22%7D%3Cscript%3E"
    }


def from_emulator(status: int, body: object, **headers: str) -> Answer:
    named = {"Content-Type": "application/json", "x-amzn-requestid": "e-1"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, tuple(named.items()), text.encode())


RUNTIME_ERROR = json.dumps({"errorMessage": "boom", "errorType": "Runtime.HandlerError"})
THROTTLE = {"__type": "TooManyRequestsException", "message": "Rate", "Reason": "Concurrent"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (from_emulator(200, {"message": "fine"}), Origin.INTEGRATION),
        (from_emulator(404, {"code": "not_found"}), Origin.INTEGRATION),
        (
            from_emulator(502, {"message": "x"}, Content_Type="application/problem+json"),
            Origin.INTEGRATION,
        ),
        (from_emulator(502, {"message": RUNTIME_ERROR}), Origin.FUNCTION_FAILED),
        (from_emulator(502, {"message": "Lambda invocation error"}), Origin.FUNCTION_FAILED),
        (from_emulator(429, THROTTLE), Origin.FUNCTION_FAILED),
        (from_emulator(401, {"message": "x"}, x_amzn_ErrorType="Unauthorized"), Origin.GATEWAY),
        (from_emulator(403, '{"message":"Forbidden"}'), Origin.GATEWAY),
        (from_emulator(429, '{"message":"Limit Exceeded"}'), Origin.GATEWAY),
        (from_emulator(502, {"message": "bad"}), Origin.UNKNOWN),
        (from_emulator(404, {"message": "Not Found"}), Origin.UNKNOWN),
        (from_emulator(500, {"message": "'NoneType' …"}), Origin.UNKNOWN),
        (from_emulator(500, "no json"), Origin.INTEGRATION),
        (from_emulator(500, '["message"]'), Origin.INTEGRATION),
    ],
)
def test_an_answer_is_told_by_its_marks(answer: Answer, expected: Origin) -> None:
    assert find_origin(answer, {}, CONTEXT) is expected


def test_a_customized_answer_for_a_missing_key_is_told_by_its_words() -> None:
    template = (
        '{"title": $context.error.messageString, "id": "$context.requestId", "at": "$context.path"}'
    )
    responses = {"DEFAULT_4XX": custom(template, Content_Type="'application/problem+json'")}
    worded = '{"title": "Forbidden", "id": "e-1", "at": "$context.path"}'
    answer = from_emulator(403, worded, Content_Type="application/problem+json")
    assert find_origin(answer, responses, CONTEXT) is Origin.GATEWAY
    assert json.loads(complete(answer, CONTEXT).body)["at"] == "/v1/items/5"
    other = from_emulator(403, worded.replace("Forbidden", "No"), Content_Type="text/plain")
    assert find_origin(other, responses, CONTEXT) is Origin.INTEGRATION


def test_an_integration_that_is_no_function_cannot_fail_as_one() -> None:
    mock = Method(**{**_fields(METHOD), "is_function": False})  # type: ignore[arg-type]
    context = Context(REQUEST, "id-1", "api", "v1", RouteMatch(mock, {}))
    answer = from_emulator(502, {"message": RUNTIME_ERROR})
    assert find_origin(answer, {}, context) is Origin.UNKNOWN


def _fields(method: Method) -> dict[str, object]:
    return {name: getattr(method, name) for name in Method.__dataclass_fields__}


def test_an_answer_to_an_unknown_path_is_nobodys_to_keep() -> None:
    context = Context(REQUEST, "id-1", "api", "v1", None)
    assert find_origin(from_emulator(200, "{}"), {}, context) is Origin.UNKNOWN
