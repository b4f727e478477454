"""`make preflight TRIAL=1`: API Gateway imports the API's definition, and the API is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

import resources
from forebay.routes import routes
from infra.preflight.account import Account, DeniedError
from infra.preflight.findings import Finding, State
from infra.preflight.trial import try_definition
from tests.infra.account_answers import REGION
from tests.infra.recorded import Answer, RecordedAccount, Refusal
from tests.infra.variants import settings_of

SERVED = routes(resources.load())
IMPORTED = {"id": "abc", "name": "forebay-prod-trial"}


def run_trial(
    **answers: Answer | Refusal,
) -> tuple[list[Finding], list[str]]:
    """The findings and the calls of a trial in `prod`, with answers by operation."""
    recorded: Mapping[str, Answer | Refusal] = {
        "ImportRestApi": IMPORTED,
        "DeleteRestApi": {},
        **answers,
    }
    account = RecordedAccount({f"apigateway:{name}": each for name, each in recorded.items()})
    findings = list(try_definition(settings_of("prod", {}), SERVED, Account(account.connect)))
    return findings, [call.removeprefix("apigateway:") for call in account.calls]


def test_an_accepted_definition_is_ok_and_its_api_is_deleted() -> None:
    deleted = []

    def delete(sent: Mapping[str, Any]) -> Mapping[str, Any]:
        deleted.append(sent["restApiId"])
        return {}

    (finding,), calls = run_trial(DeleteRestApi=delete)

    assert (finding.state, finding.object) == (State.OK, "forebay-prod-trial")
    assert calls == [f"ImportRestApi {REGION}", f"DeleteRestApi {REGION}"]
    assert deleted == ["abc"]


def test_the_definition_has_the_parameters_of_the_api_and_refers_to_no_other_object() -> None:
    sent_body = {}

    def take(sent: Mapping[str, Any]) -> Mapping[str, Any]:
        sent_body.update(orjson.loads(sent["body"]))
        return IMPORTED

    run_trial(ImportRestApi=take)

    names = {part["name"] for part in sent_body["paths"]["/cities"]["get"]["parameters"]}
    assert {"and", "not.and", "name", "country.name"} <= names
    assert set(sent_body["paths"]) == {route.path for route in SERVED}
    assert set(sent_body["components"]["securitySchemes"]) == {"api_key"}
    assert "x-amazon-apigateway-endpoint-configuration" not in sent_body


def test_a_refused_definition_names_the_setting_and_leaves_no_api() -> None:
    (finding,), calls = run_trial(ImportRestApi=Refusal("BadRequestException"))

    assert finding.state is State.WILL_FAIL
    assert "api.dotted_parameters = false" in finding.next_step
    assert calls == [f"ImportRestApi {REGION}"]


def test_warnings_of_the_import_are_shown() -> None:
    finding, *_ = run_trial(ImportRestApi={**IMPORTED, "warnings": ["ignored: x"]})[0]

    assert (finding.state, "ignored: x" in finding.detail) == (State.WARNING, True)


def test_an_api_that_can_not_be_deleted_is_named_with_the_command() -> None:
    findings, _ = run_trial(DeleteRestApi=Refusal("AccessDeniedException", 403))

    assert [one.state for one in findings] == [State.OK, State.WARNING]
    assert "delete-rest-api --region us-east-1 --rest-api-id abc" in findings[1].next_step


def test_a_missing_permission_is_named() -> None:
    with pytest.raises(DeniedError) as denied:
        run_trial(ImportRestApi=Refusal("AccessDeniedException", 403))
    assert denied.value.action == "apigateway:POST"
