"""Checks a caller's scopes for the resources that a request names besides its path.

API Gateway checks method and path before a function runs. It can't see which other resources a
query or a body names, and a method's scopes are alternatives. So a function that serves such a
route calls `Access.require` with the scope of each resource that the parsed request names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from forebay.errors import SettingsError
from forebay.problem import Problem, ProblemError

#: The resource server of the user pool, a prefix of each scope in a token: `forebay/cities.read`.
RESOURCE_SERVER: Final = "forebay"

#: The kinds of authorization that a deployment can have.
KINDS: Final = ("none", "cognito", "iam", "lambda")

# The ARN of a role's session leaves out the role's path (AWS: "IAM identifiers").
_SESSION = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/.+")
_ROLE = re.compile(r"(arn:[a-z-]+:iam::\d{12}:role)/(?:.+/)?([^/]+)")


def read_scope(group: str) -> str:
    """The scope required to read a resource, without the resource server's name.

    Args:
        group: the resource's `scope_group`: by default its path.
    """
    return f"{group}.read"


def write_scope(group: str) -> str:
    """The scope required to write a resource, without the resource server's name."""
    return f"{group}.write"


def principal(user_arn: str) -> str:
    """The role or user of an AWS caller's ARN, in one spelling.

    The ARN of a role's session becomes the ARN of the role, without the role's path, because
    sessions don't contain the path; role names are unique in an account. Other ARNs are unchanged.
    """
    if session := _SESSION.fullmatch(user_arn):
        return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}"
    if role := _ROLE.fullmatch(user_arn):
        return f"{role[1]}/{role[2]}"
    return user_arn


@dataclass(frozen=True, slots=True)
class Access:
    """The source of the callers' scopes in a deployment."""

    kind: str
    #: For `iam`: the scopes of each principal, without the resource server's name.
    principals: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, kind: str, principals: str = "") -> Self:
        """Create an instance from a function's settings.

        Args:
            kind: `none`, `cognito`, `iam` or `lambda`.
            principals: for `iam`, a JSON object of ARNs and arrays of scopes.

        Raises:
            SettingsError: the kind is unknown, or `principals` is not such an object.
        """
        if kind not in KINDS:
            raise SettingsError(f"authorization {kind!r} must be one of {', '.join(KINDS)}")
        try:
            items = json.loads(principals or "{}").items()
            return cls(kind, {principal(arn): frozenset(scopes) for arn, scopes in items})
        except (ValueError, AttributeError, TypeError):
            raise SettingsError(
                f"principals {principals[:80]!r} must be a JSON object of ARNs and arrays of scopes"
            ) from None

    def allows(self, caller: Mapping[str, Any], scope: str) -> bool:
        """Return whether a caller has a scope.

        Args:
            caller: `requestContext` of the proxy event; a scope that is absent from it is denied.
            scope: without the resource server's name: `cities.read`.
        """
        authorizer = caller.get("authorizer") or {}
        match self.kind:
            case "none":
                return True
            case "cognito":
                return _is_listed(scope, (authorizer.get("claims") or {}).get("scope"))
            case "lambda":
                return _is_listed(scope, authorizer.get("scope"))
            case _:
                arn = (caller.get("identity") or {}).get("userArn") or ""
                return scope in self.principals.get(principal(arn), ())

    def require(self, caller: Mapping[str, Any], scopes: Mapping[str, str]) -> None:
        """Refuse a request that names a resource for which the caller lacks the scope.

        Args:
            caller: `requestContext` of the proxy event.
            scopes: `read_scope` or `write_scope` by the path of every resource that the request
                names.

        Raises:
            ProblemError: `forbidden`, with the first such resource in alphabetical order.
        """
        for resource, scope in sorted(scopes.items()):
            if not self.allows(caller, scope):
                raise ProblemError(_describe_forbidden(resource, scope))


def _is_listed(scope: str, granted: object) -> bool:
    """Return whether a space-separated list of scopes (RFC 6749 §3.3) contains the scope."""
    return isinstance(granted, str) and f"{RESOURCE_SERVER}/{scope}" in granted.split(" ")


def _describe_forbidden(resource: str, scope: str) -> Problem:
    doing = {"read": "reads", "write": "writes"}[scope.rpartition(".")[2]]
    return Problem(
        "forbidden",
        f"the request also {doing} {resource}, which requires the scope {RESOURCE_SERVER}/{scope}",
        hint=f"Remove {resource} from the request, or get a token with this scope",
    )
