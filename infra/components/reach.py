"""The API's resource policy: the networks and the edge that may call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aws_cdk import aws_iam as iam

from infra.front import ApiSettings, IamSettings

_ALL: Final = "execute-api:/*"


def build_access_policy(
    settings: ApiSettings, *, known_by: Sequence[str], sid: str
) -> iam.PolicyDocument:
    """The policy of an API; one without effect if its access is not restricted.

    Without any policy, an API would keep restrictions that the settings have removed:
    CloudFormation does not clear the property (aws/aws-cdk#21840).

    Args:
        settings: the API's settings.
        known_by: the values of the header Referer by which the API recognises the edge; the edge
            overwrites the client's value. Empty without an edge. Referer is one of the few headers
            that a resource policy can check (AWS: "AWS condition keys that can be used in API
            Gateway resource policies").
        sid: the first statement's id.
    """
    conditions: list[Mapping[str, Mapping[str, object]]] = []
    if settings.endpoint == "private":
        conditions.append({"StringNotEquals": {"aws:SourceVpce": list(settings.vpc_endpoint_ids)}})
    if known_by:
        conditions.append({"StringNotEquals": {"aws:Referer": list(known_by)}})
    if not conditions and isinstance(settings.authorization, IamSettings):
        # API Gateway accepts encrypted requests only.
        conditions.append({"Bool": {"aws:SecureTransport": "false"}})
    deny = [_build_statement(iam.Effect.DENY, condition) for condition in conditions]
    # Within an account, a request is allowed if either policy allows it. With IAM the callers'
    # policies decide, so this policy may only deny.
    allow = (
        []
        if isinstance(settings.authorization, IamSettings)
        else [_build_statement(iam.Effect.ALLOW)]
    )
    statements = [*allow, *deny]
    statements[0].sid = sid
    return iam.PolicyDocument(statements=statements)


def _build_statement(
    effect: iam.Effect, conditions: Mapping[str, Mapping[str, object]] | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        effect=effect,
        principals=[iam.AnyPrincipal()],
        actions=["execute-api:Invoke"],
        resources=[_ALL],
        conditions=conditions,
    )
