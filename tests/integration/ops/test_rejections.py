"""Rejected commands are mended and sent again; the archive's lines stay as they are."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
import pytest

import resources
from forebay.apply.outdate import outdate
from forebay.codec import decode
from forebay.command import Command
from forebay.errors import TransientError
from forebay.ids import IdSource, accepted_ms, is_create_id
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from ops.rejections import audit, store
from ops.rejections.deciding import Decider
from ops.rejections.planning import Attempt, Planner
from ops.rejections.rules import Rule
from ops.rejections.store import Selection
from tests.fixtures.api import RecordingSink, RecordingStore
from tests.fixtures.commands import CITY, city, command_id
from tests.fixtures.site import Site

SHORTEN = Rule.model_validate(
    {
        "name": "names that are too long",
        "match": {"resource": "cities", "code": "string_data_right_truncation"},
        "patch": [
            {"op": "substitute", "path": "/body/name", "pattern": "^(.{200}).*$", "by": r"\1"}
        ],
    }
)


def too_long(number: int, key: int, op: Any = "put") -> Command:
    return city(number, op, key, name="x" * 201)


class Operator:
    """One call of the tool after another."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sink = RecordingSink()
        self.fallback = RecordingStore()
        self.ids = IdSource()

    @property
    def connection(self) -> Any:
        return self.site.database.connection

    def decider(self) -> Decider:
        acceptor = Acceptor(self.sink, self.fallback, Log("test"))
        return Decider(
            self.connection, acceptor, self.site.archive, by="operator:anna", ids=self.ids
        )

    def plan(
        self,
        *rules: Rule,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        even_overtaken: bool = False,
    ) -> list[Attempt]:
        planner = Planner(
            resources.load(),
            by="operator:anna",
            ids=self.ids,
            rules=rules or None,
            even_overtaken=even_overtaken,
        )
        pages = store.pages(self.connection, selection)
        return [attempt for page in pages for attempt in planner.plan(self.connection, page)]

    def verdicts(self, *rules: Rule, **options: Any) -> list[str]:
        return [attempt.verdict for attempt in self.plan(*rules, **options)]

    def states(self) -> dict[str, str]:
        everything = Selection(state="all")
        return {
            one.id: one.state for page in store.pages(self.connection, everything) for one in page
        }

    def deliver(self) -> None:
        """What the stream took reaches the archive and the tables."""
        self.site.put_and_apply(*self.sink.commands, *(decode(x) for x in self.fallback.taken))


@pytest.fixture
def operator(site: Site) -> Operator:
    return Operator(site)


def audited(site: Site) -> list[dict[str, Any]]:
    return [
        orjson.loads(line)
        for key in site.keys("audit/")
        for line in b"".join(site.archive.read(key)).splitlines()
    ]


def test_a_mended_command_is_a_new_one_that_says_what_it_amends(
    site: Site, operator: Operator
) -> None:
    bad = too_long(1, 5)
    key = site.put_and_apply(bad, city(2, key=6))
    before = b"".join(site.archive.read(key))

    done = operator.decider().retry(operator.plan(SHORTEN), reason="ticket 5")
    operator.deliver()

    assert (done.recorded, done.waiting, done.taken) == (1, 0, 0)
    (sent,) = operator.sink.commands
    assert sent.amends == bad.id
    assert sent.id > bad.id
    assert (sent.by, sent.op, sent.key) == ("operator:anna", "put", 5)
    assert sent.body == {**(bad.body or {}), "name": "x" * 200}
    assert site.database.cities()[5][0] == sent.id
    # The rejection and the archived line are what they were.
    assert set(site.database.rejections()) == {bad.id}
    assert b"".join(site.archive.read(key)) == before
    site.apply(key, replay=True)
    assert site.database.cities()[5][0] == sent.id

    (line,) = audited(site)
    assert (line["rejection"], line["command"]) == (bad.id, sent.id)
    assert (line["decision"], line["by"]) == ("retried", "operator:anna")
    assert (line["rule"], line["reason"]) == (SHORTEN.name, "ticket 5")
    assert operator.states() == {bad.id: "retried"}


def test_a_retried_create_is_a_create(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5, "create"))
    operator.decider().retry(operator.plan(SHORTEN))
    (sent,) = operator.sink.commands
    assert sent.op == "create"
    assert is_create_id(sent.id)


def test_two_commands_of_one_key_keep_their_order(site: Site, operator: Operator) -> None:
    first, last = too_long(1, 5), city(2, key=5, name="y" * 201)
    site.put_and_apply(last, first)
    operator.decider().retry(operator.plan(SHORTEN))
    operator.deliver()
    assert site.database.cities()[5][2] == "y" * 200


def test_what_no_rule_matches_or_mends_is_left_alone_and_says_why(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 1), city(2, key=2, latitude="north"), city(3, key="x"))
    site.put_and_apply(city(4, key=4)._replace(resource="towns"))
    site.apply(site.put(raw=b"no gzip"))
    assert operator.states().keys() >= {command_id(number) for number in (1, 2, 3, 4)}

    by_id = {attempt.stored.id: attempt for attempt in operator.plan(SHORTEN)}
    verdicts = {number: by_id[command_id(number)].verdict for number in (1, 2, 3, 4)}
    assert verdicts == {1: "ready", 2: "no rule", 3: "no rule", 4: "no rule"}
    assert sorted(operator.verdicts()) == ["invalid"] * 4 + ["unreadable"]
    reasons = {attempt.stored.id: attempt.reason for attempt in operator.plan()}
    assert "#/name" in str(reasons[command_id(1)])
    assert "#/latitude" in str(reasons[command_id(2)])
    assert "no key of cities" in str(reasons[command_id(3)])
    assert "'towns'" in str(reasons[command_id(4)])

    operator.decider().retry(operator.plan())
    assert operator.sink.taken == []
    assert set(operator.states().values()) == {"open"}


def test_a_rule_can_mend_key_and_resource(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key="17")._replace(resource="towns"))
    rule = Rule.model_validate(
        {
            "name": "towns are cities",
            "match": {"code": "unknown_resource", "resource": "towns"},
            "patch": [
                {"op": "set", "path": "/resource", "value": "cities"},
                {"op": "cast", "path": "/key", "to": "integer"},
            ],
        }
    )
    operator.decider().retry(operator.plan(rule))
    operator.deliver()
    assert site.database.cities()[17][2] == "version 1"


@pytest.mark.parametrize("since", ["put", "delete", "create"])
def test_a_key_that_has_been_written_since_is_not_overwritten(
    site: Site, operator: Operator, since: Any
) -> None:
    site.put_and_apply(too_long(1, 5))
    site.put_and_apply(city(2, since, 5))
    overtaken = since != "create"  # a put wins over a create, whenever it comes
    assert operator.verdicts(SHORTEN) == ["overtaken" if overtaken else "ready"]
    assert operator.verdicts(SHORTEN, even_overtaken=True) == ["ready"]

    moment = dt.datetime.fromtimestamp(accepted_ms(city(2).id) / 1000, dt.UTC)
    until = moment + dt.timedelta(milliseconds=1)
    outdate(operator.connection, resources.load()["cities"], moment, until)
    assert operator.verdicts(SHORTEN) == ["overtaken" if overtaken else "ready"], "outdated or not"


def test_what_was_there_before_does_not_overtake(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=5))
    site.put_and_apply(too_long(2, 5))
    assert operator.verdicts(SHORTEN) == ["ready"]


def test_a_call_that_dies_before_it_sends_is_finished_by_the_next_with_the_same_command(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5))

    class Killed(RecordingSink):
        def put(self, lines: Sequence[bytes]) -> set[int]:
            self.taken += lines
            raise KeyboardInterrupt

    operator.sink = killed = Killed()
    with pytest.raises(KeyboardInterrupt):
        operator.decider().retry(operator.plan(SHORTEN))
    assert operator.states() == {command_id(1): "sending"}
    assert operator.plan(SHORTEN) == [], "nobody else takes it up with another id"

    operator.sink = RecordingSink()
    done = operator.decider().resume()
    assert done.recorded == 1
    assert operator.sink.taken == killed.taken
    assert operator.states() == {command_id(1): "retried"}
    assert operator.decider().resume().recorded == 0


def test_what_nobody_accepts_waits_for_the_next_call(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5), too_long(2, 6))
    operator.sink.refuse, operator.fallback.down = {0}, True
    done = operator.decider().retry(operator.plan(SHORTEN))
    assert (done.recorded, done.waiting) == (1, 1)
    assert operator.states() == {command_id(1): "sending", command_id(2): "retried"}

    operator.sink.refuse = set()
    assert operator.decider().resume().recorded == 1
    operator.deliver()
    assert set(site.database.cities()) == {5, 6}
    assert {line["rejection"] for line in audited(site)} == {command_id(1), command_id(2)}


def test_an_audit_record_that_could_not_be_written_is_written_by_the_next_call(
    site: Site, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put_and_apply(too_long(1, 5))
    decider = operator.decider()
    decider._archive = replace_bucket(site)
    with pytest.raises(TransientError):
        decider.retry(operator.plan(SHORTEN))
    assert operator.states() == {command_id(1): "sending"}
    operator.decider().resume()
    assert [line["rejection"] for line in audited(site)] == [command_id(1)]
    assert {command.id for command in operator.sink.commands} == {audited(site)[0]["command"]}


def replace_bucket(site: Site) -> Any:
    from forebay.aws.archive import Archive  # noqa: PLC0415 - only here

    return Archive(site.s3, "no-such-bucket-at-all")


def test_of_two_operators_one_decides(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5))
    mine, theirs = operator.plan(SHORTEN), operator.plan(SHORTEN)
    assert operator.decider().retry(mine).recorded == 1
    late = operator.decider().retry(theirs)
    assert (late.recorded, late.taken) == (0, 1)
    assert len(operator.sink.commands) == 1


def test_a_discarded_rejection_is_no_longer_open_and_can_still_be_retried(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5))
    (page,) = store.pages(operator.connection, Selection())
    operator.decider().discard(page, "a test of somebody's")
    assert operator.states() == {command_id(1): "discarded"}
    assert operator.plan(SHORTEN) == []
    assert audited(site)[0]["reason"] == "a test of somebody's"
    assert site.database.rejections() == {command_id(1): "string_data_right_truncation"}

    attempts = operator.plan(SHORTEN, selection=Selection(state="discarded"))
    operator.decider().retry(attempts)
    assert operator.states() == {command_id(1): "retried"}


def test_the_table_of_decisions_can_be_made_again_from_the_archive(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5), too_long(2, 6), too_long(3, 7))
    (page,) = store.pages(operator.connection, Selection(ids=[command_id(1), command_id(2)]))
    operator.decider().discard(page, "no")
    attempts = operator.plan(SHORTEN, selection=Selection(state="discarded", ids=[command_id(2)]))
    operator.decider().retry(attempts)
    columns = "rejection, decision, command, rule, reason, by, run, decided_at"
    query = f"SELECT {columns} FROM forebay.decisions ORDER BY rejection"
    before = site.database.rows(query)
    assert len(before) == 2

    operator.connection.execute("TRUNCATE forebay.decisions")
    assert audit.restore(operator.connection, site.store) == 3
    assert site.database.rows(query) == before
    assert audit.restore(operator.connection, site.store) == 0


def test_many_are_selected_page_by_page(
    site: Site, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PAGE", 7)
    site.put_and_apply(*(too_long(number, number) for number in range(1, 31)))
    site.put_and_apply(city(99, key=99)._replace(resource="towns"))
    counts = store.count(operator.connection, Selection())
    assert counts == [
        ("cities", "string_data_right_truncation", 30),
        ("towns", "unknown_resource", 1),
    ]
    pages = list(store.pages(operator.connection, Selection(resource="cities")))
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    (one,) = next(iter(store.pages(operator.connection, Selection(key="12"))))
    assert one.id == command_id(12)
    assert bytes(one.line) == bytes(one.line)
    assert decode(one.line).body == {**CITY, "name": "x" * 201}


def test_a_decision_needs_the_primary(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5))
    attempts = operator.plan(SHORTEN)
    operator.connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        operator.decider().retry(attempts)
    assert operator.sink.taken == []
