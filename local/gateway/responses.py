"""Gateway responses: separates the gateway's errors from a function's answers, and formats them.

The emulator formats most of the gateway's errors by the deployed gateway responses. But it does not
format those of a failed integration, and it leaves variables like `$context.path` unreplaced. The
emulator's errors have these marks (from its source, version 1.5.33, which the lock file pins):

- a formatted error has the header `x-amzn-ErrorType`. Three types with a fixed message lack it;
  they are recognised if they equal the deployed gateway response byte for byte;
- a failed function is a 502 with the runtime's error object, as JSON text, in `message`;
- a throttled function is a 429 with Lambda's `TooManyRequestsException` and a `Reason` in the body;
- every other error of the emulator is a JSON object with the single member `message`.

The functions answer errors with `application/problem+json`, so they can't have these marks. If a
function of another API answers in the last form, its answer is passed on but never cached.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import orjson

from local.gateway.deployed import CustomResponse, RouteMatch
from local.gateway.messages import Answer, Headers, Incoming

_PLAIN_TEMPLATE = '{"message":$context.error.messageString}'
_VARIABLE = re.compile(r"\$(?:\{(context(?:\.\w+)+)\}|(context(?:\.[A-Za-z]\w*)+))")
_HEADER_PREFIX = "gatewayresponse.header."
_MESSAGE_MEMBERS = frozenset({"message", "Message", "__type"})
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_BAD_GATEWAY = 502

Responses = Mapping[str, CustomResponse]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error answer of API Gateway itself."""

    #: The gateway response type.
    type: str
    message: str
    #: Used unless the deployed gateway response of this type has a status.
    status: int
    #: Value of `x-amzn-ErrorType`, if AWS sends this header.
    error_type: str | None = None


# A function that raised, died, timed out, or is at its concurrency limit.
FUNCTION_FAILED = Fault(
    "INTEGRATION_FAILURE", "Internal server error", 502, "InternalServerErrorException"
)
TIMED_OUT = Fault(
    "INTEGRATION_TIMEOUT", "Endpoint request timed out", 504, "InternalServerErrorException"
)
BROKEN_OFF = Fault("DEFAULT_4XX", "Bad Request", 400)
TOO_LARGE = Fault("REQUEST_TOO_LARGE", "Request Too Long", 413)
UNDECODABLE = Fault("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type", 415)
HEADERS_TOO_LARGE = Fault("DEFAULT_4XX", "HTTP header is larger than 10240 bytes.", 431)
URL_TOO_LONG = Fault("DEFAULT_4XX", "Request URI too long", 414)

# The emulator sends these three errors without an error type.
_SILENT = (
    Fault("INVALID_API_KEY", "Forbidden", 403),
    Fault("QUOTA_EXCEEDED", "Limit Exceeded", 429),
    Fault("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type", 415),
)


@dataclass(frozen=True, slots=True)
class Context:
    """The values of a template's `$context` variables in one request."""

    request: Incoming
    request_id: str
    api_id: str
    stage: str
    #: None for a path that the API does not have.
    match: RouteMatch | None

    def variables(self) -> Mapping[str, str]:
        """Return all known variables of the request, without the error's."""
        return {
            **self.list_emulator_variables(),
            "context.apiId": self.api_id,
            "context.extendedRequestId": self.request_id,
            "context.httpMethod": self.request.method,
            "context.identity.sourceIp": self.request.peer,
            "context.path": self.request.path,
            "context.protocol": "HTTP/1.1",
        }

    def list_emulator_variables(self) -> Mapping[str, str]:
        """Return the variables that the emulator replaces itself."""
        return {
            "context.requestId": self.request_id,
            "context.resourcePath": self.match.method.resource_path if self.match else "",
            "context.stage": self.stage,
            "context.status": "",
        }


class Origin(Enum):
    """The origin of an answer."""

    #: The function (or another integration): may be cached.
    INTEGRATION = auto()
    #: The gateway's error, formatted by the emulator.
    GATEWAY = auto()
    #: Perhaps the gateway: passed on unchanged, and not cached.
    UNKNOWN = auto()
    #: The function failed or is at its concurrency limit; the gateway must format the error.
    FUNCTION_FAILED = auto()


def render(responses: Responses, fault: Fault, context: Context) -> Answer:
    """Format the error by the deployed gateway responses, or by AWS's defaults.

    A type that is not customized takes the headers and the body of DEFAULT_4XX or DEFAULT_5XX, but
    keeps its own status.
    """
    exact = responses.get(fault.type)
    response = exact or responses.get(_choose_family(fault))
    variables = {**context.variables(), **_build_error_variables(fault)}
    headers = {"content-type": ("Content-Type", "application/json")}
    for name, value in _select_headers(response):
        headers[name.lower()] = (name, value)
    if fault.error_type:
        headers["x-amzn-errortype"] = ("x-amzn-ErrorType", fault.error_type)
    headers["x-amzn-requestid"] = ("x-amzn-RequestId", context.request_id)
    status = exact.status if exact and exact.status else fault.status
    body = _fill(_choose_template(response), variables)
    return Answer(status, tuple(headers.values()), body.encode())


def select_cross_origin_headers(responses: Responses) -> Headers:
    """Return the fixed `Access-Control-` headers of the API's errors.

    For answers without a deployed gateway response, so that pages of other origins can read them.
    """
    headers = _select_headers(responses.get("DEFAULT_4XX"))
    return tuple(pair for pair in headers if pair[0].lower().startswith("access-control-"))


def _select_headers(response: CustomResponse | None) -> Headers:
    """Return the headers with a fixed text, the only kind that the API declares."""
    return tuple(
        (target.removeprefix(_HEADER_PREFIX), source[1:-1])
        for target, source in (response.parameters if response else {}).items()
        if target.startswith(_HEADER_PREFIX) and source[:1] == source[-1:] == "'"
    )


def find_origin(answer: Answer, responses: Responses, context: Context) -> Origin:
    """Find the origin of an answer from the emulator."""
    if answer.header("x-amzn-errortype"):
        return Origin.GATEWAY
    if context.match is None:
        return Origin.UNKNOWN
    if answer.status < _CLIENT_ERROR:
        return Origin.INTEGRATION
    if any(_is_worded(answer, fault, responses, context) for fault in _SILENT):
        return Origin.GATEWAY
    is_function = context.match.method.is_function
    if context.request.method == "HEAD" and is_function and answer.status == _BAD_GATEWAY:
        # HEAD has no body to recognise the failure by; functions never answer 502 themselves.
        return Origin.FUNCTION_FAILED
    return _find_origin_of_error(answer, is_function=is_function)


def _find_origin_of_error(answer: Answer, *, is_function: bool) -> Origin:
    body = _parse_object(answer)
    if is_function:
        if answer.status == FUNCTION_FAILED.status and _is_runtime_error(body.get("message")):
            return Origin.FUNCTION_FAILED
        if "Reason" in body and body.get("__type") == "TooManyRequestsException":
            return Origin.FUNCTION_FAILED
    return Origin.UNKNOWN if body and body.keys() <= _MESSAGE_MEMBERS else Origin.INTEGRATION


def complete(answer: Answer, context: Context) -> Answer:
    """Replace the variables that the emulator left in its gateway response."""
    if b"$" not in answer.body:
        return answer
    body = _fill(answer.body.decode(errors="surrogateescape"), context.variables())
    return Answer(answer.status, answer.headers, body.encode(errors="surrogateescape"))


def _choose_family(fault: Fault) -> str:
    return "DEFAULT_5XX" if fault.status >= _SERVER_ERROR else "DEFAULT_4XX"


def _choose_template(response: CustomResponse | None) -> str:
    return (response.template if response else None) or _PLAIN_TEMPLATE


def _build_error_variables(fault: Fault) -> Mapping[str, str]:
    return {
        "context.error.message": fault.message,
        "context.error.messageString": json.dumps(fault.message),
        "context.error.responseType": fault.type,
    }


def _fill(template: str, variables: Mapping[str, str]) -> str:
    """Replace the template's variables; unknown variables stay, so that the author sees them."""
    return _VARIABLE.sub(
        lambda match: variables.get(match.group(1) or match.group(2), match.group(0)), template
    )


def _is_worded(answer: Answer, fault: Fault, responses: Responses, context: Context) -> bool:
    exact = responses.get(fault.type)
    if answer.status != (exact.status if exact and exact.status else fault.status):
        return False
    variables = {
        **context.list_emulator_variables(),
        **_build_error_variables(fault),
        "context.requestId": answer.header("x-amzn-requestid") or "",
    }
    template = _choose_template(exact or responses.get(_choose_family(fault)))
    return answer.body == _fill(template, variables).encode()


def _parse_object(answer: Answer) -> Mapping[str, object]:
    if answer.media_type != "application/json":
        return {}
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_runtime_error(message: object) -> bool:
    """Return whether the text is a Lambda runtime's report of an unhandled error."""
    if not isinstance(message, str):
        return False
    try:
        error = orjson.loads(message)
    except orjson.JSONDecodeError:
        return message == "Lambda invocation error"
    return isinstance(error, dict) and "errorMessage" in error
