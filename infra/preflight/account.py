"""Calls to one AWS account, with the errors that the checks distinguish.

PreflightError
├── CredentialsError   no call can succeed: no credentials, or AWS refuses them
├── DeniedError        the caller lacks the permission for this call
├── InactiveError      the account may not use the service yet
├── MissingError       the object does not exist
└── UnansweredError    any other error: the check has no result
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)

from forebay.errors import ForebayError

#: An answer of AWS, which botocore has parsed by the service's model.
Answer = Mapping[str, Any]
#: Returns the client of a service in a region.
Connect = Callable[[str, str], Any]

_NO_CREDENTIALS: Final = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
_REFUSED_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation"}
)
#: A new account gets these until AWS has activated it.
_INACTIVE: Final = frozenset({"OptInRequired", "SubscriptionRequiredException"})
MISSING: Final = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "ApplicationDoesNotExistException",
        "DBClusterNotFoundFault",
        "DBInstanceNotFound",
        "DBInstanceNotFoundFault",
        "DBProxyNotFoundFault",
        "EntityNotFound",
        "GlobalClusterNotFoundFault",
        "InvalidGroup.NotFound",
        "InvalidSubnetID.NotFound",
        "InvalidVpcID.NotFound",
        "NoSuchBucket",
        "NoSuchEntity",
        "NoSuchFunctionExists",
        "NoSuchHostedZone",
        "NoSuchResourceException",
        "NotFound",
        "NotFoundException",
        "ParameterNotFound",
        "QueueDoesNotExist",
        "ReplicationGroupNotFoundFault",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "UserGroupNotFound",
        "UserNotFound",
    }
)

#: IAM's prefix of a service, if it is not the name of the SDK.
_PREFIXES: Final = {"service-quotas": "servicequotas"}
#: HTTP's methods of the calls of API Gateway that the trial makes; all others only read.
_METHODS: Final = {"ImportRestApi": "POST", "DeleteRestApi": "DELETE"}
#: IAM's action, if it is not the call's name.
_ACTIONS: Final = {"s3:HeadBucket": "s3:ListBucket"}


class PreflightError(ForebayError):
    """A call to AWS gave no answer."""


class CredentialsError(PreflightError):
    """There are no credentials, or AWS refuses them."""


class DeniedError(PreflightError):
    """The caller may not make the call; `action` is the missing permission."""

    def __init__(self, action: str, message: str) -> None:
        super().__init__(message)
        self.action = action


class InactiveError(PreflightError):
    """The account may not use the service yet."""


class MissingError(PreflightError):
    """The object does not exist."""


class UnansweredError(PreflightError):
    """AWS did not answer the call; `code` is that of AWS's error, empty without any."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def find_action(service: str, operation: str) -> str:
    """IAM's name of the permission for a call."""
    if service == "apigateway":  # whose actions are HTTP's methods
        return f"apigateway:{_METHODS.get(operation, 'GET')}"
    action = f"{_PREFIXES.get(service, service)}:{operation}"
    return _ACTIONS.get(action, action)


class Account:
    """The account's calls; those of the checks make no change."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: dict[tuple[str, str], Any] = {}

    def call(self, service: str, region: str, method: str, **parameters: object) -> Answer:
        """Call an operation once.

        Args:
            service: the SDK's name of the service.
            region: the region that is called.
            method: the SDK's name of the operation, as `describe_vpcs`.
            parameters: the operation's parameters.

        Raises:
            PreflightError: as described at the top of this module.
        """
        client = self._get_client(service, region)
        with _translating(service, client.meta.method_to_api_mapping[method]):
            answer: Answer = getattr(client, method)(**parameters)
        return answer

    def list(
        self, service: str, region: str, method: str, key: str, **parameters: object
    ) -> list[Any]:
        """The members `key` of all pages of an operation's answers.

        Raises:
            PreflightError: as for `call`.
        """
        client = self._get_client(service, region)
        with _translating(service, client.meta.method_to_api_mapping[method]):
            pages = client.get_paginator(method).paginate(**parameters)
            return [item for page in pages for item in page.get(key, ())]

    def exists(self, service: str, region: str, method: str, **parameters: object) -> bool:
        """True if the operation finds the object.

        Raises:
            PreflightError: as for `call`, except that the object is missing.
        """
        try:
            self.call(service, region, method, **parameters)
        except MissingError:
            return False
        return True

    def _get_client(self, service: str, region: str) -> Any:  # noqa: ANN401 - of any service
        key = (service, region)
        if key not in self._clients:
            self._clients[key] = self._connect(service, region)
        return self._clients[key]


@contextmanager
def _translating(service: str, operation: str) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        raise _translate(exc, find_action(service, operation)) from exc
    except _NO_CREDENTIALS as exc:
        raise CredentialsError(str(exc)) from exc
    except BotoCoreError as exc:
        raise UnansweredError(f"{service} {operation}: {exc}") from exc


def _translate(exc: ClientError, action: str) -> PreflightError:
    code = exc.response["Error"]["Code"]
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _REFUSED_CREDENTIALS:
        return CredentialsError(str(exc))
    if code in _INACTIVE:
        return InactiveError(str(exc))
    if code in MISSING:
        return MissingError(str(exc))
    if code in _DENIED or status == 403:  # noqa: PLR2004 - HTTP's Forbidden
        return DeniedError(action, str(exc))
    return UnansweredError(str(exc), code)
