"""Accounts in which something would fail, and the findings that `make preflight` must have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from infra.preflight.findings import State
from tests.infra.account_answers import REGION, ZONES, limit_lambda, offer_class
from tests.infra.recorded import Answer, Refusal
from tests.infra.variants import ACCOUNT

Answers = Mapping[str, Answer | Refusal]
Changes = Mapping[str, Any]

CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/a"
DOMAIN = {"name": "api.example.org", "certificate_arn": CERTIFICATE, "hosted_zone_id": "Z1"}
READ_CACHE = {"node_type": "t4g.small"}
#: Authorization with a domain of the pool.
POOL = {"kind": "cognito", "domain_prefix": "forebay-example"}


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """An answer, and the finding that it must lead to."""

    name: str
    base: str = "dev"
    changes: Changes = field(default_factory=dict)
    answers: Answers
    check: str
    detail: str
    state: State = State.WILL_FAIL


#: The ARN of an existing key.
KEY: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0f0f0f0f-0000-4000-8000-000000000000"
_SERVICES: Final = ("logs.us-east-1.amazonaws.com", "s3.amazonaws.com", "cloudwatch.amazonaws.com")


def answer_key(
    *,
    state: str = "Enabled",
    spec: str = "SYMMETRIC_DEFAULT",
    usage: str = "ENCRYPT_DECRYPT",
    services: Sequence[str] = _SERVICES,
) -> Answers:
    """The answers about a key, with a policy that allows these services."""
    statements = [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}},
        *({"Effect": "Allow", "Principal": {"Service": service}} for service in services),
    ]
    metadata = {"KeyId": "key", "KeyState": state, "KeySpec": spec, "KeyUsage": usage}
    return {
        "kms:DescribeKey": {"KeyMetadata": metadata},
        "kms:GetKeyPolicy": {"Policy": json.dumps({"Statement": statements})},
    }


def _plan(kind: str, status: str) -> Answers:
    answer = {"accountId": ACCOUNT, "accountPlanType": kind, "accountPlanStatus": status}
    return {"freetier:GetAccountPlanState": answer}


def _stack(name: str, status: str) -> Answers:
    stack = {"StackName": name, "StackStatus": status, "CreationTime": "2026-01-01T00:00:00Z"}
    return {"cloudformation:DescribeStacks": {"Stacks": [stack]}}


def answer_certificate(status: str, name: str) -> Answers:
    return {
        "acm:DescribeCertificate": {"Certificate": {"Status": status, "DomainName": name}},
        "route53:GetHostedZone": _zone("example.org."),
    }


def _zone(name: str) -> Mapping[str, Any]:
    return {"HostedZone": {"Id": "Z1", "Name": name, "CallerReference": "a"}}


OBSTACLES = [
    Obstacle(
        name="another account",
        changes={"account": "999999999999"},
        answers={},
        check="account",
        detail="the settings name the account 999999999999",
    ),
    Obstacle(
        name="a region that is off",
        answers={
            "ec2:DescribeRegions": {
                "Regions": [{"RegionName": REGION, "OptInStatus": "not-opted-in"}]
            }
        },
        check="region",
        detail="has not enabled it",
    ),
    Obstacle(
        name="Aurora on the free plan",
        answers=_plan("FREE", "ACTIVE"),
        check="account plan",
        detail="express configuration",
    ),
    Obstacle(
        name="backups on the free plan",
        base="staging",
        answers=_plan("FREE", "ACTIVE"),
        check="account plan",
        detail="database.backup_days is 7",
    ),
    Obstacle(
        name="a large class on the free plan",
        base="staging",
        changes={"database.backup_days": 1},
        answers=_plan("FREE", "ACTIVE"),
        check="account plan",
        detail="t3.micro",
        state=State.WARNING,
    ),
    Obstacle(
        name="a free plan that has ended",
        answers=_plan("FREE", "EXPIRED"),
        check="account plan",
        detail="expired",
    ),
    Obstacle(
        name="no bootstrap",
        answers={"ssm:GetParameter": Refusal("ParameterNotFound")},
        check="bootstrap",
        detail="not bootstrapped",
    ),
    Obstacle(
        name="an old bootstrap",
        answers={"ssm:GetParameter": {"Parameter": {"Value": "5"}}},
        check="bootstrap",
        detail="version 5, but the templates need 6",
    ),
    Obstacle(
        name="a stack that could not be rolled back",
        answers=_stack("forebay-dev-service", "UPDATE_ROLLBACK_FAILED"),
        check="stack",
        detail="UPDATE_ROLLBACK_FAILED",
    ),
    Obstacle(
        name="a stack in an operation",
        answers=_stack("forebay-dev-service", "UPDATE_IN_PROGRESS"),
        check="stack",
        detail="UPDATE_IN_PROGRESS",
    ),
    Obstacle(
        name="a failed first deployment",
        answers=_stack("forebay-dev-data", "ROLLBACK_COMPLETE"),
        check="stack",
        detail="its first deployment failed",
        state=State.WARNING,
    ),
    Obstacle(
        name="a failed deployment without a rollback",
        answers=_stack("forebay-dev-database", "CREATE_FAILED"),
        check="stack",
        detail="a deployment with --no-rollback failed",
        state=State.WARNING,
    ),
    Obstacle(
        name="the concurrency of a new account",
        answers={"lambda:GetAccountSettings": limit_lambda(10, 10)},
        check="lambda concurrency",
        detail="the quota is 10, 0 are reserved, this deployment reserves 100 more, and 10 must",
    ),
    Obstacle(
        name="concurrency that others have reserved",
        answers={"lambda:GetAccountSettings": limit_lambda(1_000, 199)},
        check="lambda concurrency",
        detail="801 are reserved, this deployment reserves 100 more, and 100 must",
    ),
    Obstacle(
        name="more memory than new accounts have",
        changes={"functions.imports.memory_mebibytes": 3_009},
        answers={},
        check="lambda memory",
        detail="3,008 MiB",
        state=State.WARNING,
    ),
    Obstacle(
        name="no room for a network",
        answers={"ec2:DescribeVpcs": {"Vpcs": [{"VpcId": f"vpc-{n}"} for n in range(5)]}},
        check="vpcs",
        detail="5 of 5 exist",
    ),
    Obstacle(
        name="no room for streams",
        base="prod",
        answers={
            "firehose:ListDeliveryStreams": {
                "DeliveryStreamNames": [str(number) for number in range(49)],
                "HasMoreDeliveryStreams": False,
            }
        },
        check="firehose streams",
        detail="49 of 50 exist, and the deployment creates 2 more",
    ),
    Obstacle(
        name="no room for databases",
        base="prod",
        answers={
            "rds:DescribeAccountAttributes": {
                "AccountQuotas": [{"AccountQuotaName": "DBInstances", "Used": 38, "Max": 40}]
            }
        },
        check="rds DBInstances",
        detail="38 of 40 exist, and the deployment creates 3 more",
    ),
    Obstacle(
        name="a lower rate than the settings",
        base="prod",
        answers={
            "apigateway:GetAccount": {
                "throttleSettings": {"rateLimit": 2_500.0, "burstLimit": 1_250}
            }
        },
        check="api rate",
        detail="the account allows 2,500 requests a second",
        state=State.WARNING,
    ),
    Obstacle(
        name="fewer paths than the API has",
        answers={
            "service-quotas:GetServiceQuota": {"Quota": {"Value": 2.0}},
            "ec2:DescribeVpcs": {"Vpcs": []},
        },
        check="api paths",
        detail="the API has 3 paths, but the quota is 2",
    ),
    Obstacle(
        name="an unknown zone",
        changes={"database.network.zones": ["use1-az1", "use1-az3"]},
        answers={},
        check="zone",
        detail="us-east-1 has use1-az4, use1-az1, use1-az6 for this account",
    ),
    Obstacle(
        name="too few zones",
        base="prod",
        answers={"ec2:DescribeAvailabilityZones": {"AvailabilityZones": ZONES[:2]}},
        check="zone",
        detail="us-east-1 has use1-az4, use1-az6",
    ),
    Obstacle(
        name="an unknown version",
        changes={"database.version": "18.9"},
        answers={},
        check="version",
        detail="us-east-1 has 18.3, 18.4",
    ),
    Obstacle(
        name="no version of the family",
        answers={"rds:DescribeDBEngineVersions": {"DBEngineVersions": []}},
        check="version",
        detail="no version of aurora-postgresql18",
    ),
    Obstacle(
        name="a deprecated version",
        base="staging",
        answers={
            "rds:DescribeDBEngineVersions": {
                "DBEngineVersions": [{"EngineVersion": "18.3", "Status": "deprecated"}]
            }
        },
        check="version",
        detail="deprecated",
        state=State.WARNING,
    ),
    Obstacle(
        name="a version that can't pause",
        answers={
            "rds:DescribeDBEngineVersions": {
                "DBEngineVersions": [
                    {
                        "EngineVersion": "18.4",
                        "ServerlessV2FeaturesSupport": {"MinCapacity": 0.5, "MaxCapacity": 128.0},
                    }
                ]
            }
        },
        check="serverless",
        detail="0 to 2 units, but the version has 0.5 to 128",
    ),
    Obstacle(
        name="no offer of a class",
        base="prod",
        answers={"rds:DescribeOrderableDBInstanceOptions": {"OrderableDBInstanceOptions": []}},
        check="instance class",
        detail="us-east-1 does not offer it for postgres 18.3",
    ),
    Obstacle(
        name="a class in one zone for two servers",
        base="prod",
        answers={"rds:DescribeOrderableDBInstanceOptions": offer_class("us-east-1a")},
        check="instance class",
        detail="only us-east-1a have it",
    ),
    Obstacle(
        name="a class in two of three zones",
        base="prod",
        answers={"rds:DescribeOrderableDBInstanceOptions": offer_class("us-east-1a", "us-east-1b")},
        check="instance class",
        detail="not in us-east-1c",
        state=State.WARNING,
    ),
    Obstacle(
        name="a class without IAM logins",
        base="prod",
        answers={
            "rds:DescribeOrderableDBInstanceOptions": offer_class(
                *(str(zone["ZoneName"]) for zone in ZONES), SupportsIAMDatabaseAuthentication=False
            )
        },
        check="instance class",
        detail="no logins with IAM tokens",
    ),
    Obstacle(
        name="an unknown node type",
        base="prod",
        changes={"read_cache": READ_CACHE},
        answers={
            "elasticache:DescribeReservedCacheNodesOfferings": {"ReservedCacheNodesOfferings": []}
        },
        check="node type",
        detail="no reservations",
        state=State.WARNING,
    ),
    Obstacle(
        name="an old engine of the cache",
        base="prod",
        changes={"read_cache": READ_CACHE},
        answers={
            "elasticache:DescribeCacheEngineVersions": {
                "CacheEngineVersions": [{"EngineVersion": "7.2"}]
            }
        },
        check="cache engine",
        detail="us-east-1 has 7.2",
    ),
    Obstacle(
        name="no service role",
        answers={"iam:GetRole": Refusal("NoSuchEntity", 404)},
        check="service role",
        detail="does not exist",
        state=State.WARNING,
    ),
    Obstacle(
        name="an account that has had no distribution",
        base="prod",
        answers={
            "cloudfront:ListDistributions": {
                "DistributionList": {
                    "Marker": "",
                    "MaxItems": 1,
                    "IsTruncated": False,
                    "Quantity": 0,
                }
            }
        },
        check="cloudfront",
        detail="Your account must be verified before you can add new CloudFront resources",
        state=State.WARNING,
    ),
    Obstacle(
        name="ten resource policies of logs",
        base="prod",
        answers={
            "logs:DescribeResourcePolicies": {
                "resourcePolicies": [{"policyName": str(number)} for number in range(10)]
            }
        },
        check="log policies",
        detail="all 10 exist",
    ),
    Obstacle(
        name="a certificate that is not validated",
        changes={"api.domain": DOMAIN},
        answers=answer_certificate("PENDING_VALIDATION", "api.example.org"),
        check="certificate",
        detail="PENDING_VALIDATION",
    ),
    Obstacle(
        name="a certificate for another domain",
        changes={"api.domain": DOMAIN},
        answers=answer_certificate("ISSUED", "www.example.org"),
        check="certificate",
        detail="for www.example.org",
    ),
    Obstacle(
        name="a zone of DNS of another domain",
        changes={"api.domain": DOMAIN},
        answers={
            **answer_certificate("ISSUED", "*.example.org"),
            "route53:GetHostedZone": _zone("example.com."),
        },
        check="hosted zone",
        detail="the record belongs in example.org",
    ),
    Obstacle(
        name="a user pool that does not exist",
        changes={
            "api.authorization": {
                "kind": "cognito",
                "user_pool_arn": f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/{REGION}_A",
            }
        },
        answers={"cognito-idp:DescribeUserPool": Refusal("ResourceNotFoundException")},
        check="user pool",
        detail="does not exist",
    ),
    Obstacle(
        name="no client of the API",
        base="prod",
        answers={},
        check="callers",
        detail="no caller gets a token",
        state=State.WARNING,
    ),
    Obstacle(
        name="a version without a range of capacity",
        answers={"rds:DescribeDBEngineVersions": {"DBEngineVersions": [{"EngineVersion": "18.4"}]}},
        check="serverless",
        detail="AWS names no range",
        state=State.WARNING,
    ),
    Obstacle(
        name="a copy into a bucket without versions",
        changes={"archive": {"copy_to": {"region": "eu-west-1", "bucket": "copies"}}},
        answers={"s3:GetBucketVersioning": {}},
        check="copy of the archive",
        detail="keeps no versions",
    ),
    Obstacle(
        name="no receiver of alarms",
        answers={},
        check="alarm mails",
        detail="no receiver",
        state=State.WARNING,
    ),
    Obstacle(
        name="an account without CloudFront's subscription",
        base="prod",
        answers={"cloudfront:ListDistributions": Refusal("OptInRequired", 403)},
        check="cloudfront",
        detail="may not use the service yet",
    ),
    Obstacle(
        name="a key that does not exist",
        changes={"encryption.key": KEY},
        answers={"kms:DescribeKey": Refusal("NotFoundException")},
        check="encryption key",
        detail="does not exist in us-east-1",
    ),
    Obstacle(
        name="a disabled key",
        changes={"encryption.key": KEY},
        answers=answer_key(state="Disabled"),
        check="encryption key",
        detail="its state is Disabled",
    ),
    Obstacle(
        name="a former key that is deleted soon",
        changes={"encryption.former_keys": [KEY]},
        answers=answer_key(state="PendingDeletion"),
        check="encryption key",
        detail="its state is PendingDeletion",
    ),
    Obstacle(
        name="a key for signatures",
        changes={"encryption.key": KEY},
        answers=answer_key(spec="RSA_2048", usage="SIGN_VERIFY"),
        check="encryption key",
        detail="a key for SIGN_VERIFY of the kind RSA_2048",
    ),
    Obstacle(
        name="a key that CloudWatch may not use",
        changes={"encryption.key": KEY},
        answers=answer_key(services=("logs.us-east-1.amazonaws.com", "s3.amazonaws.com")),
        check="encryption key",
        detail="its policy does not allow cloudwatch.amazonaws.com",
    ),
    Obstacle(
        name="a usable key",
        changes={"encryption.key": KEY},
        answers=answer_key(),
        check="encryption key",
        detail="is enabled",
        state=State.OK,
    ),
]
