"""`forebay rejections` as operators call it: the counted rejections are the decided ones."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from forebay.command import Command
from local.settings import ROOT
from ops.console import Console
from ops.exit_codes import ExitCode
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
def test_what_is_rejected_after_the_count_is_not_discarded(site: Site, operator: Operator) -> None:
    site.put_and_apply(unknown(1, 1))
    result = operator.done("rejections", "discard", "--all", "--reason", "no", "--yes")
    assert result["discarded"] == 1
    assert decided(operator) == {command_id(1): "discarded"}


@pytest.mark.usefixtures("meanwhile")
def test_what_is_rejected_after_the_count_is_not_sent(
    site: Site, operator: Operator, rules: str
) -> None:
    site.put_and_apply(unknown(1, 1))
    result = operator.done("rejections", "retry", "--fix", rules, "--yes")
    assert result["sent"] == 1
    assert decided(operator) == {command_id(1): "retried"}


def test_a_discard_names_what_it_is_for(site: Site, operator: Operator) -> None:
    site.put_and_apply(unknown(1, 1), unknown(2, 2))
    for arguments in ([], ["--all", "--key", "1"]):
        result = operator.run("rejections", "discard", "--reason", "no", "--yes", *arguments)
        assert result.code == ExitCode.USAGE
        assert "--all" in result.err
    assert decided(operator) == {}
    operator.done("rejections", "discard", "--key", "1", "--reason", "no", "--yes")
    assert decided(operator) == {command_id(1): "discarded"}


def test_what_was_rejected_after_a_look_is_not_discarded_with_the_time_of_the_look(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(unknown(1, 1))
    looked_at = operator.done("rejections", "list")["at"]
    assert dt.datetime.fromisoformat(looked_at).tzinfo is not None
    site.put_and_apply(unknown(2, 2))
    arguments = ("--to", looked_at, "--reason", "no", "--yes")
    operator.done("rejections", "discard", *arguments)
    assert decided(operator) == {command_id(1): "discarded"}


def test_a_retry_that_was_killed_is_told_and_finished_by_the_next(
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
    assert result.code == ExitCode.UNAVAILABLE
    assert "NoSuchBucket" in result.err
    assert operator.done("rejections", "retry", "--fix", rules, "--yes")["sent"] == 1
