"""The stage cache with a real emulated API: cached answers, their keys and their lifetimes."""

import json
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures.emulator import Emulator, wait_until
from tests.fixtures.gateway import Api, Client, GatewayProcess, ordered


@pytest.fixture
def client(gateway: GatewayProcess) -> Client:
    return gateway.client


def test_a_second_equal_get_is_answered_without_the_function(client: Client) -> None:
    first, second = client.get("/v1/items"), client.get("/v1/items")
    assert (first["X-Cache"], second["X-Cache"]) == ("Miss", "Hit")
    assert second.body == first.body
    assert second.status == first.status
    assert second["Content-Type"] == first["Content-Type"]


def test_every_answer_has_a_request_id_of_its_own(client: Client) -> None:
    ids = [client.get("/v1/items")["x-amzn-RequestId"] for _ in range(3)]
    assert all(ids)
    assert len(set(ids)) == 3


@pytest.mark.parametrize("target", ["/v1/items?limit=1", "/v1/items?limit=", "/v1/items?cursor=1"])
def test_another_value_of_a_declared_query_parameter_is_another_entry(
    client: Client, target: str
) -> None:
    client.get("/v1/items")
    assert client.get(target)["X-Cache"] == "Miss"
    assert client.get(target)["X-Cache"] == "Hit"


def test_the_order_of_query_parameters_makes_no_difference(client: Client) -> None:
    first = client.get("/v1/items?limit=1&cursor=2")
    assert client.get("/v1/items?cursor=2&limit=1").call == first.call


def test_the_name_of_a_declared_header_is_case_insensitive(client: Client) -> None:
    first = client.get("/v1/items", {"X-View": "short"})
    assert client.get("/v1/items", {"x-view": "short"}).call == first.call
    assert client.get("/v1/items", {"X-View": "long"}).call != first.call
    assert client.get("/v1/items").call != first.call


def test_a_declared_header_given_twice_is_not_one_of_its_values(client: Client) -> None:
    """The function sees both values, so the request must not share an entry with either."""
    twice = client.get("/v1/items", [("X-View", "short"), ("X-View", "long")])
    assert twice.json()["headers"]["x-view"] == "short, long"
    for view in ("short", "long"):
        assert client.get("/v1/items", {"X-View": view})["X-Cache"] == "Miss"


def test_a_header_that_connection_names_is_in_the_key_as_little_as_at_the_function(
    client: Client,
) -> None:
    """Otherwise the answer without the header would be cached for clients that send it."""
    named = client.get("/v1/items", {"Connection": "X-View", "X-View": "short"})
    assert "x-view" not in named.json()["headers"]
    short = client.get("/v1/items", {"X-View": "short"})
    assert (short["X-Cache"], short.json()["headers"]["x-view"]) == ("Miss", "short")
    assert client.get("/v1/items").call == named.call


@pytest.mark.parametrize("name", ["X_View", "X-View ", "X-Vie", "X%2DView"])
def test_a_header_of_another_name_is_neither_in_the_key_nor_taken_for_the_declared_one(
    client: Client, name: str
) -> None:
    reply = client.get("/v1/items", {name: "short"})
    if reply.status != 200:
        assert reply.status == 400
        return
    assert "x-view" not in {header.lower() for header in reply.json()["headers"]}
    assert client.get("/v1/items").call == reply.call


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("limit=1", "%6cimit=%31"),
        ("limit=a b", "limit=a+b"),
        ("limit=%zz", "limit=%25zz"),
        ("limit=%ff", "limit=%ef%bf%bd"),
        ("limit=", "limit"),
        ("limit=1", "&&limit=1&"),
        ("limit=1;cursor=2", "limit=1%3Bcursor%3D2"),
        ("limit=%00", "limit=%00&"),
    ],
)
def test_two_spellings_of_one_key_are_one_request_to_the_function(
    client: Client, gateway: GatewayProcess, one: str, other: str
) -> None:
    seen = []
    for query in (one, other):
        gateway.flush()
        reply = client.get(f"/v1/items?{query.replace(' ', '%20')}")
        seen.append((reply["X-Cache"], reply.json()["queryStringParameters"]))
    assert seen[0] == seen[1]
    assert client.get(f"/v1/items?{one.replace(' ', '%20')}")["X-Cache"] == "Hit"


@pytest.mark.parametrize("path", ["/v1/items/1/", "/v1//items/1", "/v1/items//1//"])
def test_empty_segments_of_a_path_are_not_sent_on(
    client: Client, gateway: GatewayProcess, path: str
) -> None:
    plain = client.get("/v1/items/1").json()
    gateway.flush()
    reply = client.get(path)
    assert reply["X-Cache"] == "Miss"
    assert [reply.json()[name] for name in ("path", "resource", "pathParameters")] == [
        plain[name] for name in ("path", "resource", "pathParameters")
    ]
    assert client.get("/v1/items/1").call == reply.call


def test_an_undeclared_header_makes_no_difference(client: Client) -> None:
    first = client.get("/v1/items", {"Accept-Language": "de", "Authorization": "Bearer a"})
    assert client.get("/v1/items", {"Authorization": "Bearer b"}).call == first.call


def test_a_declared_path_parameter_makes_an_entry_each(client: Client) -> None:
    assert client.get("/v1/items/1").call != client.get("/v1/items/2").call
    assert client.get("/v1/items/1")["X-Cache"] == "Hit"


def test_an_undeclared_path_parameter_shares_the_entry_as_on_aws(client: Client) -> None:
    """A pitfall of API Gateway, imitated so that one machine also shows a missing declaration."""
    assert client.get("/v1/shared/1").call == client.get("/v1/shared/2").call


def test_writes_are_never_cached(client: Client) -> None:
    for method, target in (("POST", "/v1/items"), ("PUT", "/v1/items/1")):
        replies = [client.request(method, target, body=b"{}") for _ in range(2)]
        assert replies[0].call != replies[1].call
        assert replies[1]["X-Cache"] is None


@pytest.mark.parametrize("target", ["/v1/never", "/v1/free"])
def test_a_method_with_a_ttl_of_0_or_without_caching_is_called_every_time(
    client: Client, target: str
) -> None:
    replies = [client.get(target) for _ in range(2)]
    assert replies[0].call != replies[1].call
    assert replies[1]["X-Cache"] is None


def test_an_entry_ends_with_its_ttl(client: Client) -> None:
    first = client.get("/v1/short/1").call
    assert client.get("/v1/short/1").call == first
    wait_until(lambda: client.get("/v1/short/1").call != first, "the entry of 1 s has ended")


@pytest.mark.parametrize("status", [201, 404, 429, 500, 503])
def test_any_status_that_the_function_itself_answers_is_cached(client: Client, status: int) -> None:
    target = ordered("/v1/items", status=status, type="application/problem+json")
    first, second = client.get(target), client.get(target)
    assert first.status == second.status == status
    assert second["X-Cache"] == "Hit"
    assert second["Content-Type"] == "application/problem+json"


def test_a_failed_function_is_called_again(client: Client, gateway: GatewayProcess) -> None:
    target = ordered("/v1/items", raise_="no database")
    for _ in range(2):
        reply = client.get(target)
        assert reply.status == 503
        assert reply["X-Cache"] is None
    assert gateway.stats()["entries"] == 0


def test_a_timed_out_function_is_called_again(client: Client, gateway: GatewayProcess) -> None:
    assert client.get(ordered("/v1/slow", sleep=2)).status == 503
    assert gateway.stats()["entries"] == 0


def test_a_refusal_of_the_gateway_is_not_cached(client: Client, gateway: GatewayProcess) -> None:
    assert client.get("/v1/choked").status == 429
    assert client.get("/v1/locked").status == 403
    assert client.get("/v1/items?colour=red").status == 400
    assert gateway.stats()["entries"] == 0


def test_an_error_of_the_emulator_under_an_honest_key_is_not_cached(client: Client) -> None:
    """The access key belongs to another account, in which the emulator has no such API."""
    scope = "111122223333/20260101/us-east-1/execute-api/aws4_request"
    foreign = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, Signature=0"}
    assert client.get("/v1/items", foreign).status >= 400
    assert client.get("/v1/items").status == 200


def test_an_answer_of_a_mebibyte_is_kept_and_a_larger_one_is_not(client: Client) -> None:
    for padding, use in ((1_000_000, "Hit"), (1_048_577, "Miss")):
        target = ordered("/v1/items", padding=padding)
        first, second = client.get(target), client.get(target)
        assert second["X-Cache"] == use
        assert (second.body == first.body) == (use == "Hit")


def test_a_header_with_several_values_survives_the_cache(client: Client) -> None:
    target = ordered("/v1/items", multiValueHeaders={"Set-Cookie": ["a=1", "b=2"]})
    assert client.get(target).all("Set-Cookie") == ["a=1", "b=2"]
    hit = client.get(target)
    assert hit["X-Cache"] == "Hit"
    assert hit.all("Set-Cookie") == ["a=1", "b=2"]


def test_cache_directives_of_a_request_change_nothing(client: Client) -> None:
    first = client.get("/v1/items").call
    for directives in ("max-age=0", "no-cache", "no-store", "max-age=00x"):
        assert client.get("/v1/items", {"Cache-Control": directives}).call == first


@pytest.fixture
def api_keys(emulator: Emulator, gateway_api: Api) -> Iterator[list[str]]:
    """Two API keys of a usage plan for the stage."""
    client = gateway_api.client
    plan = client.create_usage_plan(
        name="gateway-tests", apiStages=[{"apiId": gateway_api.id, "stage": "v1"}]
    )["id"]
    keys = [client.create_api_key(name=name, enabled=True) for name in ("one", "two")]
    for key in keys:
        client.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
    yield [key["value"] for key in keys]
    for key in keys:
        client.delete_api_key(apiKey=key["id"])
    client.delete_usage_plan(usagePlanId=plan)


def test_a_cached_answer_is_only_for_callers_that_the_emulator_authorizes(
    client: Client, api_keys: list[str]
) -> None:
    one, two = ({"x-api-key": key} for key in api_keys)
    assert client.get("/v1/locked", one).status == 200
    assert client.get("/v1/locked", one)["X-Cache"] == "Hit"
    assert client.get("/v1/locked").status == 403
    assert client.get("/v1/locked", {"x-api-key": "x" * 20}).status == 403
    # The second key's first request must be checked by the emulator, so it is a miss.
    assert client.get("/v1/locked", two)["X-Cache"] == "Miss"
    assert client.get("/v1/locked", two)["X-Cache"] == "Hit"


def test_many_clients_at_once_get_whole_answers_to_their_own_questions(client: Client) -> None:
    def ask(number: int) -> bool:
        limit = str(number % 5)
        reply = client.get(f"/v1/items?limit={limit}")
        return bool(reply.json()["queryStringParameters"] == {"limit": limit})

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(100)))
    assert client.get("/v1/items?limit=1")["X-Cache"] == "Hit"


def test_flushing_empties_the_cache_and_stats_show_it(
    client: Client, gateway: GatewayProcess
) -> None:
    before = gateway.stats()
    first = client.get("/v1/items")
    client.get("/v1/items")
    after = gateway.stats()
    assert after["hits"] - before["hits"] == 1
    assert after["misses"] - before["misses"] == 1
    assert after["entries"] == 1
    assert after["bytes"] > len(first.body)
    assert client.request("POST", "/_gateway/flush").json() == {"flushed": 1}
    assert gateway.stats()["entries"] == gateway.stats()["bytes"] == 0
    assert client.get("/v1/items").call != first.call


def test_an_undeclared_parameter_cannot_poison_the_honest_entry(client: Client) -> None:
    order = urllib.parse.quote(json.dumps({"status": 400}))
    attack = client.get(f"/v1/items/7?order={order}")
    assert attack.status == 400
    assert attack.json()["code"] == "unknown_parameter"
    assert attack.json()["allowed"] == []
    assert client.get("/v1/items/7").status == 200
