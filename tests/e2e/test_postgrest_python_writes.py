"""PostgREST's Python client writes to the whole stack, and reads its own writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from postgrest import APIError, SyncPostgrestClient

from tests.fixtures.stack import RunningStack, new_city


@pytest.fixture
def client(stack: RunningStack) -> Iterator[SyncPostgrestClient]:
    with SyncPostgrestClient(f"http://127.0.0.1:{stack.settings.ports.gateway}/v1") as new_client:
        yield new_client


def send(query: Any) -> Any:
    """What the client returns of an answer."""
    return query.execute().data


def read_after(client: SyncPostgrestClient, results: Any, keys: Sequence[int]) -> list[Any]:
    """Names and populations, in a state in which the last of these results is settled."""
    query = client.from_("cities").select("name,population").in_("geonameid", keys)
    after = query.order("geonameid")
    after.request.headers["Read-After"] = results[-1]["links"]["status"]
    while True:
        try:
            return [tuple(row.values()) for row in send(after)]
        except APIError as exc:
            if exc.code != "unavailable":
                raise
            time.sleep(0.3)


def test_a_client_inserts_updates_and_deletes(
    stack: RunningStack, client: SyncPostgrestClient
) -> None:
    cities = [new_city(name="made"), new_city(name="made")]
    keys = [city["geonameid"] for city in cities]
    table = client.from_("cities")

    send(table.insert(cities[0]))
    send(table.upsert(cities, on_conflict="geonameid"))
    named = send(table.update({"name": "named"}).eq("geonameid", keys[0]))
    sums = send(table.update({"population": {"$increment": -1}}).in_("geonameid", keys))
    assert [result["key"] for result in sums] == keys
    assert read_after(client, [*named, *sums], keys) == [("named", 999), ("made", 999)]

    swaps = [
        send(table.update({"name": name}).eq("geonameid", keys[0]).eq("name", "named"))
        for name in ("swapped", "too late")
    ]
    statuses = [stack.wait_for_status(swap[0]["links"]["status"]) for swap in swaps]
    assert [status["status"] for status in statuses] == ["applied", "rejected"]
    assert statuses[1]["error"]["code"] == "precondition_failed"

    deleted = send(table.delete().in_("geonameid", keys))
    assert read_after(client, deleted, keys) == []


def test_an_update_without_the_key_is_an_error_with_a_message(client: SyncPostgrestClient) -> None:
    with pytest.raises(APIError, match="geonameid=eq") as refusal:
        client.from_("cities").update({"name": "any"}).eq("population", 1).execute()
    assert refusal.value.code == "bad_filter"
    assert "read the keys first" in str(refusal.value.hint)
