"""The CloudFront Function refuses the same requests as the local gateway, with the same texts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

import resources
from devtools import node
from forebay.errors import SettingsError
from forebay.routes import Parameter, Route, routes
from infra.components.edge_function import build_edge_function
from local.gateway.deployed import Deployed, Method
from local.gateway.deployed import Parameter as Declared
from local.gateway.edge import find_refusal, find_unknown_resource
from local.gateway.messages import Incoming
from tests.fixtures import edge_cases
from tests.fixtures.many import declare

MAX_BODY_BYTES = 4_194_304

# Calls the function once per event, as CloudFront does: with a method that returns the raw query
# string, and without Node.js's globals, which CloudFront lacks.
HARNESS = """
const fs = require("fs"), vm = require("vm");
const [code, table, events] = JSON.parse(fs.readFileSync(0));
// The store, as the module `cloudfront` gives access to it.
const cf = { kvs: () => ({
  exists: async (key) => Object.hasOwn(table, key),
  get: async (key) => {
    if (!Object.hasOwn(table, key)) throw new Error("KeyNotFound");
    return table[key];
  },
}) };
const call = (event) => {
  const raw = event.request.raw;
  delete event.request.raw;
  event.request.rawQueryString = () => (raw === null ? undefined : raw);
  const context = vm.createContext(Object.create(null));
  context.cf = cf;
  vm.runInContext(code.replace(/^import cf from "cloudfront";$/m, ""), context);
  context.event = event;
  return vm.runInContext("handler(event)", context);
};
Promise.all(events.map(call)).then((answers) => console.log(JSON.stringify(answers)));
"""


def route(path: str, method: Any, action: Any, *parameters: Parameter) -> Route:
    return Route(
        method=method,
        path=path,
        function="read",
        action=action,
        resource="items",
        parameters=parameters,
        cached=True,
    )


LIST = (Parameter("query", "limit"), Parameter("query", "cursor"), Parameter("header", "Prefer"))
ITEMS = (
    route("/items", "GET", "list", *LIST),
    route("/items", "HEAD", "list", *LIST),
    route("/items", "POST", "post"),
    route("/items/{key}", "GET", "item", Parameter("path", "key")),
    route("/items/{key}", "HEAD", "item", Parameter("path", "key")),
    route("/items/{key}", "PUT", "put", Parameter("path", "key")),
)


def event(target: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    path, question, query = target.partition("?")
    return {
        "version": "1.0",
        "context": {"eventType": "viewer-request", "requestId": "of-this-request"},
        "viewer": {"ip": "192.0.2.1"},
        "request": {
            "method": method,
            "uri": path,
            "raw": query if question else None,
            "querystring": {},
            "headers": {
                name.replace("_", "-"): {"value": value} for name, value in headers.items()
            },
            "cookies": {},
        },
    }


def called(events: Sequence[Mapping[str, Any]], served: Sequence[Route] = ITEMS) -> list[Any]:
    """The function's result for each event: a response, or the request to forward."""
    function = build_edge_function(served, max_body_bytes=MAX_BODY_BYTES, cors_allow_origin="*")
    finished = subprocess.run(
        [str(node.find_folder() / "node"), "-e", HARNESS],
        input=json.dumps([function.code, function.table, events]),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    answers: list[Any] = json.loads(finished.stdout)
    return answers


def told(answer: Mapping[str, Any]) -> Any:
    """The problem document, or None for a forwarded request."""
    if "statusCode" not in answer:
        return None
    assert answer["headers"]["content-type"]["value"] == "application/problem+json"
    assert answer["headers"]["cache-control"]["value"] == "no-store"
    document = json.loads(answer["body"])
    assert document["status"] == answer["statusCode"]
    return document


def of_the_gateway(target: str, method: str = "GET") -> Any:
    """The local gateway's problem document for the same list, or None."""
    refused = find_refusal(local_method(method), Incoming.parse(method, target, [], peer=""))
    return None if refused is None else json.loads(refused.body)


def local_method(method: str) -> Method:
    """The list as declared to the local gateway."""
    declared = [Declared("querystring", "limit"), Declared("querystring", "cursor")]
    return Method(
        resource_path="/items",
        http_method=method,
        declared=frozenset([*declared, Declared("header", "prefer")]),
        timeout_seconds=29,
        cache=None,
    )


def test_it_answers_as_the_local_gateway_does() -> None:
    targets = [target for target, _ in edge_cases.LISTING]
    answers = [told(answer) for answer in called([event(target) for target in targets])]

    assert answers == [of_the_gateway(target) for target in targets]
    codes = [answer and answer["code"] for answer in answers]
    assert codes == [code for _, code in edge_cases.LISTING]


def test_requests_that_pass_are_normalized_to_one_reading() -> None:
    """API Gateway would parse `limit=1;limit=2` as two parameters."""
    passed = called(
        [
            event("/v1/items?limit=1;limit=2&cursor=a+b%7C%zz"),
            event("/v1/items?l%69mit"),
            event("/v1/items"),
        ]
    )

    assert [answer["querystring"] for answer in passed] == [
        "limit=1%3Blimit%3D2&cursor=a%2Bb%257C%25zz",
        "limit=",
        "",
    ]


def test_a_path_is_the_same_however_it_is_encoded() -> None:
    answers = called([event("/v1/it%65ms?x=1"), event("/v1//items/?x=1"), event("/v1/items/1?x=1")])

    assert [told(answer)["code"] for answer in answers] == ["unknown_parameter"] * 3


def test_writes_other_paths_and_other_methods_keep_their_queries() -> None:
    answers = called(
        [
            event("/v1/items?a=1&a=1", "POST"),
            event("/v1/items/1?a=1", "PUT"),
            event("/v1/items?a=1", "OPTIONS"),
            event("/v1/unheard-of?a=1", "POST"),
            event("/v1/items/1/2?a=1"),
            event("/items?a=1"),
        ]
    )

    assert [told(answer) for answer in answers] == [None] * 6


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/item", "Perhaps you mean `items`."),
        ("/v1/tiems/5?x=1", "Perhaps you mean `items`."),
        ("/v1/ITEMS", None),
        ("/v1/%69tems%2F", "Perhaps you mean `items`."),
        ("/v1/rivers", None),
        (f"/v1/{'items' * 30}", None),
    ],
)
def test_reading_an_unknown_resource_suggests_the_nearest_name(path: str, hint: str | None) -> None:
    (answer,) = called([event(path)])
    document = told(answer)
    deployed = Deployed(
        api_id="a",
        stage="v1",
        responses={},
        min_compression_bytes=None,
        resources=[(("items",), {"GET": local_method("GET")})],
    )
    request = Incoming.parse("GET", path, [], peer="")
    refused = find_unknown_resource(deployed, request, request.path.removeprefix("/v1"))
    assert refused is not None
    assert document == json.loads(refused.body)
    assert (document["code"], document["status"], document["hint"]) == ("PGRST205", 404, hint)


def test_head_is_refused_as_get_is_but_without_a_body() -> None:
    (answer,) = called([event("/v1/items?x=1", "HEAD")])

    assert answer["statusCode"] == 400
    assert "body" not in answer


def test_clients_can_not_bypass_a_cache() -> None:
    (passed,) = called([event("/v1/items", cache_control="max-age=0", pragma="no-cache")])

    assert passed["headers"] == {}


def test_trace_headers_of_a_request_are_passed_on() -> None:
    headers = {
        "authorization": "Bearer x",
        "read_after": "01a20a11-5c0e-7d32-8f4a-6b1e0c9d2f58",
        "prefer": "count=exact",
        "if_none_match": '"a"',
        "x_api_key": "k",
    }
    (passed,) = called([event("/v1/items", **headers)])

    assert passed["headers"] == {
        name.replace("_", "-"): {"value": value} for name, value in headers.items()
    }


def test_an_answer_to_a_range_is_not_shared() -> None:
    ranged, plain = called(
        [event("/v1/items", range="0-9"), event("/v1/items", x_forebay_range="somebody-else-s")]
    )

    assert ranged["headers"] == {
        "range": {"value": "0-9"},
        "x-forebay-range": {"value": "of-this-request"},
    }
    assert plain["headers"] == {}


@pytest.mark.parametrize(
    ("length", "code"),
    [(str(MAX_BODY_BYTES), None), (str(MAX_BODY_BYTES + 1), "payload_too_large")],
)
def test_a_body_may_have_so_many_bytes(length: str, code: str | None) -> None:
    (answer,) = called([event("/v1/items", "POST", content_length=length)])
    document = told(answer)

    assert (document and document["code"]) == code


def test_only_declared_routes_pass() -> None:
    """Each parameter of each route by itself, and a parameter that no route declares."""
    served = routes(resources.load())
    parameters = [
        (one, parameter.name)
        for one in served
        if one.reads_query and one.method == "GET"
        for parameter in (*one.parameters, Parameter("query", "nowhere"))
    ]
    targets = [f"/v1{one.path.replace('{key}', '1')}?{name}=1" for one, name in parameters]
    answers = [told(answer) for answer in called([event(target) for target in targets], served)]

    passes = [
        name
        in {
            declared_parameter.name
            for declared_parameter in one.parameters
            if declared_parameter.location == "query"
        }
        for one, name in parameters
    ]
    assert [answer is None for answer in answers] == passes
    assert any(passes)


def test_too_many_parameters_for_one_function_are_refused_at_synth() -> None:
    wide = [route("/items", "GET", "list", *(Parameter("query", f"c_{n}") for n in range(2_000)))]

    with pytest.raises(SettingsError, match="10240"):
        build_edge_function(wide, max_body_bytes=MAX_BODY_BYTES, cors_allow_origin="*")


@pytest.mark.parametrize("count", [10, 60, 200])
def test_the_function_is_small_however_many_resources_there_are(count: int) -> None:
    function = build_edge_function(
        routes(declare(count)), max_body_bytes=MAX_BODY_BYTES, cors_allow_origin="*"
    )

    assert len(function.code) < 9_000, f"{len(function.code)} bytes"
    assert "__" not in function.code
    # Amazon CloudFront, quotas on key value stores: a pair has at most 1 KB.
    assert max(len(key) + len(value) for key, value in function.table.items()) <= 1_024


def test_each_of_many_resources_is_checked_by_its_own_parameters() -> None:
    """A wide resource's parameters take more than one value of the store."""
    served = [
        *routes(declare(200)),
        *(
            replace(one, path=one.path.replace("items", "wide"), resource="wide")
            for one in (
                route("/items", "GET", "list", *(Parameter("query", f"c_{n}") for n in range(900))),
            )
        ),
    ]
    answers = called(
        [
            event("/v1/things-1?name=eq.a&things-2.name=eq.b"),
            event("/v1/things-1?things-3.name=eq.b"),
            event("/v1/things-100?things-101.name=eq.b"),
            event("/v1/things-200?things-199.name=eq.b"),
            event("/v1/things-200?things-201.name=eq.b"),
            event("/v1/things-200/5?name=eq.b"),
            event("/v1/wide?c_0=1&c_450=1&c_899=1"),
            event("/v1/wide?c_900=1"),
            event("/v1/wide/5?c_900=1"),
            event("/v1/things-201"),
            event("/v1/things-1%201"),
        ],
        served,
    )

    codes = [told(answer) and told(answer)["code"] for answer in answers]
    unknown = "unknown_parameter"
    assert codes == [
        *(None, unknown, None, None, unknown, unknown),
        *(None, unknown, None),
        *("PGRST205", "PGRST205"),
    ]
