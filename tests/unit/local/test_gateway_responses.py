"""Errors formatted by the deployed gateway responses."""

import json

import pytest

from local.gateway.deployed import CustomResponse
from local.gateway.responses import TIMED_OUT, TOO_LARGE, URL_TOO_LONG, Fault, render


def custom(
    template: str | None = None, status: int | None = None, **headers: str
) -> CustomResponse:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return CustomResponse(status, named, template)


def test_without_customization_the_answer_is_the_default_of_aws() -> None:
    answer = render({}, TIMED_OUT, "id-1")
    assert answer.status == 504
    assert answer.body == b'{"message":"Endpoint request timed out"}'
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-amzn-errortype") == "InternalServerErrorException"
    assert answer.header("x-amzn-requestid") == "id-1"


def test_the_types_own_response_wins_over_the_default() -> None:
    responses = {
        "DEFAULT_5XX": custom("default", 500),
        "INTEGRATION_TIMEOUT": custom("own", 503),
    }
    answer = render(responses, TIMED_OUT, "id-1")
    assert (answer.status, answer.body) == (503, b"own")


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [(TIMED_OUT, 504, b"five"), (TOO_LARGE, 413, b"four"), (URL_TOO_LONG, 400, b"four")],
)
def test_a_type_without_its_own_takes_the_defaults_words_and_keeps_its_status(
    fault: Fault, status: int, body: bytes
) -> None:
    responses = {"DEFAULT_4XX": custom("four", 400), "DEFAULT_5XX": custom("five", 500)}
    answer = render(responses, fault, "id-1")
    assert (answer.status, answer.body) == (status, body)


def test_templates_are_filled_with_the_request_and_the_error() -> None:
    template = (
        '["$context.error.message", $context.error.messageString, "$context.error.responseType", '
        '"$context.requestId", "$context.unknown"]'
    )
    answer = render({"INTEGRATION_TIMEOUT": custom(template)}, TIMED_OUT, "id-1")
    assert json.loads(answer.body) == [
        "Endpoint request timed out",
        "Endpoint request timed out",
        "INTEGRATION_TIMEOUT",
        "id-1",
        "$context.unknown",
    ]


def test_a_responses_headers_win_over_those_of_aws() -> None:
    response = custom("{}", Content_Type="application/problem+json", Retry_After="5")
    answer = render({"DEFAULT_5XX": response}, TIMED_OUT, "id-1")
    assert answer.header("content-type") == "application/problem+json"
    assert len([1 for name, _ in answer.headers if name.lower() == "content-type"]) == 1
    assert answer.header("retry-after") == "5"
