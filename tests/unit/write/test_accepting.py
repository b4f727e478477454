"""Accepted writes: their answers, and the lines that they add to the archive."""

from __future__ import annotations

import json
import uuid

import pytest

from forebay.ids import accepted_ms, is_create_id
from tests.fixtures.api import NOW_MS, RecordingSink, RecordingStore, WriteBench, document
from tests.fixtures.commands import CITY

ITEM = {"geonameid": 5, **CITY}
NEWS = {"title": "t", "body": "b", "published_on": "2026-01-01"}
# A version from a writer with a clock five minutes ahead.
AHEAD = f"{NOW_MS + 5 * 60_000:012x}"
AHEAD_ID = f"{AHEAD[:8]}-{AHEAD[8:]}-7fff-bfff-ffffffffffff"


def test_a_post_is_202_with_links_to_the_item_and_to_its_status() -> None:
    bench = WriteBench()
    response = bench.send("POST", "/cities", ITEM)
    body = document(response)
    status = f"/v1/cities/5/commands/{body['command_id']}"
    assert response.status == 202
    assert response.headers["Location"] == status
    assert response.headers["Content-Location"] == "/v1/cities/5"
    assert int(response.headers["Retry-After"]) >= 1
    assert body == {
        "command_id": body["command_id"],
        "resource": "cities",
        "key": 5,
        "status": "pending",
        "links": {"item": "/v1/cities/5", "status": status},
    }
    command = bench.sink.commands[0]
    assert (command.id, command.op, command.key) == (body["command_id"], "create", 5)
    assert (command.resource, command.schema, command.by) == ("cities", 1, "anonymous")
    assert command.body == CITY
    assert accepted_ms(command.id) == NOW_MS


@pytest.mark.parametrize(
    ("method", "headers", "op"),
    [("PUT", {}, "put"), ("PUT", {"If_None_Match": "*"}, "create"), ("DELETE", {}, "delete")],
)
def test_each_method_makes_its_kind_of_command(
    method: str, headers: dict[str, str], op: str
) -> None:
    bench = WriteBench()
    content = None if method == "DELETE" else CITY
    assert bench.send(method, "/cities/{key}", content, key="5", **headers).status == 202
    command = bench.sink.commands[0]
    assert (command.op, command.key, command.body) == (op, 5, content)
    assert is_create_id(command.id) == (op == "create")


def test_defaults_are_archived_so_that_a_replay_never_depends_on_them() -> None:
    bench = WriteBench()
    bench.send("POST", "/announcements", {**NEWS, "expires_at": "2026-02-01T12:00:00+02:00"})
    assert bench.sink.commands[0].body == {
        **NEWS,
        "expires_at": "2026-02-01T10:00:00Z",
        "status": "published",
        "pinned": False,
        "tags": [],
    }


def test_the_same_idempotency_key_makes_the_same_item() -> None:
    bench = WriteBench()
    keys = [
        document(bench.send("POST", "/announcements", NEWS, **headers))["key"]
        for headers in (
            {"Idempotency_Key": '"order-1"'},
            {"Idempotency_Key": "order-1"},
            {"Idempotency_Key": "order-2"},
            {},
            {},
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert all(str(uuid.UUID(key)) == key for key in keys)
    first, second = bench.sink.commands[:2]
    assert first.op == second.op == "create"
    assert first.id < second.id


def test_callers_do_not_share_idempotency_keys() -> None:
    keys = []
    for subject in ("ann", "bob"):
        bench = WriteBench()
        context = {"authorizer": {"claims": {"sub": subject}}}
        request = {
            "resource": "/announcements",
            "path": "/announcements",
            "httpMethod": "POST",
            "headers": {"content-type": "application/json", "idempotency-key": "k"},
            "requestContext": context,
            "body": json.dumps(NEWS),
        }
        keys.append(document(bench.app.handle(request))["key"])
        assert bench.sink.commands[0].by == f"user:{subject}"
    assert keys[0] != keys[1]


def test_the_items_of_a_batch_get_keys_of_their_own_from_one_idempotency_key() -> None:
    bench = WriteBench()
    batches = [
        document(bench.send("POST", "/announcements", [NEWS, NEWS], Idempotency_Key="k"))["results"]
        for _ in range(2)
    ]
    keys = [[result["key"] for result in batch] for batch in batches]
    assert keys[0] == keys[1]
    assert keys[0][0] != keys[0][1]


BATCH_TYPES = ["application/json", "application/x-ndjson"]


def keys_of(bench: WriteBench, items: list[object], *, media: str, key: str = "k") -> list[str]:
    """Send a batch of valid items, and return their keys."""
    texts = [json.dumps(item) for item in items]
    raw = f"[{','.join(texts)}]" if media == "application/json" else "\n".join(texts)
    sent = bench.send("POST", "/announcements", raw=raw, media=media, Idempotency_Key=key)
    results = document(sent)["results"]
    assert [result["status"] for result in results] == [202] * len(items), results
    return [result["key"] for result in results]


def news(title: str) -> dict[str, str]:
    return {**NEWS, "title": title}


@pytest.mark.parametrize("first", BATCH_TYPES)
@pytest.mark.parametrize("second", BATCH_TYPES)
def test_an_item_of_a_batch_has_the_same_key_wherever_it_stands(first: str, second: str) -> None:
    bench = WriteBench()
    one, two, three = (news(title) for title in ("one", "two", "three"))
    keys = keys_of(bench, [one, two, three], media=first)
    assert keys_of(bench, [three, one], media=second) == [keys[2], keys[0]]
    assert keys_of(bench, [two], media=second) == [keys[1]]
    assert keys_of(bench, [two], media=second, key="other") != [keys[1]]


@pytest.mark.parametrize("media", BATCH_TYPES)
def test_a_mended_item_of_a_batch_is_a_new_one_alone_and_in_its_place(media: str) -> None:
    bench = WriteBench()
    before = keys_of(bench, [news("one"), news("three")], media=media)
    whole = keys_of(bench, [news("one"), news("mended"), news("three")], media=media)
    assert [whole[0], whole[2]] == before
    assert whole[1] not in before
    assert keys_of(bench, [news("mended")], media=media) == [whole[1]]
    alone = document(bench.send("POST", "/announcements", news("mended"), Idempotency_Key="k"))
    assert alone["key"] not in before


@pytest.mark.parametrize("media", BATCH_TYPES)
def test_a_refused_item_changes_no_key_of_its_neighbours(media: str) -> None:
    bench = WriteBench()
    keys = keys_of(bench, [news("one"), news("three")], media=media)
    items = [news("one"), {"title": ""}, news("three")]
    texts = [json.dumps(item) for item in items]
    raw = f"[{','.join(texts)}]" if media == "application/json" else "\n".join(texts)
    sent = bench.send("POST", "/announcements", raw=raw, media=media, Idempotency_Key="k")
    results = document(sent)["results"]
    assert [result.get("key") for result in results] == [keys[0], None, keys[1]]


def test_equal_items_of_a_batch_differ_by_the_number_of_earlier_equals() -> None:
    bench = WriteBench()
    same, other = news("same"), news("other")
    keys = keys_of(bench, [same, same, other], media="application/json")
    assert len(set(keys)) == 3
    assert keys_of(bench, [other, same, same], media="application/json") == [keys[2], *keys[:2]]
    assert keys_of(bench, [same], media="application/json") == keys[:1]


@pytest.mark.parametrize(
    "spelling",
    [
        '{"published_on": "2026-01-01", "body":"b",\t"title":"one"}',
        '{"title":"\\u006fne","body":"b","published_on":"2026-01-01"}',
    ],
    ids=["members in another order", "another escape"],
)
def test_an_item_of_a_batch_is_the_same_however_its_json_is_written(spelling: str) -> None:
    bench = WriteBench()
    keys = keys_of(bench, [news("one")], media="application/json")
    sent = bench.send("POST", "/announcements", raw=f"[{spelling}]", Idempotency_Key="k")
    assert [result["key"] for result in document(sent)["results"]] == keys


def test_items_with_different_missing_members_are_different_items() -> None:
    """A default may change between two attempts, so the text as sent decides."""
    bench = WriteBench()
    keys = keys_of(bench, [news("one"), {**news("one"), "pinned": False}], media="application/json")
    assert len(set(keys)) == 2


@pytest.mark.parametrize("header", ["If_Match", "Read_After"])
@pytest.mark.parametrize(
    "shown", ["{}", '"{}"', '"{}-0123456789abcdef"', 'W/"{}-0123456789abcdef"']
)
def test_a_write_after_a_version_that_the_client_has_seen_is_newer_than_it(
    header: str, shown: str
) -> None:
    """A client shows the version from a status, or an item's tag, which a CDN may weaken."""
    bench = WriteBench()
    bench.send("PUT", "/cities/{key}", CITY, key="5", **{header: shown.format(AHEAD_ID)})
    (command,) = bench.sink.commands
    assert command.id > AHEAD_ID


@pytest.mark.parametrize("header", ["If_Match", "Read_After"])
def test_a_version_that_a_client_shows_for_one_key_leaves_the_ids_of_other_keys_alone(
    header: str,
) -> None:
    first, second = WriteBench(), WriteBench()
    value = f'"{AHEAD_ID}"' if header == "If_Match" else AHEAD_ID
    first.send("DELETE", "/cities/{key}", key="999999999", **{header: value})
    first.send("PUT", "/cities/{key}", CITY, key="5")
    second.now_ms += 1
    second.send("PUT", "/cities/{key}", CITY, key="5")
    earlier, later = first.sink.commands[1], second.sink.commands[0]
    assert accepted_ms(earlier.id) == NOW_MS
    assert later.beats(earlier)


def test_the_items_of_a_batch_above_a_version_have_rising_ids() -> None:
    bench = WriteBench()
    items = [{**ITEM, "geonameid": key} for key in (5, 6, 5, 7)]
    bench.send("POST", "/cities", items, Read_After=AHEAD_ID)
    ids = [command.id for command in bench.sink.commands]
    assert [AHEAD_ID, *ids] == sorted({AHEAD_ID, *ids})
    bench.send("POST", "/cities", ITEM)
    assert accepted_ms(bench.sink.commands[-1].id) == NOW_MS


def test_a_key_that_the_server_makes_is_not_raised_above_a_version() -> None:
    bench = WriteBench()
    bench.send("POST", "/announcements", NEWS, Read_After=AHEAD_ID)
    bench.send("POST", "/announcements", NEWS, Read_After=AHEAD_ID, Idempotency_Key="k")
    new, repeated = (command.id for command in bench.sink.commands)
    assert accepted_ms(new) == NOW_MS
    assert repeated > AHEAD_ID


def test_lines_that_the_stream_refuses_go_to_the_archive() -> None:
    bench = WriteBench(sink=RecordingSink(refuse={0}))
    assert bench.send("POST", "/cities", ITEM).status == 202
    assert (len(bench.sink.taken), len(bench.store.taken)) == (0, 1)


def test_with_stream_and_archive_down_a_write_is_503_and_was_not_accepted() -> None:
    bench = WriteBench(sink=RecordingSink(refuse={0}), store=RecordingStore(down=True))
    response = bench.send("POST", "/cities", ITEM)
    assert (response.status, document(response)["code"]) == (503, "not_accepted")
    assert int(response.headers["Retry-After"]) >= 1
    assert bench.sink.taken == bench.store.taken == []


def test_only_lines_of_a_batch_that_neither_stream_nor_archive_took_are_503() -> None:
    bench = WriteBench(sink=RecordingSink(refuse={1}), store=RecordingStore(down=True))
    items = [{**ITEM, "geonameid": key} for key in (1, 2, 3)]
    results = document(bench.send("POST", "/cities", items))["results"]
    assert [result["status"] for result in results] == [202, 503, 202]
    assert results[1]["problem"]["code"] == "not_accepted"
    assert [command.key for command in bench.sink.commands] == [1, 3]


def test_the_traceparent_travels_with_the_command() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    bench = WriteBench()
    bench.send("POST", "/cities", ITEM, traceparent=trace)
    bench.send("POST", "/cities", ITEM, traceparent="nonsense")
    assert [command.trace for command in bench.sink.commands] == [trace, None]


def test_500_items_are_accepted_in_order_with_rising_ids() -> None:
    bench = WriteBench()
    items = [{**ITEM, "geonameid": key} for key in range(1, 501)]
    response = bench.send("POST", "/cities", items)
    results = document(response)["results"]
    assert response.status == 207
    assert [result["key"] for result in results] == list(range(1, 501))
    ids = [command.id for command in bench.sink.commands]
    assert ids == sorted(set(ids)) == [result["command_id"] for result in results]
