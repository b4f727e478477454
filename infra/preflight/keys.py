"""Checks of the keys that encrypt an environment's data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.database import ExternalDatabase
from infra.preflight.account import Account, MissingError
from infra.preflight.answers import collect
from infra.preflight.findings import Finding, State
from infra.preflight.plan import Plan

#: The services that use the key without a role of the account; see `infra.components.encryption`.
_SERVICES: Final = ("logs.{region}.amazonaws.com", "s3.amazonaws.com", "cloudwatch.amazonaws.com")


def check_key(plan: Plan, account: Account) -> Iterator[Finding]:
    """AWS's key for databases exists in the region of a secondary, which refers to it by name."""
    database = plan.settings.database
    if isinstance(database, ExternalDatabase) or not plan.settings.standby:
        return
    region = plan.settings.region
    if account.exists("kms", region, "describe_key", KeyId="alias/aws/rds"):
        yield Finding(State.OK, "key", "alias/aws/rds", f"exists in {region}")
    else:
        yield Finding(
            State.WILL_FAIL,
            "key",
            "alias/aws/rds",
            f"does not exist in {region}: AWS creates it with the first encrypted database there",
            "create any encrypted database in the region once, and delete it",
        )


def check_encryption(plan: Plan, account: Account) -> Iterator[Finding]:
    """The existing keys of `encryption` can be used, and the current key by AWS's services too."""
    encryption = plan.settings.encryption
    for arn in encryption.arns:
        yield from collect("encryption key", arn, _check_existing(plan, account, arn))


def _check_existing(plan: Plan, account: Account, arn: str) -> Iterator[Finding]:
    region = arn.split(":")[3]
    try:
        key: Mapping[str, Any] = account.call("kms", region, "describe_key", KeyId=arn)[
            "KeyMetadata"
        ]
    except MissingError:
        next_step = f"correct encryption.key in infra/environments/{plan.settings.name}.toml"
        detail = f"does not exist in {region}"
        yield Finding(State.WILL_FAIL, "encryption key", arn, detail, next_step)
        return
    kind = (key.get("KeyUsage"), key.get("KeySpec"))
    if kind != ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"):
        detail = f"is a key for {kind[0]} of the kind {kind[1]}"
        next_step = "name a symmetric key that encrypts"
    elif key.get("KeyState") != "Enabled":
        detail = f"its state is {key.get('KeyState')}"
        next_step = f"aws kms enable-key --region {region} --key-id {arn}"
    elif arn == plan.settings.encryption.key and (lacking := _find_lacking(account, region, arn)):
        detail = f"its policy does not allow {', '.join(lacking)}"
        next_step = "add the statements of infra/README.md to its policy"
    else:
        yield Finding(State.OK, "encryption key", arn, "is enabled")
        return
    yield Finding(State.WILL_FAIL, "encryption key", arn, detail, next_step)


def _find_lacking(account: Account, region: str, arn: str) -> list[str]:
    """The services that the key's policy does not name in a statement that allows."""
    answer = account.call("kms", region, "get_key_policy", KeyId=arn, PolicyName="default")
    allowed: set[str] = set()
    statements = json.loads(answer["Policy"])["Statement"]
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal")
        if statement.get("Effect") == "Allow" and isinstance(principal, dict):
            services = principal.get("Service", ())
            allowed.update([services] if isinstance(services, str) else services)
    needed = [service.format(region=region) for service in _SERVICES]
    return [service for service in needed if service not in allowed]
