"""The answers of an account in which every environment can be deployed, and is not yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.infra.recorded import Answer, Refusal
from tests.infra.variants import ACCOUNT

REGION = "us-east-1"
ZONES = [
    {"ZoneName": f"{REGION}{letter}", "ZoneId": f"use1-az{number}", "State": "available"}
    for letter, number in (("c", 6), ("a", 4), ("b", 1))
]

MISSING = Refusal("ResourceNotFoundException")


def answer_all() -> dict[str, Answer | Refusal]:
    """Answers by service and operation."""
    return {**_answer_standing(), **_answer_quotas(), **_answer_database(), **_answer_names()}


def _answer_standing() -> Mapping[str, Answer | Refusal]:
    return {
        "sts:GetCallerIdentity": {
            "Account": ACCOUNT,
            "Arn": "arn:aws:iam::1:user/a",
            "UserId": "a",
        },
        "ec2:DescribeRegions": {
            "Regions": [
                {"RegionName": REGION, "OptInStatus": "opt-in-not-required"},
                {"RegionName": "eu-south-1", "OptInStatus": "not-opted-in"},
            ]
        },
        "freetier:GetAccountPlanState": {
            "accountId": ACCOUNT,
            "accountPlanType": "PAID",
            "accountPlanStatus": "ACTIVE",
        },
        "ssm:GetParameter": {"Parameter": {"Name": "version", "Value": "30"}},
        "cloudformation:DescribeStacks": {"Stacks": []},
        "cloudformation:GetTemplate": Refusal("ValidationError"),
        "cloudfront:ListDistributions": _list_distributions(1),
        "iam:GetRole": {"Role": _describe_role()},
        "kms:DescribeKey": _describe_key,
        "sns:ListSubscriptionsByTopic": {"Subscriptions": []},
    }


def _describe_key(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Only AWS's own key exists."""
    if sent["KeyId"] != "alias/aws/rds":
        raise Refusal("NotFoundException")
    return {"KeyMetadata": {"KeyId": "key"}}


def _list_distributions(count: int) -> Mapping[str, Any]:
    return {
        "DistributionList": {"Marker": "", "MaxItems": 1, "IsTruncated": False, "Quantity": count}
    }


def _describe_role() -> Mapping[str, Any]:
    return {
        "Path": "/",
        "RoleName": "role",
        "RoleId": "A" * 16,
        "Arn": "arn:aws:iam::123456789012:role/role",
        "CreateDate": "2026-01-01T00:00:00Z",
    }


def _answer_quotas() -> Mapping[str, Answer | Refusal]:
    rds = {"DBInstances": 40, "DBClusters": 40, "DBSubnetGroups": 50, "AllocatedStorage": 100_000}
    return {
        "lambda:GetAccountSettings": limit_lambda(3_000, 3_000),
        "service-quotas:GetServiceQuota": _find_quota,
        "service-quotas:GetAWSDefaultServiceQuota": {"Quota": {"Value": 600.0}},
        "ec2:DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}]},
        "ec2:DescribeVpcEndpoints": {"VpcEndpoints": []},
        "apigateway:GetRestApis": {
            "items": [{"id": "a", "endpointConfiguration": {"types": ["REGIONAL"]}}]
        },
        "apigateway:GetAccount": {"throttleSettings": {"rateLimit": 10_000.0, "burstLimit": 5_000}},
        "firehose:ListDeliveryStreams": {
            "DeliveryStreamNames": [],
            "HasMoreDeliveryStreams": False,
        },
        "rds:DescribeAccountAttributes": {
            "AccountQuotas": [
                {"AccountQuotaName": name, "Used": 0, "Max": limit} for name, limit in rds.items()
            ]
        },
        "logs:DescribeResourcePolicies": {"resourcePolicies": []},
    }


def limit_lambda(quota: int, unreserved: int) -> Mapping[str, Any]:
    """Lambda's quota, and what of it is not reserved."""
    limits = {"ConcurrentExecutions": quota, "UnreservedConcurrentExecutions": unreserved}
    return {"AccountLimit": limits}


def _find_quota(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """A new account has no value of its own for most quotas."""
    values = {"L-F678F1CE": 5.0, "L-1B52E74A": 20.0, "L-01C8A9E0": 300.0}
    if sent["QuotaCode"] not in values:
        raise Refusal("NoSuchResourceException")
    return {"Quota": {"Value": values[sent["QuotaCode"]]}}


def offer_class(*zones: str, **features: bool) -> Mapping[str, Any]:
    """An offer of a class of RDS in zones."""
    names = (
        "MultiAZCapable",
        "ReadReplicaCapable",
        "SupportsGlobalDatabases",
        "SupportsIAMDatabaseAuthentication",
        "SupportsPerformanceInsights",
        "SupportsStorageEncryption",
    )
    option = {
        "DBInstanceClass": "db.r8g.large",
        "AvailabilityZones": [{"Name": zone} for zone in zones],
        **dict.fromkeys(names, True),
        **features,
    }
    return {"OrderableDBInstanceOptions": [option]}


def _answer_database() -> Mapping[str, Answer | Refusal]:
    return {
        "ec2:DescribeAvailabilityZones": {"AvailabilityZones": ZONES},
        "ec2:DescribeSubnets": {"Subnets": []},
        "ec2:DescribeSecurityGroups": {"SecurityGroups": []},
        "rds:DescribeDBEngineVersions": lambda sent: {"DBEngineVersions": _list_versions(sent)},
        "rds:DescribeOrderableDBInstanceOptions": offer_class(
            *(str(zone["ZoneName"]) for zone in ZONES)
        ),
        "elasticache:DescribeReservedCacheNodesOfferings": {
            "ReservedCacheNodesOfferings": [{"CacheNodeType": "cache.t4g.small"}]
        },
        "elasticache:DescribeCacheEngineVersions": {
            "CacheEngineVersions": [
                {"EngineVersion": version} for version in ("7.2", "8.0", "8.1", "8.2", "9.0")
            ]
        },
    }


def _list_versions(sent: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    units = {"MinCapacity": 0.0, "MaxCapacity": 256.0}
    minors = ("18.3",) if sent["DBParameterGroupFamily"] == "postgres18" else ("18.3", "18.4")
    return [
        {"EngineVersion": minor, "Status": "available", "ServerlessV2FeaturesSupport": units}
        for minor in minors
    ]


def _answer_names() -> Mapping[str, Answer | Refusal]:
    """No name is taken; the errors are those of the services' models."""
    return {
        "apigateway:GetDomainName": Refusal("NotFoundException", 404),
        "cloudfront:DescribeFunction": Refusal("NoSuchFunctionExists", 404),
        "cloudfront:DescribeKeyValueStore": Refusal("EntityNotFound", 404),
        "cloudfront:ListCachePolicies": {"CachePolicyList": {"MaxItems": 100, "Quantity": 0}},
        "cloudfront:ListResponseHeadersPolicies": {
            "ResponseHeadersPolicyList": {"MaxItems": 100, "Quantity": 0}
        },
        "cloudwatch:DescribeAlarms": {"MetricAlarms": []},
        "cloudwatch:GetDashboard": Refusal("ResourceNotFound", 404),
        "codebuild:BatchGetProjects": {"projects": []},
        "codedeploy:GetApplication": Refusal("ApplicationDoesNotExistException"),
        "cognito-idp:DescribeUserPoolDomain": {"DomainDescription": {}},
        "dynamodb:DescribeTable": MISSING,
        "elasticache:DescribeReplicationGroups": Refusal("ReplicationGroupNotFoundFault", 404),
        "elasticache:DescribeUserGroups": Refusal("UserGroupNotFound", 404),
        "elasticache:DescribeUsers": Refusal("UserNotFound", 404),
        "events:DescribeRule": MISSING,
        "firehose:DescribeDeliveryStream": MISSING,
        "iam:GetPolicy": Refusal("NoSuchEntity", 404),
        "lambda:GetFunctionConfiguration": Refusal("ResourceNotFoundException", 404),
        "logs:DescribeLogGroups": {"logGroups": []},
        "rds:DescribeDBClusters": Refusal("DBClusterNotFoundFault", 404),
        "rds:DescribeDBInstances": Refusal("DBInstanceNotFound", 404),
        "rds:DescribeDBProxies": Refusal("DBProxyNotFoundFault", 404),
        "rds:DescribeGlobalClusters": Refusal("GlobalClusterNotFoundFault", 404),
        "s3:HeadBucket": Refusal("404", 404),
        "secretsmanager:DescribeSecret": MISSING,
        "sns:GetTopicAttributes": Refusal("NotFound", 404),
        "sqs:GetQueueUrl": Refusal("AWS.SimpleQueueService.NonExistentQueue"),
        "wafv2:ListWebACLs": {"WebACLs": []},
    }
