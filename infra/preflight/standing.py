"""Checks of the account itself: region, plan, bootstrap, stacks that are stuck, service roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.changes.deployed import list_names
from infra.database import AuroraDatabase, RdsDatabase
from infra.front import EDGE_REGION
from infra.preflight.account import Account, MissingError
from infra.preflight.findings import Finding, State
from infra.preflight.plan import Plan

#: The parameter in which `cdk bootstrap` records its version.
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"

#: The error of an account that AWS has not verified for CloudFront.
CLOUDFRONT_ERROR: Final = (
    "Your account must be verified before you can add new CloudFront resources"
)

#: The classes of RDS that accounts on the free plan may create (Amazon RDS pricing, "Free Tier").
_FREE_CLASSES: Final = ("t3.micro", "t4g.micro")

#: A stack in these states takes no deployment; the value is the way out.
_STUCK: Final = {
    "ROLLBACK_FAILED": "delete the stack: aws cloudformation delete-stack",
    "DELETE_FAILED": "delete the stack again: aws cloudformation delete-stack",
    "UPDATE_ROLLBACK_FAILED": "aws cloudformation continue-update-rollback",
}
#: The states after a deployment with `--no-rollback` that failed.
_PAUSED: Final = frozenset({"CREATE_FAILED", "UPDATE_FAILED"})
#: The state after a first deployment that failed; the CDK deletes such a stack itself.
_FAILED_FIRST: Final = "ROLLBACK_COMPLETE"

#: The roles that a service creates for itself with the first resource, by the resource's type.
_SERVICE_ROLES: Final = {
    "AWS::RDS::DBInstance": ("AWSServiceRoleForRDS", "rds.amazonaws.com"),
    "AWS::ElastiCache::ReplicationGroup": (
        "AWSServiceRoleForElastiCache",
        "elasticache.amazonaws.com",
    ),
    "AWS::WAFv2::LoggingConfiguration": (
        "AWSServiceRoleForWAFV2Logging",
        "wafv2.amazonaws.com",
    ),
}


def check_account_number(plan: Plan, _account: Account) -> Iterator[Finding]:
    """The account of the credentials is the one in the settings."""
    expected = plan.settings.account
    if expected is None:
        detail = "the settings name no account; the stacks go to this one"
        yield Finding(State.OK, "account", plan.account_id, detail)
    elif expected == plan.account_id:
        yield Finding(State.OK, "account", plan.account_id, "the settings name it")
    else:
        yield Finding(
            State.WILL_FAIL,
            "account",
            plan.account_id,
            f"the settings name the account {expected}",
            f"use credentials of {expected}",
        )


def check_region(plan: Plan, account: Account) -> Iterator[Finding]:
    """The account may use the environment's region."""
    region = plan.settings.region
    # In us-east-1, because a region that is off answers no call.
    answer = account.call("ec2", EDGE_REGION, "describe_regions", AllRegions=True)
    states = {entry["RegionName"]: entry["OptInStatus"] for entry in answer["Regions"]}
    if region not in states:
        next_step = f"change region in infra/environments/{plan.settings.name}.toml"
        yield Finding(State.WILL_FAIL, "region", region, "AWS has no such region", next_step)
    elif states[region] == "not-opted-in":
        next_step = f"aws account enable-region --region-name {region}"
        yield Finding(
            State.WILL_FAIL, "region", region, "the account has not enabled it", next_step
        )
    else:
        yield Finding(State.OK, "region", region, "the account may use it")


def check_plan(plan: Plan, account: Account) -> Iterator[Finding]:
    """The account's plan allows the database."""
    try:
        answer = account.call("freetier", EDGE_REGION, "get_account_plan_state")
    except MissingError:
        detail = "no plan is recorded, so the free plan's limits do not apply"
        yield Finding(State.OK, "account plan", plan.account_id, detail)
        return
    kind, status = answer["accountPlanType"], answer["accountPlanStatus"]
    upgrade = "upgrade the account to the paid plan"
    if kind != "FREE":
        yield Finding(State.OK, "account plan", plan.account_id, "paid plan")
    elif status == "EXPIRED":
        detail = "the free plan has expired, and the account is closed"
        yield Finding(State.WILL_FAIL, "account plan", plan.account_id, detail, upgrade)
    else:
        for state, detail in _find_free_plan_limits(plan):
            yield Finding(state, "account plan", plan.account_id, detail, upgrade)


def _find_free_plan_limits(plan: Plan) -> Iterator[tuple[State, str]]:
    """The limits of the free plan, which RDS reports as `FreeTierRestrictionError`."""
    match plan.settings.database:
        case AuroraDatabase():
            detail = (
                "the free plan accepts Aurora clusters only with the express configuration, which "
                "CloudFormation does not have"
            )
            yield State.WILL_FAIL, detail
        case RdsDatabase(backup_days=days) if days > 1:
            detail = f"the free plan keeps backups for one day, database.backup_days is {days}"
            yield State.WILL_FAIL, detail
        case RdsDatabase(instance_class=size, multi_az=standby):
            if size not in _FREE_CLASSES or standby:
                detail = (
                    f"the free plan refuses classes other than {' and '.join(_FREE_CLASSES)}, and "
                    "standby instances; AWS publishes no list"
                )
                yield State.WARNING, detail
    yield State.WARNING, "free plan: it ends, and closes the account, when its credits are used up"


def check_bootstrap(plan: Plan, account: Account) -> Iterator[Finding]:
    """`cdk bootstrap` has run in each region, in a version that the templates accept."""
    required = find_bootstrap_version(plan)
    command = f"make bootstrap ENV={plan.settings.name}"
    for region in plan.regions:
        try:
            answer = account.call("ssm", region, "get_parameter", Name=BOOTSTRAP_PARAMETER)
        except MissingError:
            detail = f"not bootstrapped ({BOOTSTRAP_PARAMETER} is missing)"
            yield Finding(State.WILL_FAIL, "bootstrap", region, detail, command)
            continue
        version = int(answer["Parameter"]["Value"])
        if version < required:
            detail = f"version {version}, but the templates need {required}"
            yield Finding(State.WILL_FAIL, "bootstrap", region, detail, command)
        else:
            yield Finding(State.OK, "bootstrap", region, f"version {version}")


def find_bootstrap_version(plan: Plan) -> int:
    """The version that the templates' rule `CheckBootstrapVersion` requires."""
    refused = [
        int(version)
        for stack in plan.stacks.values()
        for assertion in stack.template["Rules"]["CheckBootstrapVersion"]["Assertions"]
        for version in assertion["Assert"]["Fn::Not"][0]["Fn::Contains"][0]
    ]
    return max(refused) + 1


def check_stacks(plan: Plan, account: Account) -> Iterator[Finding]:
    """No stack of the environment is in a state that takes no deployment."""
    found = False
    names = list_names(plan.settings.prefix, range(1, 10))
    for region in plan.regions:
        for stack in account.list("cloudformation", region, "describe_stacks", "Stacks"):
            name = stack["StackName"]
            if name in names and plan.find_region(name) == region:
                found = True
                yield _judge_status(name, stack["StackStatus"], region, plan.settings.name)
    if not found:
        yield Finding(State.OK, "stack", plan.settings.prefix, "no stack exists yet")


def _judge_status(name: str, status: str, region: str, environment: str) -> Finding:
    target = f"--region {region} --stack-name {name}"
    if status in _STUCK:
        next_step = f"{_STUCK[status]} {target}"
        return Finding(State.WILL_FAIL, "stack", name, status, next_step)
    if status in _PAUSED:
        detail = f"{status}: a deployment with --no-rollback failed, and what it made is kept"
        next_step = (
            f'mend the cause, then make deploy ENV={environment} ARGS="--no-rollback"; without '
            "this option, the CDK asks to roll the stack back first"
        )
        return Finding(State.WARNING, "stack", name, detail, next_step)
    if status == _FAILED_FIRST:
        detail = f"{status}: its first deployment failed; the next one deletes it first"
        next_step = (
            "if it is protected: aws cloudformation update-termination-protection "
            f"--no-enable-termination-protection {target}"
        )
        return Finding(State.WARNING, "stack", name, detail, next_step)
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        return Finding(State.WILL_FAIL, "stack", name, status, "wait until the operation ends")
    return Finding(State.OK, "stack", name, status)


def check_cloudfront(plan: Plan, account: Account) -> Iterator[Finding]:
    """The account has had a distribution: AWS shows its verification in no call."""
    if plan.settings.edge is None:
        return
    answer = account.call("cloudfront", EDGE_REGION, "list_distributions", MaxItems="1")
    if answer["DistributionList"]["Quantity"]:
        detail = "the account has a distribution, so AWS has verified it once"
        yield Finding(State.OK, "cloudfront", plan.account_id, detail)
        return
    yield Finding(
        State.WARNING,
        "cloudfront",
        plan.account_id,
        "the account has no distribution yet, and no call shows whether AWS has verified it. If "
        f"not, the stack of the edge fails with “{CLOUDFRONT_ERROR}”",
        "deploy without [edge] first, or have AWS Support verify the account before (a case of "
        "“Account and billing”)",
    )


def check_service_roles(plan: Plan, account: Account) -> Iterator[Finding]:
    """The roles that services create for themselves exist; the first creation may come too late."""
    for resource_type, (role, service) in _SERVICE_ROLES.items():
        if not plan.list_resources(resource_type):
            continue
        if account.exists("iam", EDGE_REGION, "get_role", RoleName=role):
            yield Finding(State.OK, "service role", role, "exists")
        else:
            yield Finding(
                State.WARNING,
                "service role",
                role,
                "does not exist; the service creates it with the first resource, which then may "
                "fail once",
                f"aws iam create-service-linked-role --aws-service-name {service}",
            )
