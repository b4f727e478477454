"""`forebay rejections` as operators call it: the counted rejections are the decided ones."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from forebay.codec import encode
from forebay.command import Command
from local.settings import ROOT
from ops.console import Console
from ops.exit_codes import ExitCode
from ops.rejections.planning import VERDICTS
from tests.fixtures.commands import city, command_id
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site


@pytest.fixture
def operator(site: Site, emulator: Emulator) -> Operator:
    return Operator(
        ROOT,
        site.database.url,
        {
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "FOREBAY_DATABASE_URL": site.database.url,
            "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        },
    )


def unknown(number: int, key: int) -> Command:
    """Build a command that is rejected while its resource is not declared; a rule can fix it."""
    return city(number, key=key)._replace(resource="towns")


@pytest.fixture
def rules(tmp_path: Any) -> str:
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\nname = "towns are cities"\nmatch = { resource = "towns" }\n'
        'patch = [{ op = "set", path = "/resource", value = "cities" }]\n'
    )
    return str(file)


def decided(operator: Operator) -> dict[str, str]:
    return dict(operator.rows("SELECT rejection::text, decision FROM forebay.decisions"))


@pytest.fixture
def meanwhile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another command rejected while the operator is asked for a confirmation."""
    confirm = Console.confirm

    def slowly(console: Console, question: str, *, yes: bool) -> None:
        confirm(console, question, yes=yes)
        site.put_and_apply(unknown(9, 9))

    monkeypatch.setattr(Console, "confirm", slowly)


@pytest.mark.usefixtures("meanwhile")
def test_rejections_after_the_count_are_not_discarded(site: Site, operator: Operator) -> None:
    site.put_and_apply(unknown(1, 1))
    result = operator.done("rejections", "discard", "--all", "--reason", "no", "--yes")
    assert result["discarded"] == 1
    assert decided(operator) == {command_id(1): "discarded"}


@pytest.mark.usefixtures("meanwhile")
def test_rejections_after_the_count_are_not_sent(
    site: Site, operator: Operator, rules: str
) -> None:
    site.put_and_apply(unknown(1, 1))
    result = operator.done("rejections", "retry", "--fix", rules, "--yes")
    assert result["sent"] == 1
    assert decided(operator) == {command_id(1): "retried"}


def test_a_discard_names_its_selection(site: Site, operator: Operator) -> None:
    site.put_and_apply(unknown(1, 1), unknown(2, 2))
    for arguments in ([], ["--all", "--key", "1"]):
        result = operator.run("rejections", "discard", "--reason", "no", "--yes", *arguments)
        assert result.code == ExitCode.USAGE
        assert "--all" in result.err
    assert decided(operator) == {}
    operator.done("rejections", "discard", "--key", "1", "--reason", "no", "--yes")
    assert decided(operator) == {command_id(1): "discarded"}


def test_rejections_after_the_time_of_a_look_are_not_discarded_with_it(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(unknown(1, 1))
    looked_at = operator.done("rejections", "list")["at"]
    assert dt.datetime.fromisoformat(looked_at).tzinfo is not None
    site.put_and_apply(unknown(2, 2))
    arguments = ("--to", looked_at, "--reason", "no", "--yes")
    operator.done("rejections", "discard", *arguments)
    assert decided(operator) == {command_id(1): "discarded"}


def test_a_killed_retry_is_reported_and_finished_by_the_next(
    site: Site, operator: Operator, rules: str
) -> None:
    site.put_and_apply(unknown(1, 1), unknown(2, 2))
    operator.done("rejections", "retry", "--fix", rules, "--yes")
    # The state after a call was killed before it recorded the end.
    site.database.connection.execute(
        "UPDATE forebay.decisions SET recorded_at = NULL, decision = 'discarded', command = NULL"
        " WHERE rejection = %s",
        [command_id(1)],
    )
    result = operator.done("rejections", "retry", "--fix", rules, "--dry-run")
    assert result["begun"] == 0
    operator.done("rejections", "discard", "--key", "2", "--reason", "no", "--yes")
    assert operator.done("rejections", "list", "--state", "sending")["total"] == 1
    result = operator.done("rejections", "discard", "--key", "1", "--reason", "no", "--yes")
    assert result["discarded"] == 1
    assert operator.done("rejections", "list", "--state", "sending")["total"] == 0


def test_an_archive_that_takes_nothing_leaves_the_retry_to_the_next_call(
    site: Site, operator: Operator, rules: str
) -> None:
    site.put_and_apply(unknown(1, 1))
    elsewhere = ("--source", "s3://no-such-bucket-at-all")
    result = operator.run("rejections", "retry", "--fix", rules, "--yes", *elsewhere)
    assert result.code == ExitCode.REFUSED
    assert "NoSuchBucket" in result.err
    assert operator.done("rejections", "retry", "--fix", rules, "--yes")["sent"] == 1


def patch(number: int, key: int = 1, **fields: Any) -> Command:
    return city(number, "put", key)._replace(op="patch", body=fields)


#: Its correction, in the place of the line of the rejected command.
LINE = encode(patch(3, name="short"))


def retried(operator: Operator, *arguments: str) -> dict[str, Any]:
    return operator.done("rejections", "retry", "--yes", *arguments)


def apply_amendments(site: Site) -> None:
    for key in site.keys("commands/"):
        if "/amend-" in key:
            site.apply(key)


def test_a_patch_is_amended_in_its_place(site: Site, operator: Operator, tmp_path: Any) -> None:
    """A field that a newer patch has set keeps the newer value."""
    site.put_and_apply(city(1, population=1))
    site.put_and_apply(patch(3, name="x" * 201, population=3))
    newer = patch(4, population=4)
    # The id of an amendment is above its rejection's, in the same millisecond.
    site.put_and_apply(newer._replace(id=newer.id.replace("0199f0c2", "0199f0c3")))
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\nname = "short"\nmatch = { op = "patch" }\n'
        'patch = [{ op = "set", path = "/body/name", value = "short" }]\n'
    )
    assert retried(operator, "--fix", str(file))["sent"] == 1
    apply_amendments(site)
    assert site.database.rows("SELECT name, population FROM cities") == [("short", 4)]


@pytest.mark.parametrize("newer", [city(4), patch(4, name="newer")])
def test_a_patch_of_which_nothing_would_remain_is_overtaken(
    site: Site, operator: Operator, newer: Command
) -> None:
    site.put_and_apply(city(1))
    site.put_and_apply(patch(3, name="x" * 201))
    site.put_and_apply(newer)
    site.database.connection.execute("UPDATE forebay.rejections SET line = %s", [LINE])
    told = retried(operator)
    assert (told["sent"], told["verdicts"]["overtaken"]) == (0, 1)


def test_a_command_whose_condition_failed_is_sent_again_only_without_it(
    site: Site, operator: Operator
) -> None:
    conditional = patch(2, name="two")._replace(condition={"where": [["population", "lt", 0]]})
    site.put_and_apply(city(1))
    site.put_and_apply(conditional)
    assert retried(operator)["verdicts"] == dict.fromkeys(VERDICTS, 0)
    told = retried(operator, "--state", "unmet")
    assert (told["sent"], told["verdicts"]["conditional"]) == (0, 1)
    assert "--drop-condition" in told["commands"][0]["reason"]
    told = retried(operator, "--state", "unmet", "--drop-condition")
    assert (told["sent"], told["commands"][0]["before"]["if"]) == (1, conditional.condition)
    assert "if" not in told["commands"][0]["after"]
    apply_amendments(site)
    assert site.database.rows("SELECT name FROM cities") == [("two",)]


def test_a_condition_that_was_not_the_reason_is_kept(
    site: Site, operator: Operator, tmp_path: Any
) -> None:
    site.put_and_apply(city(1, population=1))
    too_long = patch(2, name="x" * 201)._replace(condition={"where": [["population", "eq", 1]]})
    site.put_and_apply(too_long)
    site.put_and_apply(patch(3, population=3))
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\nname = "short"\nmatch = { op = "patch" }\n'
        'patch = [{ op = "set", path = "/body/name", value = "short" }]\n'
    )
    assert retried(operator, "--fix", str(file))["sent"] == 1
    apply_amendments(site)
    assert site.database.rows("SELECT name FROM cities") == [("version 1",)]
    codes = operator.done("rejections", "list", "--state", "all")["counts"]
    assert {count["code"] for count in codes} == {
        "string_data_right_truncation",
        "precondition_failed",
    }


def test_an_increment_that_failed_is_added_when_it_can_be(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, population=1))
    site.put_and_apply(patch(2, population={"$increment": -5}))
    assert site.database.rows("SELECT code FROM forebay.rejections") == [("increment_failed",)]
    site.put_and_apply(patch(3, population=9))
    assert retried(operator, "--state", "unmet")["sent"] == 1
    apply_amendments(site)
    assert site.database.rows("SELECT population FROM cities") == [(4,)]


def test_a_command_that_only_depended_on_another_is_sent_again_without_that(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(city(1, population=1))
    late = patch(2, population={"$increment": 5})._replace(condition={"after": [command_id(9)]})
    site.put_and_apply(late)
    told = retried(operator, "--state", "unmet")
    assert (told["sent"], "if" in told["commands"][0]["after"]) == (1, False)
    apply_amendments(site)
    assert site.database.rows("SELECT population FROM cities") == [(6,)]
