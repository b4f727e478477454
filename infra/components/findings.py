"""Accepts findings of cdk-nag, each with its reason at the construct that causes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
from constructs import IConstruct


def accept(construct: IConstruct, reasons: Mapping[str, str]) -> None:
    """Accept findings at a construct and below it.

    Args:
        construct: the construct.
        reasons: reasons by finding, in cdk-nag's notation: `AwsSolutions-S1`.
    """
    cdk.Validations.of(construct).acknowledge(
        *(cdk.Acknowledgment(id=rule, reason=reason) for rule, reason in reasons.items())
    )


def accept_objects_below(construct: IConstruct, arn_pattern: str) -> None:
    """Accept that a role has access to all objects below a prefix, for this ARN pattern only."""
    pattern = format_for_cdk_nag(construct, arn_pattern)
    accept(
        construct,
        {
            f"AwsSolutions-IAM5[Resource::{pattern}]": "The objects' names are generated at "
            "run time; permissions are separated by prefix."
        },
    )


def format_for_cdk_nag(construct: IConstruct, arn_pattern: str) -> str:
    """An ARN as cdk-nag writes it in a finding at the construct."""
    return _format(cdk.Stack.of(construct).resolve(arn_pattern))


def _format(value: Any) -> str:  # noqa: ANN401 - a template's value
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_format(part) for part in parts)
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case _:
            return str(value)
