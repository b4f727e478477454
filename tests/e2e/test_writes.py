"""Writes through the whole pipeline: accepted, archived, applied, read from the replica."""

import re
import uuid
from typing import Any

import orjson
import pytest

from forebay.conditional import parse_version
from tests.fixtures.emulator import wait_until
from tests.fixtures.gateway import Reply
from tests.fixtures.stack import RunningStack, new_city

ANNOUNCEMENT = {"title": "Opening", "body": "Come all.", "published_on": "2026-11-21"}


def test_a_put_is_accepted_then_applied_then_read(stack: RunningStack) -> None:
    city = new_city()
    item = f"/v1/cities/{city['geonameid']}"
    accepted = stack.send("PUT", item.removeprefix("/v1"), city)
    assert accepted.status == 202
    document = accepted.json()
    assert document["status"] == "pending"
    assert (
        accepted["Location"]
        == document["links"]["status"]
        == f"{item}/commands/{document['command_id']}"
    )
    assert accepted["Content-Location"] == item
    assert int(accepted["Retry-After"] or 0) >= 1

    settled = stack.client.get(document["links"]["status"], {"Prefer": "wait=20"})
    assert (settled.status, settled.json()["status"]) == (200, "applied")
    assert settled["Preference-Applied"] == "wait=20"
    assert settled["Cache-Control"] == "no-store"

    reply = stack.client.get(item, {"Read-After": document["command_id"]})
    assert (reply.status, reply.json()) == (200, city)
    assert shown_version(reply) == document["command_id"]
    unchanged = stack.client.get(item, {"If-None-Match": reply["ETag"] or ""})
    assert (unchanged.status, unchanged.body, unchanged["ETag"]) == (304, b"", reply["ETag"])


def test_a_deleted_item_is_gone_and_leaves_a_tombstone(stack: RunningStack) -> None:
    city = new_city()
    key = city["geonameid"]
    put = stack.wait_for_status(stack.accepted("PUT", f"/cities/{key}", city))
    delete = stack.wait_for_status(stack.accepted("DELETE", f"/cities/{key}"))
    assert delete["status"] == "applied"

    gone = stack.send("GET", f"/cities/{key}", Read_After=delete["command_id"])
    assert (gone.status, gone.json()["code"]) == (404, "not_found")
    tombstones = stack.rows(
        "SELECT version::text FROM forebay.tombstones WHERE resource = 'cities' AND key = %s",
        str(key),
    )
    assert tombstones == [(delete["command_id"],)]
    assert stack.wait_for_status(put["links"]["status"])["status"] == "superseded"


def test_a_deleted_key_can_be_put_again(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    stack.wait_for_status(stack.accepted("PUT", path, city))
    stack.wait_for_status(stack.accepted("DELETE", path))
    again = stack.wait_for_status(stack.accepted("PUT", path, city))
    assert again["status"] == "applied"
    reply = stack.send("GET", path, Read_After=again["command_id"])
    assert (reply.status, reply.json()) == (200, city)


@pytest.mark.parametrize("form", ["array", "ndjson"])
def test_in_a_batch_the_good_items_are_accepted_and_the_bad_ones_explained(
    stack: RunningStack, form: str
) -> None:
    good, other = new_city(), new_city()
    bad = new_city(population=-1, latitude=91)
    batch = [good, bad, other]
    if form == "array":
        reply = stack.send("POST", "/cities", batch)
    else:
        lines = b"\n".join(orjson.dumps(item) for item in batch)
        reply = stack.send("POST", "/cities", lines, Content_Type="application/x-ndjson")
    assert reply.status == 207
    first, second, third = reply.json()["results"]
    assert [result["status"] for result in (first, second, third)] == [202, 422, 202]
    problem = second["problem"]
    assert (second["outcome"], problem["code"]) == ("refused", "validation_failed")
    pointers = {error["pointer"] for error in problem["errors"]}
    assert pointers == {"#/population", "#/latitude"}

    for result, item in ((first, good), (third, other)):
        assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"
        answer = stack.client.get(result["links"]["item"], {"Read-After": result["command_id"]})
        assert answer.json() == item
    assert stack.send("GET", f"/cities/{bad['geonameid']}").status == 404


def test_a_create_never_overwrites(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    put = stack.wait_for_status(stack.accepted("PUT", path, city))
    other = {**city, "name": "Another"}
    creates = [
        stack.wait_for_status(stack.accepted("PUT", path, other, If_None_Match="*")),
        stack.wait_for_status(stack.accepted("POST", "/cities", other)),
    ]
    for create in creates:
        assert (create["status"], create["superseded_by"]) == ("superseded", put["command_id"])
    reply = stack.send("GET", path, Read_After=creates[-1]["command_id"])
    assert reply.json() == city


def test_an_older_put_is_superseded_by_a_newer(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    older = stack.accepted("PUT", path, city)
    newer = stack.accepted("PUT", path, {**city, "name": "Newer"})
    last = stack.wait_for_status(newer)
    assert last["status"] == "applied"
    first = stack.wait_for_status(older)
    assert (first["status"], first["superseded_by"]) == ("superseded", last["command_id"])


def test_patches_of_two_clients_with_different_fields_both_stay(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    stack.wait_for_status(stack.accepted("PUT", path, city))
    named = stack.accepted("PATCH", path, {"name": "Patched"})
    counted = stack.accepted("PATCH", path, {"population": {"$increment": 5}})
    for status in (named, counted):
        assert stack.wait_for_status(status)["status"] == "applied"
    reply = stack.send("GET", path, Read_After=counted)
    assert reply.json() == {**city, "name": "Patched", "population": city["population"] + 5}


def test_a_patch_without_an_item_waits_for_it(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    ahead = stack.accepted("PATCH", path, {"name": "Patched"})
    assert stack.client.get(ahead, {"Prefer": "wait=3"}).status == 202
    stack.wait_for_status(stack.accepted("PUT", path, city))
    assert stack.wait_for_status(ahead)["status"] == "superseded", "the put is newer"


def test_the_second_of_two_changes_of_one_state_is_rejected_and_can_be_repeated(
    stack: RunningStack,
) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    put = stack.accepted("PUT", path, city)
    stack.wait_for_status(put)
    seen = stack.send("GET", path, Read_After=put)["ETag"] or ""
    first, second = (
        stack.wait_for_status(stack.accepted("PATCH", path, {"name": name}, If_Match=seen))
        for name in ("First", "Second")
    )
    assert first["status"] == "applied"
    assert (second["status"], second["error"]["code"]) == ("rejected", "precondition_failed")

    reply = stack.send("GET", path, Read_After=first["links"]["status"])
    assert reply.json()["name"] == "First"
    assert reply["ETag"] != seen
    again = stack.accepted("PATCH", path, {"name": "Second"}, If_Match=reply["ETag"] or "")
    assert stack.wait_for_status(again)["status"] == "applied"
    assert stack.send("GET", path, Read_After=again).json()["name"] == "Second"


def test_an_item_that_changed_is_neither_replaced_nor_deleted(stack: RunningStack) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    put = stack.accepted("PUT", path, city)
    stack.wait_for_status(stack.accepted("PATCH", path, {"name": "Patched"}))
    writes = [
        stack.accepted("PUT", path, city, If_Match=put),
        stack.accepted("DELETE", path, If_Match=put),
        stack.accepted("DELETE", f"/cities?geonameid=eq.{city['geonameid']}&name=eq.Other"),
        stack.accepted("DELETE", f"/cities/{new_city()['geonameid']}", If_Match="*"),
    ]
    codes = [stack.wait_for_status(status)["error"]["code"] for status in writes]
    assert codes == ["precondition_failed"] * 4
    last = stack.accepted("DELETE", path, If_Match="*")
    assert stack.wait_for_status(last)["status"] == "applied"


def test_the_same_idempotency_key_makes_one_item(stack: RunningStack) -> None:
    key = f'"{uuid.uuid4()}"'
    first, second = (
        stack.send("POST", "/announcements", ANNOUNCEMENT, Idempotency_Key=key).json()
        for _ in range(2)
    )
    assert first == second
    assert stack.wait_for_status(first["links"]["status"])["status"] == "applied"
    count = stack.rows("SELECT count(*) FROM announcements WHERE id = %s", first["key"])
    assert count == [(1,)]

    other = stack.send("POST", "/announcements", ANNOUNCEMENT, Idempotency_Key=f'"{uuid.uuid4()}"')
    assert other.json()["key"] != first["key"]


def test_posts_without_an_idempotency_key_are_different_items(stack: RunningStack) -> None:
    first, second = (stack.send("POST", "/announcements", ANNOUNCEMENT).json() for _ in range(2))
    assert first["key"] != second["key"]
    for answer in (first, second):
        assert stack.wait_for_status(answer["links"]["status"])["status"] == "applied"


def test_read_after_shows_a_write_that_neither_cache_nor_replica_has_yet(
    stack: RunningStack,
) -> None:
    city = new_city()
    path = f"/cities/{city['geonameid']}"
    old = stack.wait_for_status(stack.accepted("PUT", path, city))["command_id"]
    stack.as_superuser("SELECT pg_wal_replay_pause()", on_replica=True)
    try:
        assert shown_version(stack.send("GET", path)) == old
        changed = {**city, "name": "Changed"}
        status = stack.accepted("PUT", path, changed)
        new = status.rpartition("/")[2]
        wait_until(lambda: version_on_primary(stack, city) == new, "the primary has the put")

        assert stack.client.get(status).status == 202, "the replica can't know of it"
        reply = stack.send("GET", path, Read_After=new)
        assert (reply.status, shown_version(reply), reply.json()) == (200, new, changed)
        assert shown_version(stack.send("GET", path)) == old, "who does not ask gets it later"
    finally:
        stack.as_superuser("SELECT pg_wal_replay_resume()", on_replica=True)
    assert stack.wait_for_status(status)["status"] == "applied"


def shown_version(reply: Reply) -> str | None:
    return parse_version(reply["ETag"] or "")


def version_on_primary(stack: RunningStack, city: dict[str, Any]) -> str:
    query = "SELECT _version::text FROM cities WHERE geonameid = %s"
    return str(stack.rows(query, city["geonameid"])[0][0])


def test_a_list_pages_through_written_rows(stack: RunningStack) -> None:
    country = "QQ"  # not a real country
    written = [new_city(country_code=country, population=number) for number in range(7)]
    results = stack.send("POST", "/cities", written).json()["results"]
    for result in results:
        assert stack.wait_for_status(result["links"]["status"])["status"] == "applied"

    target = f"/v1/cities?country_code=eq.{country}&order=population.desc&limit=3"
    pages: list[list[dict[str, Any]]] = []
    while target:
        page = stack.client.get(target)
        assert page.status == 200
        pages.append(page.json())
        following = re.search(r'<([^>]*)>; rel="next"', page["Link"] or "")
        target = following[1] if following else ""
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [city for page in pages for city in page] == written[::-1]


def test_lines_that_firehose_refuses_go_to_the_archive(stack: RunningStack) -> None:
    """202 is a promise: if the delivery stream is down, the write goes to the archive directly."""
    stack.set_faults(down="error")
    city = new_city()
    status = stack.accepted("PUT", f"/cities/{city['geonameid']}", city)
    assert stack.wait_for_status(status)["status"] == "applied"
    direct = f"/direct-{status.rpartition('/')[2]}.gz"
    assert [key for key in stack.keys("commands/") if key.endswith(direct)]
