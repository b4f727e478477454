"""Checks of the account's quotas against the resources that the deployment creates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infra.changes.templates import Json, Stack, get_property
from infra.database import AuroraDatabase, ExternalDatabase, RdsDatabase
from infra.front import EDGE_REGION
from infra.preflight.account import Account, MissingError
from infra.preflight.answers import collect
from infra.preflight.findings import Finding, State
from infra.preflight.plan import Plan
from infra.settings import FunctionSettings, FunctionsSettings, Settings

#: Lambda keeps so many concurrent executions unreserved; a smaller quota is kept whole (AWS Lambda
#: developer guide, "Configuring reserved concurrency").
UNRESERVED: Final = 100

#: New accounts may be limited to this; no call shows the limit (AWS Lambda developer guide, "Lambda
#: quotas": "New AWS accounts have reduced concurrency and memory quotas").
_NEW_ACCOUNT_MEBIBYTES: Final = 3_008

#: Streams per region (Amazon Data Firehose developer guide, "Quota"). Service Quotas has no code
#: for it that AWS documents.
_STREAMS: Final = 50

#: Resource policies of CloudWatch Logs per region (CloudWatch Logs user guide, "Quotas").
_LOG_POLICIES: Final = 10


def check_lambda(plan: Plan, account: Account) -> Iterator[Finding]:
    """The reserved concurrency of the functions fits in the account."""
    region = plan.settings.region
    limits = account.call("lambda", region, "get_account_settings")["AccountLimit"]
    quota, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    kept = min(UNRESERVED, quota)
    needed = _sum_reserved(plan.stacks) - _sum_reserved(plan.deployed)
    name = f"{plan.account_id} in {region}"
    have = f"the quota is {quota:,}, {quota - unreserved:,} are reserved"
    if unreserved - needed >= kept:
        detail = f"{have}, and this deployment reserves {needed:,} more"
        yield Finding(State.OK, "lambda concurrency", name, detail)
    else:
        yield Finding(
            State.WILL_FAIL,
            "lambda concurrency",
            name,
            f"{have}, this deployment reserves {needed:,} more, and {kept} must stay unreserved",
            _format_raise(quota - unreserved + needed + UNRESERVED, region),
        )
    yield from _check_all_environments(plan, quota)
    yield from _check_memory(plan)


def _format_raise(quota: int, region: str) -> str:
    return (
        "aws service-quotas request-service-quota-increase --service-code lambda "
        f"--quota-code L-B99A9384 --desired-value {max(quota, 1_000)} --region {region}"
    )


def _sum_reserved(stacks: Mapping[str, Stack]) -> int:
    functions = [
        resource
        for stack in stacks.values()
        for resource in stack.resources.values()
        if resource["Type"] == "AWS::Lambda::Function"
    ]
    return sum(get_property(one, "ReservedConcurrentExecutions") or 0 for one in functions)


def _check_all_environments(plan: Plan, quota: int) -> Iterator[Finding]:
    """The environments that may share the account and the region fit in it together."""
    sharing = [
        plan.settings,
        *(
            other
            for other in plan.others
            if other.region == plan.settings.region and other.account in {None, plan.account_id}
        ),
    ]
    if len(sharing) == 1:
        return
    reserved = {settings.name: sum(_list_reserved(settings)) for settings in sharing}
    total = sum(reserved.values())
    parts = " + ".join(f"{name} {count:,}" for name, count in sorted(reserved.items()))
    name = f"{plan.account_id} in {plan.settings.region}"
    if total + UNRESERVED <= quota:
        detail = f"all environments fit: {parts} of {quota:,}"
        yield Finding(State.OK, "lambda concurrency of all", name, detail)
    else:
        yield Finding(
            State.WARNING,
            "lambda concurrency of all",
            name,
            f"{parts} and {UNRESERVED} unreserved exceed the quota of {quota:,}",
            "give each environment an account (`account` in its file), or raise the quota to "
            f"{total + UNRESERVED:,}",
        )


def _list_reserved(settings: Settings) -> list[int]:
    return [size.reserved_concurrency or 0 for size in _list_sizes(settings).values()]


def _list_sizes(settings: Settings) -> dict[str, FunctionSettings]:
    functions = settings.functions
    return {name: getattr(functions, name) for name in FunctionsSettings.model_fields}


def _check_memory(plan: Plan) -> Iterator[Finding]:
    large = [
        name
        for name, size in _list_sizes(plan.settings).items()
        if size.memory_mebibytes > _NEW_ACCOUNT_MEBIBYTES
    ]
    if large:
        yield Finding(
            State.WARNING,
            "lambda memory",
            ", ".join(large),
            f"more than {_NEW_ACCOUNT_MEBIBYTES:,} MiB, the limit of new accounts, which no call "
            "shows",
            "ask AWS Support for the account's limit, or lower memory_mebibytes",
        )


@dataclass(frozen=True, slots=True)
class CountedQuota:
    """A quota for the number of resources in a region."""

    check: str
    service: str
    code: str
    #: How many resources the deployment creates.
    needed: Callable[[Plan], int]
    #: How many resources the region has.
    used: Callable[[Account, str], int]


def _count_vpcs(account: Account, region: str) -> int:
    return len(account.list("ec2", region, "describe_vpcs", "Vpcs"))


def _count_gateways(account: Account, region: str) -> int:
    filters = [{"Name": "vpc-endpoint-type", "Values": ["Gateway"]}]
    method = "describe_vpc_endpoints"
    return len(account.list("ec2", region, method, "VpcEndpoints", Filters=filters))


def _count_apis(account: Account, region: str) -> int:
    apis = account.list("apigateway", region, "get_rest_apis", "items")
    return sum("REGIONAL" in api["endpointConfiguration"]["types"] for api in apis)


#: Codes: Service Quotas, `aws service-quotas list-service-quotas`. The network has no NAT and no
#: public address, so it needs no Elastic IP addresses.
COUNTED: Final = (
    CountedQuota(
        "vpcs", "vpc", "L-F678F1CE", lambda plan: plan.count_new("AWS::EC2::VPC"), _count_vpcs
    ),
    CountedQuota(
        "gateway endpoints",
        "vpc",
        "L-1B52E74A",
        lambda plan: plan.count_new("AWS::EC2::VPCEndpoint", VpcEndpointType="Gateway"),
        _count_gateways,
    ),
    CountedQuota(
        "regional apis",
        "apigateway",
        "L-AA0FF27B",
        lambda plan: (
            plan.count_new("AWS::ApiGateway::RestApi")
            if plan.settings.api.endpoint == "regional"
            else 0
        ),
        _count_apis,
    ),
)


def check_counted(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has room for the networks and APIs that the deployment creates."""
    for quota in COUNTED:
        needed = quota.needed(plan)
        if needed:
            region = plan.settings.region
            finding = _check_count(account, region, quota, needed)
            yield from collect(quota.check, region, finding)


def _check_count(
    account: Account, region: str, quota: CountedQuota, needed: int
) -> Iterator[Finding]:
    limit = _read_quota(account, quota.service, quota.code, region)
    used = quota.used(account, region)
    yield _judge_count(quota.check, region, used=used, needed=needed, limit=limit, quota=quota)


def _judge_count(
    check: str,
    region: str,
    *,
    used: int,
    needed: int,
    limit: int,
    quota: CountedQuota | None = None,
) -> Finding:
    detail = f"{used} of {limit} exist, and the deployment creates {needed} more"
    if used + needed <= limit:
        return Finding(State.OK, check, region, detail)
    next_step = "delete unused ones, or raise the quota"
    if quota is not None:
        next_step += (
            f": aws service-quotas request-service-quota-increase --service-code {quota.service} "
            f"--quota-code {quota.code} --desired-value {used + needed} --region {region}"
        )
    return Finding(State.WILL_FAIL, check, region, detail, next_step)


def _read_quota(account: Account, service: str, code: str, region: str) -> int:
    """The account's quota; the default if the account has no value of its own."""
    parameters = {"ServiceCode": service, "QuotaCode": code}
    try:
        answer = account.call("service-quotas", region, "get_service_quota", **parameters)
    except MissingError:
        answer = account.call(
            "service-quotas", region, "get_aws_default_service_quota", **parameters
        )
    return int(answer["Quota"]["Value"])


def check_streams(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has room for the delivery streams."""
    needed = plan.count_new("AWS::KinesisFirehose::DeliveryStream")
    if not needed:
        return
    region = plan.settings.region
    used, more = 0, True
    last: dict[str, object] = {}
    while more:
        answer = account.call("firehose", region, "list_delivery_streams", Limit=100, **last)
        names = answer["DeliveryStreamNames"]
        used += len(names)
        more = answer["HasMoreDeliveryStreams"]
        last = {"ExclusiveStartDeliveryStreamName": names[-1]} if names else {}
    yield _judge_count("firehose streams", region, used=used, needed=needed, limit=_STREAMS)


def check_databases(plan: Plan, account: Account) -> Iterator[Finding]:
    """The region has room for the database's servers and storage."""
    database = plan.settings.database
    if isinstance(database, ExternalDatabase):
        return
    region = plan.settings.region
    answer = account.call("rds", region, "describe_account_attributes")
    quotas = {quota["AccountQuotaName"]: quota for quota in answer["AccountQuotas"]}
    for name, needed in _list_database_needs(plan, database).items():
        quota = quotas.get(name)
        if needed and quota is not None:
            yield _judge_count(
                f"rds {name}", region, used=quota["Used"], needed=needed, limit=quota["Max"]
            )


def _list_database_needs(plan: Plan, database: RdsDatabase | AuroraDatabase) -> dict[str, int]:
    needs = {
        "DBInstances": plan.count_new("AWS::RDS::DBInstance"),
        "DBClusters": plan.count_new("AWS::RDS::DBCluster"),
        "DBSubnetGroups": plan.count_new("AWS::RDS::DBSubnetGroup"),
    }
    if isinstance(database, RdsDatabase):
        # A replica's storage is as large as the primary's.
        needs["AllocatedStorage"] = needs["DBInstances"] * database.storage_gibibytes
    return needs


def check_api(plan: Plan, account: Account) -> Iterator[Finding]:
    """The account's rate and the size of an API allow the settings."""
    region = plan.settings.region
    api = plan.settings.api
    throttle = account.call("apigateway", region, "get_account")["throttleSettings"]
    rate, burst = int(throttle["rateLimit"]), int(throttle["burstLimit"])
    detail = (
        f"the account allows {rate:,} requests a second and bursts of {burst:,}; the settings "
        f"{api.rate_per_second:,} and {api.burst:,}"
    )
    if api.rate_per_second <= rate and api.burst <= burst:
        yield Finding(State.OK, "api rate", region, detail)
    else:
        next_step = "raise the quota “Throttle rate” of API Gateway (L-8A5B8E43), or lower [api]"
        yield Finding(State.WARNING, "api rate", region, detail, next_step)
    limit = _read_quota(account, "apigateway", "L-01C8A9E0", region)
    needed = count_path_nodes(plan.paths)
    if needed <= limit:
        detail = f"{needed} paths of at most {limit}"
        yield Finding(State.OK, "api paths", plan.settings.prefix, detail)
    else:
        yield Finding(
            State.WILL_FAIL,
            "api paths",
            plan.settings.prefix,
            f"the API has {needed} paths, but the quota is {limit}",
            "aws service-quotas request-service-quota-increase --service-code apigateway "
            f"--quota-code L-01C8A9E0 --desired-value {needed} --region {region}",
        )


def count_path_nodes(paths: Sequence[str]) -> int:
    """The resources of an API in API Gateway's sense: each path and each part above it."""
    nodes = {"/"}
    for path in paths:
        parts = path.strip("/").split("/")
        nodes |= {"/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return len(nodes)


def check_log_policies(plan: Plan, account: Account) -> Iterator[Finding]:
    """The log of the web ACL may need one more resource policy of CloudWatch Logs."""
    if not plan.count_new("AWS::WAFv2::LoggingConfiguration"):
        return
    method = "describe_resource_policies"
    policies = account.list("logs", EDGE_REGION, method, "resourcePolicies")
    names: list[Json] = [policy["policyName"] for policy in policies]
    if len(names) < _LOG_POLICIES or any("WAF" in str(name).upper() for name in names):
        detail = f"{len(names)} of {_LOG_POLICIES} exist"
        yield Finding(State.OK, "log policies", EDGE_REGION, detail)
    else:
        yield Finding(
            State.WILL_FAIL,
            "log policies",
            EDGE_REGION,
            f"all {_LOG_POLICIES} exist, and the web ACL's log adds one",
            f"aws logs delete-resource-policy --region {EDGE_REGION} --policy-name …",
        )
