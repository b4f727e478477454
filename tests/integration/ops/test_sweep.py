"""The sweep: it enqueues missed objects, and no others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest

import resources
from forebay import sweep as sweeping
from forebay.archive.layout import IMPORTS_PREFIX
from forebay.attachments import UPLOADS_PREFIX, Upload, encode_details
from forebay.aws.archive import Archive
from forebay.aws.attachments import AttachmentStore
from forebay.aws.events import build_event, iterate_keys
from forebay.aws.queue import Queue
from forebay.db.session import Session
from forebay.errors import TransientError
from forebay.ids import IdSource, accepted_ms, make_id_at, milliseconds
from forebay.intake.acceptance import Acceptor
from forebay.log import Log
from forebay.sweep import Survey, Sweep, is_explained_by_backlog
from lambdas.imports.app import Importer
from lambdas.imports.uploads import UploadClaims
from lambdas.sweep.app import Inbox, SweepApp
from lambdas.sweep.settings import SweepSettings
from local.settings import ROOT
from ops.console import Console
from ops.sweeping import wait_until_applied
from tests.fixtures.api import RecordingSink, RecordingStore
from tests.fixtures.commands import city
from tests.fixtures.emulator import REGION, Emulator, wait_until
from tests.fixtures.operating import Operator
from tests.fixtures.patched import write_waiting
from tests.fixtures.site import Site
from tests.fixtures.tables import open_connection

NOW = dt.datetime(2026, 11, 21, 0, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def later(minutes: float = 60) -> dt.datetime:
    """Return a time at which a newly stored object is no longer young."""
    return dt.datetime.now(dt.UTC) + minutes * MINUTE


def app(
    site: Site,
    *,
    now: dt.datetime | None = None,
    uploads: Inbox | None = None,
    **settings: float,
) -> SweepApp:
    chosen = SweepSettings(
        database_url=site.database.url,
        archive_bucket=site.bucket,
        queue_url=site.queue.url,
        dead_letter_queue_url=site.dead_letters.url,
        import_queue_url=site.imports.url,
        import_dead_letter_queue_url=site.dead_imports.url,
        attachments_bucket="",
        upload_queue_url="",
        upload_dead_letter_queue_url="",
        grace_seconds=settings.get("grace", 900),
        lookback_seconds=settings.get("lookback", 10 * 365 * 86400),
        patience_seconds=settings.get("patience", 7200),
    )
    return SweepApp(
        chosen,
        archive=site.archive,
        queue=site.queue,
        dead_letters=site.dead_letters,
        imports=Inbox(site.archive, IMPORTS_PREFIX, site.imports, site.dead_imports),
        uploads=uploads,
        session=Session(lambda: site.database.connection),
        log=Log("test"),
        now=lambda: now or later(),
    )


def told(site: Site) -> set[str]:
    """Return the objects in the messages to the consumer."""
    keys = partial(iterate_keys, bucket=site.bucket, prefix="commands/")
    return {key for body in site.told() for key in keys(body)}


def test_a_connection_that_was_lost_since_the_last_sweep_costs_no_sweep(site: Site) -> None:
    """The next sweep may be an hour away."""
    site.put(city(1, key=1))
    with closing(Session(lambda: open_connection(site.database.url))) as session:
        swept = app(site)
        swept._session = session
        assert swept.sweep()["result"] == "enqueued"
        site.database.connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        assert swept.sweep()["listed"] == 1


def test_a_sweep_counts_the_patches_that_wait_and_their_age(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, waiting, expected in (("5", 0, 0), ("6", 2, 2), ("7", 1, 3)):
        accepted = dt.datetime.now(dt.UTC)
        oldest = make_id_at(milliseconds(accepted), create=False) if waiting else None
        write_waiting(site.database, key, waiting, oldest)
        app(site, now=accepted + MINUTE).sweep()
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (line["action"], line["CommandsWaiting"]) == ("swept", expected)
        assert 60_000 * bool(waiting) <= line["OldestWaiting"] < 180_000 * bool(waiting) + 1


def test_objects_that_are_not_applied_are_enqueued_as_events_of_s3(site: Site) -> None:
    site.put_and_apply(city(1, key=1))
    missed = {site.put(city(2, key=2), name="a b+c"), site.put(city(3, key=3))}
    result = app(site).sweep()
    assert result == {
        "listed": 3, "applied": 1, "young": 0, "dead": 0, "missed": 2, "waiting": 0,
        "result": "enqueued",
        "imports": {
            "listed": 0, "young": 0, "dead": 0, "missed": 0, "waiting": 0, "enqueued": 0,
            "result": "nothing_missed",
        },
    }  # fmt: skip
    assert told(site) == missed
    for body in site.told():
        (record,) = json.loads(body)["Records"]
        assert record["eventName"].startswith("ObjectCreated")


def test_an_object_that_was_applied_in_part_is_missed(site: Site) -> None:
    key = site.put_and_apply(city(1, key=1))
    site.database.connection.execute("UPDATE forebay.ledger SET completed_at = NULL")
    assert app(site).sweep()["result"] == "enqueued"
    assert told(site) == {key}


def test_young_objects_are_left_alone(site: Site) -> None:
    site.put(city(1, key=1))
    result = app(site, now=later(14)).sweep()
    assert (result["young"], result["result"]) == (1, "nothing_missed")
    assert told(site) == set()


def test_objects_in_dead_letters_are_left_to_operators(site: Site) -> None:
    dead, missed = site.put(city(1, key=1)), site.put(city(2, key=2))
    site.dead_letters.send([build_event(site.bucket, dead), "no event at all"])
    result = app(site).sweep()
    assert (result["dead"], result["missed"], result["result"]) == (1, 1, "enqueued")
    assert told(site) == {missed}
    assert site.dead_letters.depth().visible == 2, "looking at them leaves them there"


def test_a_backlog_is_not_a_loss_until_it_has_waited_too_long(site: Site) -> None:
    key = site.put(city(1, key=1))
    site.queue.send([build_event(site.bucket, key)])
    assert app(site).sweep()["result"] == "waiting_in_queue"
    assert site.queue.depth().total == 1
    assert app(site, now=later(200)).sweep()["result"] == "enqueued"
    assert site.queue.depth().total == 2


def test_fewer_messages_than_missed_objects_explain_nothing(site: Site) -> None:
    keys = {site.put(city(number, key=number)) for number in (1, 2)}
    site.queue.send([build_event(site.bucket, min(keys))])
    assert app(site).sweep()["result"] == "enqueued"
    assert told(site) == keys


@pytest.mark.parametrize(
    ("missed", "waiting", "hours", "explained"),
    [(1, 0, 1, False), (2, 1, 1, False), (2, 2, 1, True), (2, 9, 1, True), (2, 9, 3, False)],
)
def test_a_backlog_explains_apparently_missed_objects_in_these_cases(
    missed: int, waiting: int, hours: int, *, explained: bool
) -> None:
    survey = Survey(missed=missed, oldest=NOW - dt.timedelta(hours=hours))
    patience = dt.timedelta(hours=2)
    assert is_explained_by_backlog(survey, waiting, now=NOW, patience=patience) is explained


def test_only_so_much_of_the_archive_is_listed(site: Site) -> None:
    site.put(city(1, key=1))  # in the hour 2026/11/21/00
    after = dt.datetime(2026, 11, 21, 2, tzinfo=dt.UTC)
    reached = app(site, now=after, lookback=2 * 3600).sweep()
    beyond = app(site, now=after + 60 * MINUTE, lookback=2 * 3600).sweep()
    assert (reached["listed"], beyond["listed"]) == (1, 0)


def test_pages_add_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "PAGE", 3)
    applied = {site.put_and_apply(city(number, key=number)) for number in range(1, 5)}
    missed = {site.put(city(number, key=number)) for number in range(5, 12)}
    sweep = Sweep(site.database.connection, now=later(), grace=None)
    survey = sweep.survey(site.archive.list("commands/"))
    assert (survey.listed, survey.applied, survey.missed) == (11, len(applied), len(missed))
    assert {key for page in sweep.missed(site.archive.list("commands/")) for key in page} == missed


def test_a_queue_that_does_not_answer_is_for_the_next_sweep(site: Site) -> None:
    site.put(city(1, key=1))
    broken = app(site)
    site.s3.list_objects_v2(Bucket=site.bucket)
    broken._queue.url += "-is-not-there"
    with pytest.raises(TransientError, match="is-not-there"):
        broken.sweep()


def store_import(site: Site, name: str) -> str:
    """Store a file to import, with a lost event; return its key."""
    key = f"imports/cities/put/{name}"
    site.s3.put_object(Bucket=site.bucket, Key=key, Body=b"{")
    return key


def importer(site: Site) -> Importer:
    return Importer(resources=resources.load(), archive=site.archive, log=Log("imports"))


def told_imports(site: Site) -> set[str]:
    """Return the files in the messages to the import."""
    keys = partial(iterate_keys, bucket=site.bucket, prefix="imports/")
    return {key for message in site.imports.peek(100) for key in keys(message.body)}


def test_an_import_without_its_event_is_enqueued_again(site: Site) -> None:
    done, lost = store_import(site, "done.ndjson"), store_import(site, "a lost+one.zip")
    importer(site).import_object(done)
    site.s3.put_object(Bucket=site.bucket, Key="imports/cities/", Body=b"")
    imports = app(site).sweep()["imports"]
    assert imports == {
        "listed": 2, "young": 0, "dead": 0, "missed": 1, "waiting": 0, "enqueued": 1,
        "result": "enqueued",
    }  # fmt: skip
    assert told_imports(site) == {lost}

    (message,) = site.imports.peek(100)
    event = {"Records": [{"messageId": "m", "body": message.body}]}
    assert importer(site).handle(event) == {"batchItemFailures": []}
    assert app(site).sweep()["imports"]["result"] == "nothing_missed"


def test_a_newer_version_of_an_imported_file_is_an_import_of_its_own(site: Site) -> None:
    key = store_import(site, "a.ndjson")
    importer(site).import_object(key)
    (report,) = (
        archive_object
        for archive_object in site.archive.list("imports/")
        if archive_object.key != key
    )
    newer = dataclasses.replace(report, key=key, modified=report.modified + MINUTE)
    assert sweeping.survey_files([newer, report]).missed == (newer,)
    assert sweeping.survey_files([report, dataclasses.replace(newer, modified=NOW)]).missed == ()


def test_young_old_and_dead_imports_and_those_in_the_queue_are_left_alone(site: Site) -> None:
    key = store_import(site, "a.ndjson")
    assert app(site, now=later(14)).sweep()["imports"]["young"] == 1
    assert app(site, lookback=600).sweep()["imports"]["listed"] == 0
    site.imports.send([build_event(site.bucket, key)])
    assert app(site).sweep()["imports"]["result"] == "waiting_in_queue"
    site.dead_imports.send([build_event(site.bucket, key)])
    imports = app(site).sweep()["imports"]
    assert (imports["dead"], imports["missed"], imports["result"]) == (1, 0, "nothing_missed")


@pytest.fixture
def uploads(emulator: Emulator) -> Inbox:
    """A bucket of attachments, and the queues of its uploads."""
    name = uuid.uuid4().hex
    emulator.s3.create_bucket(Bucket=f"files-{name}")
    sqs = emulator.client("sqs")
    queues = [
        Queue(sqs, sqs.create_queue(QueueName=f"{part}-{name}")["QueueUrl"])
        for part in ("uploads", "dead-uploads")
    ]
    return Inbox(Archive(emulator.s3, f"files-{name}"), UPLOADS_PREFIX, *queues)


def store_upload(site: Site, uploads: Inbox) -> Upload:
    """Store an upload, with a lost event."""
    upload = Upload("pictures", uuid.uuid4().hex, "image", IdSource().make(create=False))
    site.s3.put_object(
        Bucket=uploads.bucket.bucket,
        Key=upload.upload_name,
        Body=b"an image",
        ContentType="image/png",
        Metadata=encode_details("user", None, None),
    )
    return upload


def list_uploads(uploads: Inbox) -> set[str]:
    """Return the uploads in the messages to the function that claims them."""
    keys = partial(iterate_keys, bucket=uploads.bucket.bucket, prefix=UPLOADS_PREFIX)
    return {key for message in uploads.queue.peek(100) for key in keys(message.body)}


def test_an_upload_whose_event_is_lost_becomes_its_command_once(
    site: Site, uploads: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = store_upload(site, uploads)
    assert app(site, uploads=uploads).sweep()["uploads"] == {
        "listed": 1, "young": 0, "dead": 0, "missed": 1, "waiting": 0, "enqueued": 1,
        "result": "enqueued",
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["ObjectsMissed"] == 1
    assert list_uploads(uploads) == {upload.upload_name}

    log, sink = Log("imports"), RecordingSink()
    claims = UploadClaims(
        resources=resources.load(),
        store=AttachmentStore(site.s3, uploads.bucket.bucket),
        acceptor=Acceptor(sink, RecordingStore(), log),
        log=log,
    )
    (message,) = uploads.queue.peek(100)
    event = {"Records": [{"messageId": "m", "body": message.body}]}
    assert claims.handle(event) == {"batchItemFailures": []}
    assert [command.id for command in sink.commands] == [upload.id]
    assert app(site, uploads=uploads).sweep()["uploads"]["listed"] == 0


def test_young_old_and_dead_uploads_and_those_in_the_queue_are_left_alone(
    site: Site, uploads: Inbox
) -> None:
    body = build_event(uploads.bucket.bucket, store_upload(site, uploads).upload_name)
    assert app(site, uploads=uploads, now=later(14)).sweep()["uploads"]["young"] == 1
    assert app(site, uploads=uploads, lookback=600).sweep()["uploads"]["listed"] == 0
    uploads.queue.send([body])
    assert app(site, uploads=uploads).sweep()["uploads"]["result"] == "waiting_in_queue"
    uploads.dead_letters.send([body])
    result = app(site, uploads=uploads).sweep()["uploads"]
    assert (result["dead"], result["missed"], result["result"]) == (1, 0, "nothing_missed")


def test_two_sweeps_for_a_lost_event_give_the_row_its_attachment_once(
    site: Site, uploads: Inbox
) -> None:
    upload = store_upload(site, uploads)
    assert app(site, uploads=uploads).sweep()["uploads"]["enqueued"] == 1
    assert app(site, uploads=uploads, now=later(200)).sweep()["uploads"]["enqueued"] == 1
    log, sink = Log("imports"), RecordingSink()
    claims = UploadClaims(
        resources=resources.load(),
        store=AttachmentStore(site.s3, uploads.bucket.bucket),
        acceptor=Acceptor(sink, RecordingStore(), log),
        log=log,
    )
    messages = uploads.queue.peek(100)
    assert len(messages) == 2
    for number, message in enumerate(messages):
        event = {"Records": [{"messageId": str(number), "body": message.body}]}
        assert claims.handle(event) == {"batchItemFailures": []}

    first, second = sink.commands
    assert first == second
    item_id = make_id_at(accepted_ms(upload.id) - 1, create=False)
    item = first._replace(id=item_id, op="put", body={"title": "A harbour", "image": None})
    for command in (item, first, second):
        site.put_and_apply(command)
    rows = site.database.connection.execute(
        "SELECT image->>'id', count(*) OVER () FROM public.pictures WHERE slug = %s", [upload.key]
    ).fetchall()
    assert rows == [(upload.id, 1)]


def test_a_sweep_enqueues_a_bounded_number_of_uploads_and_the_next_ones_the_others(
    site: Site, uploads: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweeping, "FILES_AT_ONCE", 2)
    names = {store_upload(site, uploads).upload_name for _ in range(5)}
    counts = []
    while names:
        swept = app(site, uploads=uploads).sweep()["uploads"]
        counts.append((swept["missed"], swept["enqueued"]))
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert line["ObjectsMissed"] == swept["enqueued"]
        # A backlog of the size of one sweep explains the others, too.
        assert app(site, uploads=uploads).sweep()["uploads"]["result"] == "waiting_in_queue"
        for name in list_uploads(uploads):
            site.s3.delete_object(Bucket=uploads.bucket.bucket, Key=name)
            names.discard(name)
        for batch in uploads.queue.drain():
            uploads.queue.delete(batch)
    assert counts == [(5, 2), (3, 2), (1, 1)]


def test_without_attachments_no_uploads_are_listed(site: Site) -> None:
    assert "uploads" not in app(site).sweep()


@pytest.fixture
def operator(site: Site, emulator: Emulator) -> Operator:
    environment = {
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "FOREBAY_DATABASE_URL": site.database.url,
        "FOREBAY_ARCHIVE_BUCKET": site.bucket,
        "FOREBAY_QUEUE_URL": site.queue.url,
        "FOREBAY_DEAD_LETTER_QUEUE_URL": site.dead_letters.url,
        "FOREBAY_IMPORT_QUEUE_URL": site.imports.url,
        "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL": site.dead_imports.url,
    }
    return Operator(ROOT, site.database.url, environment)


def test_the_command_names_why_each_object_is_not_applied(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=1))
    interrupted = site.put_and_apply(city(2, key=2))
    site.database.connection.execute(
        "UPDATE forebay.ledger SET completed_at = NULL WHERE object = %s", [interrupted]
    )
    dead, missed = site.put(city(3, key=3)), site.put(city(4, key=4))
    held = site.put(city(5, key=5)._replace(schema=99))
    site.dead_letters.send([build_event(site.bucket, dead)])

    result = operator.done("sweep", "--grace", "0", "--dry-run", code=5)
    why = {one["object"]: one["why"] for one in result["not_applied"]}
    assert why == {
        interrupted: "interrupted", dead: "dead_letter", missed: "missed", held: "held",
    }  # fmt: skip
    assert "schema version 99" in str(result["not_applied"])
    young = operator.done("sweep", "--grace", "3600", "--dry-run", code=5)
    assert {one["why"] for one in young["not_applied"]} == {"young", "dead_letter", "held"}


def test_an_operator_enqueues_a_lost_file(site: Site, operator: Operator) -> None:
    key = store_import(site, "a.ndjson")
    looked = operator.done("sweep", "--grace", "0", "--dry-run", code=1)
    assert (looked["imports"]["missed"], looked["imports"]["files"]) == (1, [key])
    assert told_imports(site) == set()
    operator.done("sweep", "--grace", "0", "--yes")
    assert told_imports(site) == {key}
    del operator.environment["FOREBAY_IMPORT_QUEUE_URL"]
    assert operator.done("sweep", "--grace", "0", "--dry-run")["imports"] is None


def test_an_operator_enqueues_a_lost_upload(site: Site, uploads: Inbox, operator: Operator) -> None:
    upload = store_upload(site, uploads)
    operator.environment |= {
        "FOREBAY_ATTACHMENTS_BUCKET": uploads.bucket.bucket,
        "FOREBAY_UPLOAD_QUEUE_URL": uploads.queue.url,
        "FOREBAY_UPLOAD_DEAD_LETTER_QUEUE_URL": uploads.dead_letters.url,
    }
    looked = operator.done("sweep", "--grace", "0", "--dry-run", code=1)
    assert (looked["uploads"]["missed"], looked["uploads"]["files"]) == (1, [upload.upload_name])
    assert list_uploads(uploads) == set()
    operator.done("sweep", "--grace", "0", "--yes")
    assert list_uploads(uploads) == {upload.upload_name}


def test_waiting_ends_when_everything_is_applied(site: Site, operator: Operator) -> None:
    key = site.put(city(1, key=1))
    with ThreadPoolExecutor(1) as pool:

        def consume() -> None:
            wait_until(lambda: site.queue.depth().visible > 0, "the object is enqueued")
            site.apply(key)

        work = pool.submit(consume)
        result = operator.done("sweep", "--grace", "0", "--wait", "60", "--yes")
        work.result()
    assert (result["enqueued"], result["applied"], result["not_applied"]) == (1, 1, [])


def test_no_run_waits_for_a_command_that_needs_a_newer_release(
    site: Site, operator: Operator
) -> None:
    site.put(city(1, key=1)._replace(schema=99))
    started = time.monotonic()
    result = operator.done("sweep", "--grace", "0", "--wait", "3600", "--yes", code=5)
    assert time.monotonic() - started < 60
    assert [one["why"] for one in result["not_applied"]] == ["held"]


def test_an_ended_wait_names_commands_that_are_not_applied(site: Site, operator: Operator) -> None:
    site.put(city(1, key=1))
    result = operator.done("sweep", "--grace", "0", "--dry-run", "--wait", "1", code=5)
    assert [one["why"] for one in result["not_applied"]] == ["missed"]


def test_the_sweep_needs_a_read_only_connection_only(site: Site) -> None:
    site.put(city(1, key=1))
    with open_connection(site.database.url) as connection:
        connection.execute("SET default_transaction_read_only = on")
        sweep = Sweep(connection, now=later(), grace=None)
        assert sweep.survey(site.archive.list("commands/")).missed == 1


def test_an_object_that_is_applied_while_it_is_explained_does_not_end_the_wait() -> None:
    surveys = iter([Survey(listed=1, missed=1), Survey(listed=1, applied=1)])
    remaining = wait_until_applied(
        Console(as_json=True), lambda: next(surveys), list, seconds=60, look_seconds=0
    )
    assert remaining.applied == 1
