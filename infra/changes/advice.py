"""The way around each obstacle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from infra.changes.update import Obstacle

_NUMBER: Final = (
    "set database.number to the next number together with the change: it creates another, empty "
    "database in a stack of its own, beside this one, which stays (infra/README.md, 'Another "
    "database')"
)

#: By rule, or by rule and type.
_ADVICE: Final[Mapping[str, str]] = {
    "definition": (
        "deploy nevertheless, and at once again with a greater api.definition_number, which "
        "imports the definition again; meanwhile the stage serves as before (docs/upgrading.md)"
    ),
    "export": "deploy the reading stack without it first",
    "held": "undo the change of the settings; nothing keeps what would be lost",
    "held AWS::KMS::Key": (
        "name it in encryption.former_keys = ['own'], as long as anything that it has encrypted is "
        "needed: objects of the archive, logs, backups"
    ),
    "held AWS::RDS::DBCluster": _NUMBER,
    "held AWS::RDS::DBInstance": _NUMBER,
    "in use": (
        "functions leave a zone one deployment earlier: name it in database.network.kept_zones "
        "now, and remove it from there in a later deployment, when no server of the database is "
        "in it"
    ),
    "missing": "deploy the stack that has the output first",
    "moved": _NUMBER,
    "name": (
        "if an earlier deployment kept the resource, deploy with --import-existing-resources; "
        "otherwise deploy without it first"
    ),
    "name AWS::Cognito::UserPoolDomain": (
        "delete the domain first (aws cognito-idp delete-user-pool-domain); clients fetch no "
        "tokens until the deployment ends"
    ),
    "name AWS::ElastiCache::ReplicationGroup": (
        "deploy without the table read_cache first; the cache's answers are lost, not data"
    ),
    "name AWS::Route53::RecordSet": (
        "delete the stack that has the record first (aws cloudformation delete-stack); the "
        "domain does not resolve until the deployment ends"
    ),
    "overlap": "choose other addresses, or deploy without the other subnet first",
    "refused": "deploy another value in between; for an API, api.endpoint = 'regional'",
    "stale": (
        "the stack's template does not change, so a deployment would skip it: delete the stack "
        "first (aws cloudformation delete-stack), then deploy all stacks"
    ),
    "sticky": "give the property a value that has no effect, instead of removing it",
    "type": "deploy without the resource first",
}


def advise(obstacle: Obstacle) -> str:
    """A sentence that says what to do instead."""
    by_type = _ADVICE.get(f"{obstacle.rule} {obstacle.type}")
    return by_type or _ADVICE[obstacle.rule]


def describe(obstacle: Obstacle) -> str:
    """The obstacle and the way around it, in one line."""
    return f"{obstacle.stack}: {obstacle.subject}: {obstacle.reason}; {advise(obstacle)}"
