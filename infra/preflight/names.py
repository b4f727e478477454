"""Checks that the names of new resources are free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from infra.preflight.account import Account
from infra.preflight.answers import collect
from infra.preflight.findings import Finding, State
from infra.preflight.plan import NamedResource, Plan

#: Returns those of some names that resources of one type in a region have.
Lookup = Callable[[Account, Plan, str, Sequence[str]], set[str]]

#: Calls that find one resource by its name: the SDK's service, method and parameter.
_BY_NAME: Final[Mapping[str, tuple[str, str, str]]] = {
    "AWS::ApiGateway::DomainName": ("apigateway", "get_domain_name", "domainName"),
    "AWS::CloudFront::KeyValueStore": ("cloudfront", "describe_key_value_store", "Name"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "get_dashboard", "DashboardName"),
    "AWS::CodeDeploy::Application": ("codedeploy", "get_application", "applicationName"),
    "AWS::DynamoDB::Table": ("dynamodb", "describe_table", "TableName"),
    "AWS::ElastiCache::ReplicationGroup": (
        "elasticache",
        "describe_replication_groups",
        "ReplicationGroupId",
    ),
    "AWS::ElastiCache::User": ("elasticache", "describe_users", "UserId"),
    "AWS::ElastiCache::UserGroup": ("elasticache", "describe_user_groups", "UserGroupId"),
    "AWS::Events::Rule": ("events", "describe_rule", "Name"),
    "AWS::IAM::Role": ("iam", "get_role", "RoleName"),
    "AWS::KMS::Alias": ("kms", "describe_key", "KeyId"),
    "AWS::KinesisFirehose::DeliveryStream": (
        "firehose",
        "describe_delivery_stream",
        "DeliveryStreamName",
    ),
    "AWS::Lambda::Function": ("lambda", "get_function_configuration", "FunctionName"),
    "AWS::RDS::DBCluster": ("rds", "describe_db_clusters", "DBClusterIdentifier"),
    "AWS::RDS::DBInstance": ("rds", "describe_db_instances", "DBInstanceIdentifier"),
    "AWS::RDS::DBProxy": ("rds", "describe_db_proxies", "DBProxyName"),
    "AWS::RDS::GlobalCluster": ("rds", "describe_global_clusters", "GlobalClusterIdentifier"),
    "AWS::S3::Bucket": ("s3", "head_bucket", "Bucket"),
    # A deleted secret keeps its name until its recovery window ends, and is found too.
    "AWS::SecretsManager::Secret": ("secretsmanager", "describe_secret", "SecretId"),
    "AWS::SQS::Queue": ("sqs", "get_queue_url", "QueueName"),
}

_TAKE_BACK: Final = (
    "take it back (infra/README.md, “Taking back what was kept”), or delete it if nothing in it is "
    "needed"
)
#: The next step if a resource of the type has the name.
_NEXT_STEPS: Final[Mapping[str, str]] = {
    "AWS::S3::Bucket": _TAKE_BACK,
    "AWS::KinesisFirehose::DeliveryStream": _TAKE_BACK,
    "AWS::DynamoDB::Table": "delete it (infra/README.md, “Idempotency records”)",
    "AWS::Logs::LogGroup": "aws logs delete-log-group --region {region} --log-group-name {name}",
    "AWS::RDS::DBInstance": "delete it, or set database.number to create another beside it",
    "AWS::RDS::DBCluster": "delete it, or set database.number to create another beside it",
    "AWS::SecretsManager::Secret": "aws secretsmanager delete-secret --region {region} --secret-id "
    "{name} --force-delete-without-recovery",
}
_DEFAULT_STEP: Final = "delete it, or rename the environment"


def check_names(plan: Plan, account: Account) -> Iterator[Finding]:
    """No other resource has the name of a resource that the deployment creates."""

    def get_place(resource: NamedResource) -> tuple[str, str]:
        return resource.type, resource.region

    resources = sorted(plan.list_new_names(), key=get_place)
    for (kind, region), group in groupby(resources, key=get_place):
        names = sorted({resource.name for resource in group})
        subject = f"{kind} in {region}"
        yield from collect("names", subject, _check_type(plan, account, kind, region, names))


def _check_type(
    plan: Plan, account: Account, kind: str, region: str, names: Sequence[str]
) -> Iterator[Finding]:
    taken = find_taken(plan, account, kind, region, names)
    for name in sorted(taken):
        next_step = _NEXT_STEPS.get(kind, _DEFAULT_STEP).format(name=name, region=region)
        detail = f"a {kind} has this name, and no stack of the environment has it"
        yield Finding(State.WILL_FAIL, "names", name, detail, next_step)
    free = len(names) - len(taken)
    if not free:
        return
    if kind == "AWS::Cognito::UserPoolDomain":
        detail = "free in this account; no call shows whether another account has it"
        next_step = "if the stack fails with it, choose another domain_prefix"
        yield Finding(State.WARNING, "names", names[0], detail, next_step)
    else:
        yield Finding(State.OK, "names", f"{kind} in {region}", f"{free} new, all free")


def find_taken(
    plan: Plan, account: Account, kind: str, region: str, names: Sequence[str]
) -> set[str]:
    """Those names that resources of the type have.

    Raises:
        PreflightError: a call was not answered.
        KeyError: there is no way to look up the type.
    """
    if kind in _BY_NAME:
        service, method, parameter = _BY_NAME[kind]
        return {
            name for name in names if account.exists(service, region, method, **{parameter: name})
        }
    return _LOOKUPS[kind](account, plan, region, names)


def _find_alarms(account: Account, _plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    method = "describe_alarms"
    alarms = account.list("cloudwatch", region, method, "MetricAlarms", AlarmNames=list(names))
    return {str(alarm["AlarmName"]) for alarm in alarms}


def _find_log_groups(account: Account, plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    prefixes = {name.partition(plan.settings.prefix)[0] + plan.settings.prefix for name in names}
    groups = [
        group
        for prefix in sorted(prefixes)
        for group in account.list(
            "logs", region, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix
        )
    ]
    return {str(group["logGroupName"]) for group in groups} & set(names)


def _find_policies(account: Account, plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    arn = f"arn:aws:iam::{plan.account_id}:policy/"
    return {
        name for name in names if account.exists("iam", region, "get_policy", PolicyArn=arn + name)
    }


def _find_topics(account: Account, plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    arn = f"arn:aws:sns:{region}:{plan.account_id}:"
    method = "get_topic_attributes"
    return {name for name in names if account.exists("sns", region, method, TopicArn=arn + name)}


def _find_projects(account: Account, _plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    answer = account.call("codebuild", region, "batch_get_projects", names=list(names))
    return {str(project["name"]) for project in answer.get("projects", ())}


def _find_domains(account: Account, _plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    # The answer about a free domain is an empty description.
    method = "describe_user_pool_domain"
    return {
        name
        for name in names
        if account.call("cognito-idp", region, method, Domain=name)["DomainDescription"]
    }


def _find_web_acls(account: Account, _plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    parameters: dict[str, Any] = {"Scope": "CLOUDFRONT"}
    while True:
        answer = account.call("wafv2", region, "list_web_acls", **parameters)
        found |= {str(acl["Name"]) for acl in answer["WebACLs"]}
        if "NextMarker" not in answer:
            return found & set(names)
        parameters["NextMarker"] = answer["NextMarker"]


def _find_functions(account: Account, _plan: Plan, region: str, names: Sequence[str]) -> set[str]:
    # A function is in this stage from its creation on.
    stage = {"Stage": "DEVELOPMENT"}
    return {
        name
        for name in names
        if account.exists("cloudfront", region, "describe_function", Name=name, **stage)
    }


def _find_cache_policies(
    account: Account, _plan: Plan, region: str, names: Sequence[str]
) -> set[str]:
    items = _list_policies(account, region, "list_cache_policies", "CachePolicyList")
    found = {str(item["CachePolicy"]["CachePolicyConfig"]["Name"]) for item in items}
    return found & set(names)


def _find_header_policies(
    account: Account, _plan: Plan, region: str, names: Sequence[str]
) -> set[str]:
    key = "ResponseHeadersPolicyList"
    items = _list_policies(account, region, "list_response_headers_policies", key)
    found = {
        str(item["ResponseHeadersPolicy"]["ResponseHeadersPolicyConfig"]["Name"]) for item in items
    }
    return found & set(names)


def _list_policies(account: Account, region: str, method: str, key: str) -> list[Any]:
    items: list[Any] = []
    parameters: dict[str, Any] = {"Type": "custom"}
    while True:
        answer = account.call("cloudfront", region, method, **parameters)[key]
        items += answer.get("Items", ())
        if "NextMarker" not in answer:
            return items
        parameters["Marker"] = answer["NextMarker"]


_LOOKUPS: Final[Mapping[str, Lookup]] = {
    "AWS::CloudFront::CachePolicy": _find_cache_policies,
    "AWS::CloudFront::Function": _find_functions,
    "AWS::CloudFront::ResponseHeadersPolicy": _find_header_policies,
    "AWS::CloudWatch::Alarm": _find_alarms,
    "AWS::CodeBuild::Project": _find_projects,
    "AWS::Cognito::UserPoolDomain": _find_domains,
    "AWS::IAM::ManagedPolicy": _find_policies,
    "AWS::Logs::LogGroup": _find_log_groups,
    "AWS::SNS::Topic": _find_topics,
    "AWS::WAFv2::WebACL": _find_web_acls,
}

#: The types that `check_names` can look up.
SUPPORTED: Final = frozenset({*_BY_NAME, *_LOOKUPS})
