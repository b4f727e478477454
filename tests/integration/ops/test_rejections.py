"""Rejected commands are fixed and sent again; the archived lines stay unchanged."""

from __future__ import annotations

import datetime as dt
import gzip
from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import pytest

import resources
from forebay.aws.archive import Archive, ObjectDiffersError
from forebay.codec import decode, encode
from forebay.command import Command
from forebay.errors import TransientError
from forebay.ids import (
    IdSource,
    accepted_ms,
    is_create_id,
    make_id_at,
    mark_orphaned,
    mark_outdated,
)
from ops.archive.listing import list_commands
from ops.rejections import audit, store
from ops.rejections.deciding import Decider
from ops.rejections.planning import Attempt, Planner
from ops.rejections.rules import Rule
from ops.rejections.store import Selection
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
    """An operator's successive calls of the tool."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.ids = IdSource()

    @property
    def connection(self) -> Any:
        return self.site.database.connection

    def decider(self, archive: Archive | None = None) -> Decider:
        archive = archive or self.site.archive
        return Decider(self.connection, archive, by="operator:anna", ids=self.ids)

    @property
    def objects(self) -> list[str]:
        """The keys of the objects of amendments."""
        return [key for key in self.site.keys("commands/") if "/amend-" in key]

    @property
    def sent(self) -> list[Command]:
        """The commands in these objects."""
        return [command for key in self.objects for command in self.commands_in(key)]

    def commands_in(self, key: str) -> list[Command]:
        lines = gzip.decompress(b"".join(self.site.archive.read(key))).splitlines()
        return [decode(line) for line in lines]

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
        pages = store.read_pages(self.connection, selection)
        return [attempt for page in pages for attempt in planner.plan(self.connection, page)]

    def verdicts(self, *rules: Rule, **options: Any) -> list[str]:
        return [attempt.verdict for attempt in self.plan(*rules, **options)]

    def states(self) -> dict[str, str]:
        everything = Selection(state="all")
        return {
            one.id: one.state
            for page in store.read_pages(self.connection, everything)
            for one in page
        }

    def deliver(self) -> None:
        """Apply the amendments."""
        for key in self.objects:
            self.site.apply(key)


@pytest.fixture
def operator(site: Site) -> Operator:
    return Operator(site)


def audited(site: Site) -> list[dict[str, Any]]:
    return [
        orjson.loads(line)
        for key in site.keys("audit/")
        for line in b"".join(site.archive.read(key)).splitlines()
    ]


def test_a_mended_command_is_a_new_command_that_names_the_amended_one(
    site: Site, operator: Operator
) -> None:
    bad = too_long(1, 5)
    key = site.put_and_apply(bad, city(2, key=6))
    before = b"".join(site.archive.read(key))

    result = operator.decider().retry(operator.plan(SHORTEN), reason="ticket 5")
    operator.deliver()

    assert (result.recorded, result.waiting, result.taken) == (1, 0, 0)
    (sent,) = operator.sent
    assert sent.amends == bad.id
    assert sent.id > bad.id
    assert (sent.by, sent.op, sent.key) == ("operator:anna", "put", 5)
    assert sent.body == {**(bad.body or {}), "name": "x" * 200}
    assert site.database.cities()[5][0] == sent.id
    # The rejection and the archived line are unchanged.
    assert set(site.database.rejections()) == {bad.id}
    assert b"".join(site.archive.read(key)) == before
    site.apply(key, replay=True)
    assert site.database.cities()[5][0] == sent.id

    (line,) = audited(site)
    assert (line["rejection"], line["command"]) == (bad.id, sent.id)
    assert (line["decision"], line["by"]) == ("retried", "operator:anna")
    assert (line["rule"], line["reason"]) == (SHORTEN.name, "ticket 5")
    assert operator.states() == {bad.id: "retried"}


def test_an_amendment_takes_the_place_of_the_rejected_command(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5), too_long(2, 6))
    operator.decider().retry(operator.plan(SHORTEN))
    for bad, sent in zip((too_long(1, 5), too_long(2, 6)), operator.sent, strict=True):
        assert sent.id > bad.id
        assert accepted_ms(sent.id) == accepted_ms(bad.id)


def test_a_retried_create_is_a_create_of_now(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5, "create"))
    before_ms = operator.ids.now_ms()
    operator.decider().retry(operator.plan(SHORTEN))
    (sent,) = operator.sent
    assert sent.op == "create"
    assert is_create_id(sent.id)
    assert before_ms <= accepted_ms(sent.id) <= operator.ids.now_ms()


def test_commands_of_one_key_keep_their_order_in_every_pass(site: Site, operator: Operator) -> None:
    """Even if their ids are closer together than an amendment's step."""
    bad = [city(number, key=5, name=f"{number:03}" + "y" * 200) for number in range(1, 21)]
    site.put_and_apply(*reversed(bad))
    for _ in range(2):
        planned = [attempt.command.id for attempt in operator.plan(SHORTEN) if attempt.command]
        assert planned == sorted(planned)
        assert len(set(planned)) == len(bad)
    operator.decider().retry(operator.plan(SHORTEN))
    operator.deliver()
    assert site.database.cities()[5][2].startswith("020")


def test_rejections_that_no_rule_mends_are_kept_with_the_reason(
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
    assert "not a key of cities" in str(reasons[command_id(3)])
    assert "'towns'" in str(reasons[command_id(4)])

    operator.decider().retry(operator.plan())
    assert operator.sent == []
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
    assert operator.verdicts(SHORTEN) == ["overtaken"]
    assert operator.verdicts(SHORTEN, even_overtaken=True) == ["ready"]


@pytest.mark.parametrize("there", ["put", "delete", "create"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_create_is_overtaken_by_any_state_of_its_key(
    site: Site, operator: Operator, there: Any, number: int
) -> None:
    """Also by a later create: the smaller id of the amendment could win over it, and undo it."""
    site.put_and_apply(too_long(2, 5, "create"))
    site.put_and_apply(city(number, there, 5))
    assert operator.verdicts(SHORTEN) == ["overtaken"]


@pytest.mark.parametrize("amendment_first", [True, False])
@pytest.mark.parametrize(
    ("rejected", "written"), [("put", "put"), ("put", "delete"), ("create", "create")]
)
def test_a_write_that_is_accepted_and_pending_wins_over_a_retry(
    site: Site, operator: Operator, rejected: Any, written: Any, *, amendment_first: bool
) -> None:
    site.put_and_apply(too_long(1, 5, rejected))
    later_ms = accepted_ms(command_id(1)) + 1
    newer = make_id_at(later_ms, create=written == "create")
    pending = site.put(city(2, written, 5)._replace(id=newer))
    assert operator.verdicts(SHORTEN) == ["ready"], "no table shows the newer write yet"

    operator.decider().retry(operator.plan(SHORTEN))
    if amendment_first:
        operator.deliver()
    site.apply(pending)
    operator.deliver()

    rows = site.database.cities()
    assert (rows[5][0] if rows else None) == (None if written == "delete" else newer)


@pytest.mark.parametrize(("number", "verdict"), [(1, "ready"), (3, "overtaken")])
def test_an_outdated_row_counts_as_its_command_wrote_it(
    site: Site, operator: Operator, number: int, verdict: str
) -> None:
    site.put_and_apply(too_long(2, 5))
    site.put_and_apply(row := city(number, key=5))
    outdate(site, mark_outdated(row.id))
    assert operator.verdicts(SHORTEN) == [verdict]


def test_an_outdated_row_that_does_not_name_its_command_may_be_newer(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(2, 5))
    site.put_and_apply(city(1, key=5))
    outdate(site, "ffffffff-ffff-ffff-ffff-ffffffffffff")  # the mark of earlier releases
    assert operator.verdicts(SHORTEN) == ["overtaken"]


@pytest.mark.parametrize(
    ("mark", "verdict"), [(mark_outdated, "overtaken"), (mark_orphaned, "ready")]
)
def test_a_current_id_replaces_an_orphaned_row_from_the_future_but_not_an_outdated_one(
    site: Site, operator: Operator, mark: Callable[[str], str], verdict: str
) -> None:
    future = make_id_at(operator.ids.now_ms() + HOUR_MS, create=False)
    site.put_and_apply(too_long(2, 5))
    site.put_and_apply(city(3, key=5)._replace(id=future))
    outdate(site, mark(future))
    assert operator.verdicts(SHORTEN, even_overtaken=True) == [verdict]


def outdate(site: Site, version: str) -> None:
    """Mark every city as outdated, with this version."""
    site.database.connection.execute("UPDATE cities SET _version = %s", [version])


HOUR_MS = 3_600_000


@pytest.mark.parametrize("op", ["put", "create"])
def test_an_amendment_of_an_id_from_the_future_is_not_later_than_now(
    site: Site, operator: Operator, op: Any
) -> None:
    future = make_id_at(operator.ids.now_ms() + HOUR_MS, create=op == "create")
    site.put_and_apply(too_long(1, 5, op)._replace(id=future))
    later = make_id_at(operator.ids.now_ms() + 2, create=False)
    pending = site.put(city(2, key=5, name="the user's")._replace(id=later))

    operator.decider().retry(operator.plan(SHORTEN))
    (sent,) = operator.sent
    assert accepted_ms(sent.id) <= operator.ids.now_ms()
    operator.deliver()
    site.apply(pending)
    assert site.database.cities()[5][2] == "the user's"


def test_later_writes_overtake_a_command_from_the_future(site: Site, operator: Operator) -> None:
    future = make_id_at(operator.ids.now_ms() + HOUR_MS, create=False)
    site.put_and_apply(too_long(1, 5)._replace(id=future))
    later = make_id_at(operator.ids.now_ms() + 2, create=False)
    site.put_and_apply(city(2, key=5)._replace(id=later))
    assert operator.verdicts(SHORTEN) == ["overtaken"]


@pytest.mark.parametrize("op", ["put", "create"])
@pytest.mark.parametrize("since", ["put", "delete", "create"])
def test_a_forced_retry_of_an_overtaken_command_wins(
    site: Site, operator: Operator, op: Any, since: Any
) -> None:
    site.put_and_apply(too_long(1, 5, op))
    site.put_and_apply(city(2, since, 5))
    operator.decider().retry(operator.plan(SHORTEN, even_overtaken=True))
    operator.deliver()
    assert site.database.cities()[5][2] == "x" * 200


def test_no_current_command_wins_over_a_row_from_the_future(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5))
    future = make_id_at(operator.ids.now_ms() + HOUR_MS, create=False)
    site.put_and_apply(city(2, key=5)._replace(id=future))
    assert operator.verdicts(SHORTEN, even_overtaken=True) == ["overtaken"]


def test_earlier_states_do_not_overtake(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=5))
    site.put_and_apply(too_long(2, 5))
    assert operator.verdicts(SHORTEN) == ["ready"]


class Broken(Archive):
    """An archive; the given methods fail."""

    def __init__(self, site: Site, error: BaseException, *methods: str) -> None:
        super().__init__(site.s3, site.bucket)
        self._error = error
        for method in methods:
            setattr(self, method, self._fail)

    def _fail(self, *_: object) -> Any:
        raise self._error


def test_a_call_that_dies_before_it_sends_is_finished_by_the_next_with_the_same_command(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5))
    planned = operator.plan(SHORTEN)
    with pytest.raises(KeyboardInterrupt):
        operator.decider(Broken(site, KeyboardInterrupt(), "write_amendments")).retry(planned)
    assert operator.states() == {command_id(1): "sending"}
    assert operator.plan(SHORTEN) == [], "nobody else takes it up with another id"

    assert operator.decider().resume("retried", Selection()).recorded == 1
    assert operator.sent == [attempt.command for attempt in planned]
    assert operator.states() == {command_id(1): "retried"}
    assert operator.decider().resume("retried", Selection()).recorded == 0


def test_an_amendment_that_is_finished_late_is_where_its_time_leads(
    site: Site, operator: Operator
) -> None:
    """Its id is from the day of the rejected command, so a replay of that day includes it."""
    bad = too_long(1, 5)
    site.put_and_apply(bad)
    with pytest.raises(KeyboardInterrupt):
        operator.decider(Broken(site, KeyboardInterrupt(), "write_amendments")).retry(
            operator.plan(SHORTEN)
        )
    operator.decider().resume("retried", Selection())

    (sent,) = operator.sent
    moment = dt.datetime.fromtimestamp(accepted_ms(sent.id) / 1000, dt.UTC)
    listed = list_commands(site.store, since=moment, until=moment + dt.timedelta(milliseconds=1))
    assert {archive_object.key for archive_object in listed} >= set(operator.objects)


def test_a_call_that_dies_after_it_sent_is_finished_without_another_object(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5), too_long(2, 6))
    with pytest.raises(KeyboardInterrupt):
        operator.decider(Broken(site, KeyboardInterrupt(), "write_audit")).retry(
            operator.plan(SHORTEN)
        )
    before = operator.objects
    assert operator.decider().resume("retried", Selection()).recorded == 2
    assert operator.objects == before


def test_only_selected_rejections_are_finished(site: Site, operator: Operator) -> None:
    """A killed retry of another key is not sent, and a discard does not finish a retry."""
    site.put_and_apply(too_long(1, 5), too_long(2, 6))
    with pytest.raises(KeyboardInterrupt):
        operator.decider(Broken(site, KeyboardInterrupt(), "write_amendments")).retry(
            operator.plan(SHORTEN)
        )
    assert operator.decider().resume("discarded", Selection()).recorded == 0
    assert operator.decider().resume("retried", Selection(key="6")).recorded == 1
    assert [sent.key for sent in operator.sent] == [6]
    assert operator.states() == {command_id(1): "sending", command_id(2): "retried"}
    operator.decider().resume("retried", Selection())
    operator.deliver()
    assert set(site.database.cities()) == {5, 6}


def test_commands_of_several_hours_go_to_objects_of_their_hours(
    site: Site, operator: Operator
) -> None:
    hours = [accepted_ms(command_id(1)) + number * HOUR_MS for number in range(3)]
    bad = [
        too_long(1, key)._replace(id=make_id_at(ms, create=False))
        for key, ms in enumerate([*hours, *hours])
    ]
    site.put_and_apply(*bad)
    assert operator.decider().retry(operator.plan(SHORTEN)).recorded == 6
    assert len(operator.objects) == 3
    for key in operator.objects:
        for sent in operator.commands_in(key):
            hour = dt.datetime.fromtimestamp(accepted_ms(sent.id) / 1000, dt.UTC)
            assert key.startswith(f"commands/{hour:%Y/%m/%d/%H}/amend-")
    operator.deliver()
    assert len(site.database.cities()) == 6


def test_another_object_under_the_name_of_an_amendment_is_refused(
    site: Site, operator: Operator
) -> None:
    lines = [encode(city(1))]
    key = site.archive.write_amendments(lines, command_id(1))
    assert site.archive.write_amendments(lines, command_id(1)) == key
    for content in (gzip.compress(encode(city(2))), b"no gzip"):
        site.s3.put_object(Bucket=site.bucket, Key=key, Body=content)
        with pytest.raises(ObjectDiffersError, match="amend-"):
            site.archive.write_amendments(lines, command_id(1))


def test_commands_that_the_archive_refuses_wait_for_the_next_call(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5), too_long(2, 6))
    broken = Broken(site, TransientError("S3 is away"), "write_amendments")
    result = operator.decider(broken).retry(operator.plan(SHORTEN))
    assert (result.recorded, result.waiting, result.error) == (0, 2, "S3 is away")
    assert set(operator.states().values()) == {"sending"}
    assert audited(site) == []

    assert operator.decider().resume("retried", Selection()).recorded == 2
    operator.deliver()
    assert set(site.database.cities()) == {5, 6}
    assert {line["rejection"] for line in audited(site)} == {command_id(1), command_id(2)}


def test_an_audit_record_that_could_not_be_written_is_written_by_the_next_call(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5))
    with pytest.raises(TransientError):
        operator.decider(Broken(site, TransientError("S3 is away"), "write_audit")).retry(
            operator.plan(SHORTEN)
        )
    assert operator.states() == {command_id(1): "sending"}
    operator.decider().resume("retried", Selection())
    assert [line["rejection"] for line in audited(site)] == [command_id(1)]
    assert {command.id for command in operator.sent} == {audited(site)[0]["command"]}


def test_only_one_of_two_operators_decides(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5))
    mine, theirs = operator.plan(SHORTEN), operator.plan(SHORTEN)
    assert operator.decider().retry(mine).recorded == 1
    late = operator.decider().retry(theirs)
    assert (late.recorded, late.taken) == (0, 1)
    assert len(operator.sent) == 1


def test_a_discarded_rejection_is_closed_and_can_still_be_retried(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(too_long(1, 5))
    (page,) = store.read_pages(operator.connection, Selection())
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
    (page,) = store.read_pages(operator.connection, Selection(ids=[command_id(1), command_id(2)]))
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
    pages = list(store.read_pages(operator.connection, Selection(resource="cities")))
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2]
    (one,) = next(iter(store.read_pages(operator.connection, Selection(key="12"))))
    assert one.id == command_id(12)
    assert bytes(one.line) == bytes(one.line)
    assert decode(one.line).body == {**CITY, "name": "x" * 201}


def test_a_decision_needs_the_primary(site: Site, operator: Operator) -> None:
    site.put_and_apply(too_long(1, 5))
    attempts = operator.plan(SHORTEN)
    operator.connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        operator.decider().retry(attempts)
    assert operator.sent == []
