"""Gateway responses: the API's own answers to failures that the gateway finds before a function.

The emulator formats all other failures by the same deployed gateway responses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from local.gateway.deployed import CustomResponse
from local.gateway.messages import Answer, Headers

_DEFAULT = CustomResponse(None, (), '{"message":$context.error.messageString}')
_SERVER_ERROR = 500

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


TIMED_OUT = Fault(
    "INTEGRATION_TIMEOUT", "Endpoint request timed out", 504, "InternalServerErrorException"
)
BROKEN_OFF = Fault("DEFAULT_4XX", "Bad Request", 400)
TOO_LARGE = Fault("REQUEST_TOO_LARGE", "Request Too Long", 413)
UNDECODABLE = Fault("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type", 415)
HEADERS_TOO_LARGE = Fault("DEFAULT_4XX", "HTTP header is larger than 10240 bytes.", 431)
URL_TOO_LONG = Fault("DEFAULT_4XX", "Request URI too long", 414)


def render(responses: Responses, fault: Fault, request_id: str) -> Answer:
    """Format the error by the deployed gateway responses, or by AWS's defaults.

    A type that is not customized takes the headers and the body of DEFAULT_4XX or DEFAULT_5XX, but
    keeps its own status.
    """
    exact = responses.get(fault.type)
    family = "DEFAULT_5XX" if fault.status >= _SERVER_ERROR else "DEFAULT_4XX"
    response = exact or responses.get(family, _DEFAULT)
    headers = {"content-type": ("Content-Type", "application/json")}
    headers |= {name.lower(): (name, value) for name, value in response.headers}
    if fault.error_type:
        headers["x-amzn-errortype"] = ("x-amzn-ErrorType", fault.error_type)
    headers["x-amzn-requestid"] = ("x-amzn-RequestId", request_id)
    status = exact.status if exact and exact.status else fault.status
    body = _fill(response.template or _DEFAULT.template or "", fault, request_id)
    return Answer(status, tuple(headers.values()), body.encode())


def select_cross_origin_headers(responses: Responses) -> Headers:
    """Return the `Access-Control-` headers of the API's errors.

    For answers without a deployed gateway response, so that pages of other origins can read them.
    """
    headers = responses.get("DEFAULT_4XX", _DEFAULT).headers
    return tuple(pair for pair in headers if pair[0].lower().startswith("access-control-"))


def _fill(template: str, fault: Fault, request_id: str) -> str:
    """Replace the template's variables; unknown variables stay, so that the author sees them."""
    values = {
        "$context.error.messageString": json.dumps(fault.message),
        "$context.error.message": fault.message,
        "$context.error.responseType": fault.type,
        "$context.requestId": request_id,
    }
    for name, value in values.items():
        template = template.replace(name, value)
    return template
