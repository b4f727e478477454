"""Gateway responses: tells the gateway's own errors from a function's answers, and words them.

The emulator words most of the gateway's errors itself, by the deployed gateway responses, but not
those of a failed integration, and it leaves variables like `$context.path` as they stand. What it
sends bears these marks (read in its source, version 1.5.33, which the lock file pins):

- an error that it words has the header `x-amzn-ErrorType`, except for three types whose message is
  fixed; those are recognised by being, byte for byte, what the deployed gateway response gives;
- a function that failed is a 502 whose `message` is the runtime's error object as JSON text;
- a throttled function is a 429 whose body is Lambda's `TooManyRequestsException` with a `Reason`;
- anything else that it says itself is a JSON object with nothing but `message` in it.

The functions answer errors with `application/problem+json`, so none of these can be theirs. Where
another API's function answers in one of the last form, its answer is passed on but never cached.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import orjson

from local.gateway.deployed import CustomResponse, Found
from local.gateway.messages import Answer, Headers, Incoming

# AWS: "Gateway response types for API Gateway". Of the two defaults the status is the error's own.
_STATUS = {
    "ACCESS_DENIED": 403,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 401,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "WAF_FILTERED": 403,
}
_PLAIN_TEMPLATE = '{"message":$context.error.messageString}'
_PLAIN_ACCESS_DENIED = '{"Message":$context.error.messageString}'
_VARIABLE = re.compile(r"\$(?:\{(context(?:\.\w+)+)\}|(context(?:\.[A-Za-z]\w*)+))")
_HEADER_PREFIX = "gatewayresponse.header."
_MESSAGE_MEMBERS = frozenset({"message", "Message", "__type"})
_CLIENT_ERROR = 400
_SERVER_ERROR = 500
_BAD_GATEWAY = 502

Responses = Mapping[str, CustomResponse]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error that API Gateway itself answers."""

    #: The gateway response type.
    type: str
    message: str
    #: Unless the deployed gateway response of this very type names another one.
    status: int
    #: Value of `x-amzn-ErrorType`, where AWS sends one.
    error_type: str | None = None


# A function that raised, died or timed out; access logs of AWS show the type and message of both.
FUNCTION_FAILED = Fault(
    "INTEGRATION_FAILURE", "Internal server error", 502, "InternalServerErrorException"
)
FUNCTION_THROTTLED = Fault(
    "INTEGRATION_FAILURE", "Internal server error", 500, "InternalServerErrorException"
)
TIMED_OUT = Fault(
    "INTEGRATION_TIMEOUT", "Endpoint request timed out", 504, "InternalServerErrorException"
)
BROKEN_OFF = Fault("DEFAULT_4XX", "Bad Request", 400)
TOO_LARGE = Fault("REQUEST_TOO_LARGE", "Request Too Long", 413)
UNDECODABLE = Fault("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type", 415)
HEADERS_TOO_LARGE = Fault("DEFAULT_4XX", "HTTP header is larger than 10240 bytes.", 431)
URL_TOO_LONG = Fault("DEFAULT_4XX", "Request URI too long", 414)
MAY_NOT_REFRESH = Fault(
    "ACCESS_DENIED",
    "User is not authorized to invalidate a cache entry of this resource",
    403,
    "AccessDeniedException",
)

# The emulator sends these three without an error type.
_SILENT = (
    Fault("INVALID_API_KEY", "Forbidden", 403),
    Fault("QUOTA_EXCEEDED", "Limit Exceeded", 429),
    Fault("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type", 415),
)


@dataclass(frozen=True, slots=True)
class Context:
    """What a template's `$context` variables stand for in one request."""

    request: Incoming
    request_id: str
    api_id: str
    stage: str
    #: None for a path that the API does not have.
    found: Found | None

    def variables(self) -> Mapping[str, str]:
        """Every variable of the request that the gateway knows, without the error's own."""
        return {
            **self.emulator_variables(),
            "context.apiId": self.api_id,
            "context.extendedRequestId": self.request_id,
            "context.httpMethod": self.request.method,
            "context.identity.sourceIp": self.request.peer,
            "context.path": self.request.path,
            "context.protocol": "HTTP/1.1",
        }

    def emulator_variables(self) -> Mapping[str, str]:
        """Those that the emulator fills in by itself."""
        return {
            "context.requestId": self.request_id,
            "context.resourcePath": self.found.method.resource_path if self.found else "",
            "context.stage": self.stage,
            "context.status": "",
        }


class Origin(Enum):
    """Who made an answer."""

    #: The function (or another integration): may be cached.
    INTEGRATION = auto()
    #: The gateway, worded by the emulator.
    GATEWAY = auto()
    #: Perhaps the gateway: passed on as it is, and not kept.
    UNKNOWN = auto()
    #: Nobody yet: the function failed, and the gateway has to word it.
    FUNCTION_FAILED = auto()
    #: The same for a function at its concurrency limit.
    FUNCTION_THROTTLED = auto()


def render(responses: Responses, fault: Fault, context: Context) -> Answer:
    """The error as the deployed gateway responses word it, or as AWS does by default.

    A type that is not customized takes the headers and the body of DEFAULT_4XX or DEFAULT_5XX, but
    keeps its own status.
    """
    own = responses.get(fault.type)
    used = own or responses.get(_family(fault))
    variables = {**context.variables(), **_error_variables(fault)}
    headers = {"content-type": ("Content-Type", "application/json")}
    for target, source in (used.parameters if used else {}).items():
        value = _mapped(source, variables, context)
        if target.startswith(_HEADER_PREFIX) and value is not None:
            name = target.removeprefix(_HEADER_PREFIX)
            headers[name.lower()] = (name, value)
    if fault.error_type:
        headers["x-amzn-errortype"] = ("x-amzn-ErrorType", fault.error_type)
    headers["x-amzn-requestid"] = ("x-amzn-RequestId", context.request_id)
    status = own.status if own and own.status else fault.status
    body = _fill(_template(used, fault), variables)
    return Answer(status, tuple(headers.values()), body.encode())


def cross_origin_headers(responses: Responses) -> Headers:
    """The fixed `Access-Control-` headers of the API's errors.

    For answers that nothing deployed words, so that another origin's page may read them as well.
    """
    used = responses.get("DEFAULT_4XX")
    return tuple(
        (target.removeprefix(_HEADER_PREFIX), source[1:-1])
        for target, source in (used.parameters if used else {}).items()
        if target.lower().startswith(f"{_HEADER_PREFIX}access-control-") and source[:1] == "'"
    )


def origin(answer: Answer, responses: Responses, context: Context) -> Origin:
    """Who made the answer that came from the emulator."""
    if answer.header("x-amzn-errortype"):
        return Origin.GATEWAY
    if context.found is None:
        return Origin.UNKNOWN
    if answer.status < _CLIENT_ERROR:
        return Origin.INTEGRATION
    if any(_is_worded(answer, fault, responses, context) for fault in _SILENT):
        return Origin.GATEWAY
    is_function = context.found.method.is_function
    if context.request.method == "HEAD" and is_function and answer.status == _BAD_GATEWAY:
        # Without its body nothing else tells it; functions never answer 502 themselves.
        return Origin.FUNCTION_FAILED
    return _origin_of_error(answer, is_function=is_function)


def _origin_of_error(answer: Answer, *, is_function: bool) -> Origin:
    body = _json_object(answer)
    if is_function:
        if answer.status == FUNCTION_FAILED.status and _is_runtime_error(body.get("message")):
            return Origin.FUNCTION_FAILED
        if "Reason" in body and body.get("__type") == "TooManyRequestsException":
            return Origin.FUNCTION_THROTTLED
    return Origin.UNKNOWN if body and body.keys() <= _MESSAGE_MEMBERS else Origin.INTEGRATION


def complete(answer: Answer, context: Context) -> Answer:
    """The emulator's wording of a gateway response, with the variables that it left over."""
    if b"$" not in answer.body:
        return answer
    body = _fill(answer.body.decode(errors="surrogateescape"), context.variables())
    return Answer(answer.status, answer.headers, body.encode(errors="surrogateescape"))


def _family(fault: Fault) -> str:
    status = _STATUS.get(fault.type, fault.status)
    return "DEFAULT_5XX" if status >= _SERVER_ERROR else "DEFAULT_4XX"


def _template(used: CustomResponse | None, fault: Fault) -> str:
    if used is not None and used.template is not None:
        return used.template
    return _PLAIN_ACCESS_DENIED if fault.type == "ACCESS_DENIED" else _PLAIN_TEMPLATE


def _error_variables(fault: Fault) -> Mapping[str, str]:
    return {
        "context.error.message": fault.message,
        "context.error.messageString": json.dumps(fault.message),
        "context.error.responseType": fault.type,
    }


def _fill(template: str, variables: Mapping[str, str]) -> str:
    """The template with its variables; an unknown one stays, so that its author sees it."""
    return _VARIABLE.sub(
        lambda match: variables.get(match.group(1) or match.group(2), match.group(0)), template
    )


def _mapped(source: str, variables: Mapping[str, str], context: Context) -> str | None:
    """The value of a header's mapping expression; None where the request lacks it."""
    if len(source) > 1 and source[0] == source[-1] == "'":
        return source[1:-1]
    place, _, name = source.removeprefix("method.request.").partition(".")
    if place == "header":
        return context.request.headers.get(name.lower())
    if place == "querystring":
        return dict(context.request.query).get(name)
    if place == "path":
        return context.found.path.get(name) if context.found else None
    return variables.get(source)


def _is_worded(answer: Answer, fault: Fault, responses: Responses, context: Context) -> bool:
    own = responses.get(fault.type)
    if answer.status != (own.status if own and own.status else fault.status):
        return False
    variables = {
        **context.emulator_variables(),
        **_error_variables(fault),
        "context.requestId": answer.header("x-amzn-requestid") or "",
    }
    template = _template(own or responses.get(_family(fault)), fault)
    return answer.body == _fill(template, variables).encode()


def _json_object(answer: Answer) -> Mapping[str, object]:
    if answer.media_type != "application/json":
        return {}
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_runtime_error(message: object) -> bool:
    """Whether the text is what a Lambda runtime reports of an unhandled error."""
    if not isinstance(message, str):
        return False
    try:
        error = orjson.loads(message)
    except orjson.JSONDecodeError:
        return message == "Lambda invocation error"
    return isinstance(error, dict) and "errorMessage" in error
