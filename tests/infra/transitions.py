"""Changes of an environment's settings, each tried in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.infra.variants import ACCOUNT, JUDGE_ARN, POOL_ARN

Changes = Mapping[str, Any]

_RECORDS: Final = {"retention_hours": 24, "when_unavailable": "accept"}
_KEY_ARN: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0f0f0f0f-0000-4000-8000-000000000000"
_CERTIFICATE: Final = f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1"
_DOMAIN: Final = {
    "name": "api.example.com",
    "certificate_arn": _CERTIFICATE,
    "hosted_zone_id": "Z1",
}
_EDGE: Final = {"requests_per_address": 30_000, "requests_per_signature": 300_000}
_EXTERNAL: Final = {
    "kind": "external",
    "url": "postgresql://forebay@db.example.com/forebay",
    "replica_url": "postgresql://forebay@replica.example.com/forebay",
    "read_timeout_seconds": 10,
}
_RDS: Final = {
    "kind": "rds",
    "instance_class": "t4g.medium",
    "multi_az": False,
    "replicas": 1,
    "storage_gibibytes": 20,
    "max_storage_gibibytes": 100,
    "read_timeout_seconds": 10,
    "max_connections": 180,
    "backup_days": 1,
    "deletion_protection": False,
    "network": {"cidr": "10.31.0.0/20"},
}
_THREE_ZONES: Final = {"cidr": "10.31.0.0/20", "availability_zones": 3}
_KEPT_ZONE: Final = {"cidr": "10.31.0.0/20", "kept_zones": ["3"]}
_COGNITO: Final = {
    "kind": "cognito",
    "domain_prefix": "forebay-example",
    "machine_clients": {"loader": ["countries.write"]},
    "callback_urls": ["https://app.example.com/"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Settings that replace one another, from the first to the last, and back."""

    name: str
    base: str = "dev"
    before: Changes = field(default_factory=dict)
    #: Between the two, for changes that need several deployments.
    between: tuple[Changes, ...] = ()
    after: Changes = field(default_factory=dict)

    @property
    def steps(self) -> list[Changes]:
        """The settings in their order."""
        return [self.before, *self.between, self.after]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A change that has an obstacle, and the way around it."""

    name: str
    base: str = "dev"
    before: Changes = field(default_factory=dict)
    after: Changes = field(default_factory=dict)
    rule: str
    way: str


TRANSITIONS: Final = (
    Transition(
        name="zones",
        after={"database.network.availability_zones": 3},
        between=({"database.network.kept_zones": ["3"]},),
    ),
    Transition(
        name="zones-by-id",
        between=(
            {"database.network.kept_zones": ["use1-az4", "use1-az1"]},
            {
                "database.network.zones": ["use1-az4", "use1-az1"],
                "database.network.kept_zones": ["1", "2"],
            },
        ),
        after={"database.network.zones": ["use1-az4", "use1-az1"]},
    ),
    Transition(
        name="zone-by-id",
        before={"database.network.zones": ["use1-az4", "use1-az1"]},
        between=(
            {
                "database.network.zones": ["use1-az4", "use1-az1"],
                "database.network.kept_zones": ["use1-az6"],
            },
        ),
        after={"database.network.zones": ["use1-az4", "use1-az1", "use1-az6"]},
    ),
    Transition(
        name="cidr",
        after={"database.number": 2, "database.network.cidr": "10.99.0.0/20"},
    ),
    Transition(
        name="edge", base="prod", before={"edge": None}, between=({"edge.enforced": False},)
    ),
    Transition(
        name="edge-of-another-region",
        before={"region": "eu-central-1"},
        after={"region": "eu-central-1", "edge": _EDGE},
    ),
    Transition(
        name="edge-secret",
        base="prod",
        before={"edge.origin_secrets": ["1"]},
        after={"edge.origin_secrets": ["1", "2"]},
    ),
    Transition(name="edge-domain", base="prod", after={"edge.domain": _DOMAIN}),
    Transition(
        name="domain-to-edge",
        base="prod",
        before={"edge": None, "api.domain": _DOMAIN},
        # Without a record until the edge has it, or the API again.
        between=({"edge": None},),
        after={"edge.domain": _DOMAIN},
    ),
    Transition(name="api-domain", after={"api.domain": _DOMAIN}),
    Transition(name="aurora-to-rds", after={"database": {**_RDS, "number": 2}}),
    Transition(name="aurora-to-external", after={"database": _EXTERNAL}),
    Transition(name="rds-to-external", before={"database": _RDS}, after={"database": _EXTERNAL}),
    Transition(
        name="rds-replicas",
        before={"database": _RDS},
        after={"database": {**_RDS, "replicas": 3}},
    ),
    Transition(
        name="rds-without-replicas",
        before={"database": _RDS},
        after={"database": {**_RDS, "replicas": 0}},
    ),
    Transition(
        name="rds-size",
        before={"database": _RDS},
        after={
            "database": {
                **_RDS,
                "instance_class": "r8g.large",
                "multi_az": True,
                "backup_days": 30,
                "deletion_protection": True,
                "insights_days": 7,
            }
        },
    ),
    Transition(name="aurora-replicas", after={"database.replicas": 2}),
    Transition(
        name="aurora-instances",
        after={"database.serverless": None, "database.instance_class": "r8g.large"},
    ),
    Transition(
        name="aurora-global",
        before={"database.serverless": {"min_units": 1, "max_units": 2}},
        after={
            "database.serverless": {"min_units": 1, "max_units": 2},
            "database.in_global": {"identifier": "forebay", "role": "primary"},
        },
    ),
    Transition(
        name="proxy", before={"database": _RDS}, after={"database": {**_RDS, "proxy": True}}
    ),
    Transition(
        name="zones-behind-a-proxy",
        before={"database": {**_RDS, "proxy": True}},
        between=({"database": {**_RDS, "proxy": True, "network": _KEPT_ZONE}},),
        after={"database": {**_RDS, "proxy": True, "network": _THREE_ZONES}},
    ),
    Transition(name="streams", before={"stream.count": 1}, after={"stream.count": 3}),
    Transition(name="open-to-cognito", after={"api.authorization": _COGNITO}),
    Transition(name="open-to-iam", after={"api.authorization": {"kind": "iam"}}),
    Transition(
        name="open-to-lambda",
        after={"api.authorization": {"kind": "lambda", "function_arn": JUDGE_ARN}},
    ),
    Transition(
        name="cognito-to-lambda",
        before={"api.authorization": _COGNITO},
        after={"api.authorization": {"kind": "lambda", "function_arn": JUDGE_ARN}},
    ),
    Transition(
        name="own-pool-to-existing",
        before={"api.authorization": {"kind": "cognito"}},
        after={"api.authorization": {"kind": "cognito", "user_pool_arn": POOL_ARN}},
    ),
    Transition(
        name="own-pool-with-clients-to-existing",
        before={"api.authorization": _COGNITO},
        after={
            "api.authorization": {
                **_COGNITO,
                "user_pool_arn": POOL_ARN,
                "domain_prefix": "forebay-existing",
            }
        },
    ),
    Transition(
        name="clients",
        before={"api.authorization": _COGNITO},
        after={
            "api.authorization": {
                **_COGNITO,
                "machine_clients": {"importer": ["countries.write"]},
                "people_scopes": ["countries.write"],
            }
        },
    ),
    Transition(
        name="snap-start",
        before={f"functions.{name}.snap_start": False for name in ("read", "write", "status")},
        after={f"functions.{name}.snap_start": True for name in ("read", "write", "status")},
    ),
    Transition(name="provisioned", after={"functions.read.provisioned_concurrency": 2}),
    Transition(name="consumer-snap-start", after={"functions.firehose_consumer.snap_start": True}),
    Transition(name="canary", after={"deployment.canary": "Canary10Percent5Minutes"}),
    Transition(name="canary-of-snapshots", base="prod", after={"deployment.canary": "off"}),
    Transition(
        name="canary-to-provisioned",
        before={"deployment.canary": "Linear10PercentEvery1Minute"},
        after={"functions.read.provisioned_concurrency": 2},
    ),
    Transition(
        name="own-key",
        before={"encryption.former_keys": ["own"]},
        after={"encryption.key": "own", "database.number": 2},
    ),
    Transition(
        name="own-key-and-external-database",
        before={"database": _EXTERNAL, "idempotency": {}, "encryption.former_keys": ["own"]},
        between=(
            {"database": _EXTERNAL, "idempotency": {}, "encryption.key": "own"},
            {
                "database": _EXTERNAL,
                "idempotency": {},
                "encryption.key": _KEY_ARN,
                "encryption.former_keys": ["own"],
            },
        ),
        after={
            "database": _EXTERNAL,
            "idempotency": {},
            "encryption.former_keys": ["own", _KEY_ARN],
        },
    ),
    Transition(
        name="cache", after={"api.cache.size_gigabytes": "28.4", "api.cache.ttl_seconds": 60}
    ),
    Transition(name="api-keys", after={"api.require_api_key": False}),
    Transition(
        name="edge-endpoint-to-private",
        before={"api.endpoint": "edge"},
        between=({},),
        after={"api.endpoint": "private", "api.vpc_endpoint_ids": ["vpce-1"]},
    ),
    Transition(name="logs", after={"logs.retention_days": 90, "logs.traces": False}),
    Transition(
        name="archive",
        after={
            "archive.glacier_after_days": 30,
            "archive.copy_to": {"region": "eu-west-1", "bucket": "forebay-copy"},
        },
    ),
    Transition(name="account", after={"account": ACCOUNT}),
    Transition(name="records", after={"idempotency": _RECORDS}),
    Transition(name="runner", after={"operations.runner": True}),
    Transition(
        name="read-cache",
        before={"database": _RDS, "operations.runner": True},
        between=(
            {
                "database": _RDS,
                "operations.runner": True,
                "read_cache": {"node_type": "t4g.small"},
            },
        ),
        after={
            "database": _RDS,
            "operations.runner": True,
            "read_cache": {"node_type": "t4g.medium", "replicas": 1},
        },
    ),
    Transition(
        name="budget",
        before={"operations.emails": ["a@example.com"], "operations.monthly_budget_dollars": 100},
        after={"operations.emails": ["b@example.com"], "operations.monthly_budget_dollars": 200},
    ),
)

REFUSALS: Final = (
    Refusal(
        name="own-key-of-a-database",
        before={"database": _RDS},
        after={"database": _RDS, "encryption.key": "own"},
        rule="held",
        way="database.number",
    ),
    Refusal(
        name="own-key-of-a-cluster",
        after={"encryption.key": "own"},
        rule="held",
        way="database.number",
    ),
    Refusal(
        name="own-key-of-a-cache",
        before={"database": _RDS, "read_cache": {"node_type": "t4g.small"}},
        after={
            "database": {**_RDS, "number": 2},
            "read_cache": {"node_type": "t4g.small"},
            "encryption.key": "own",
        },
        rule="name",
        way="without the table read_cache",
    ),
    Refusal(
        name="no-own-key",
        before={"database": _EXTERNAL, "encryption.key": "own"},
        after={"database": _EXTERNAL},
        rule="held",
        way="encryption.former_keys",
    ),
    Refusal(
        name="fewer-zones",
        before={"database.network.availability_zones": 3},
        rule="in use",
        way="database.network.kept_zones",
    ),
    Refusal(
        name="zones-by-id",
        after={"database.network.zones": ["use1-az4", "use1-az1"]},
        rule="in use",
        way="database.network.kept_zones",
    ),
    Refusal(
        name="cidr",
        after={"database.network.cidr": "10.99.0.0/20"},
        rule="moved",
        way="database.number",
    ),
    Refusal(name="aurora-to-rds", after={"database": _RDS}, rule="held", way="database.number"),
    Refusal(name="rds-to-aurora", before={"database": _RDS}, rule="held", way="database.number"),
    Refusal(
        name="domain-from-edge",
        base="prod",
        before={"edge.domain": _DOMAIN},
        after={"edge": None, "api.domain": _DOMAIN},
        rule="name",
        way="delete the stack",
    ),
    Refusal(
        name="private-to-edge-endpoint",
        before={"api.endpoint": "private", "api.vpc_endpoint_ids": ["vpce-1"]},
        after={"api.endpoint": "edge"},
        rule="refused",
        way="api.endpoint = 'regional'",
    ),
    Refusal(
        name="domain-prefix",
        before={"api.authorization": _COGNITO},
        after={"api.authorization": {**_COGNITO, "domain_prefix": "forebay-other"}},
        rule="name",
        way="delete-user-pool-domain",
    ),
    Refusal(
        name="domain-prefix-to-existing-pool",
        before={"api.authorization": _COGNITO},
        after={"api.authorization": {**_COGNITO, "user_pool_arn": POOL_ARN}},
        rule="name",
        way="delete-user-pool-domain",
    ),
)
