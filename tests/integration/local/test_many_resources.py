"""Sixty resources, deployed as one definition: routes of the first, the middle and the last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forebay.routes import routes
from infra.bundling import stage_asset
from infra.settings import EMULATOR_ASSETS_BUCKET
from local.postgres.config import Cluster
from tests.fixtures.doors import deploy, fetch_token
from tests.fixtures.emulator import Emulator, running_emulator
from tests.fixtures.gateway import ROOT, Client, Reply, running_gateway
from tests.fixtures.many import declare, group_of, path_of, write_module
from tests.fixtures.postgres import cloned_database
from tests.fixtures.project import copy_checkout
from tests.fixtures.tables import create_tables, open_connection

# All tests share one deployment, and the emulator's first function calls are slow.
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("many-resources")]

COUNT = 60
GROUP_SIZE = 30
#: The first, two in the middle, and the last.
NUMBERS = (1, 30, 31, COUNT)
VERSION = "0199f0c2-0000-7000-8000-000000000000"
BODY = {"name": "b", "kind": "k", "weight": 1.5, "seen_on": "2026-11-30"}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Grown:
    """The deployed API, and the headers of each group's callers."""

    client: Client
    api_key: str
    #: By client: `reader-1` reads the resources of the first group.
    tokens: Mapping[str, str]

    def ask(
        self, method: str, target: str, caller: str, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """Send a request with the token of a caller, and the API key."""
        headers = {"Authorization": self.tokens[caller], "x-api-key": self.api_key}
        content = b"" if body is None else json.dumps(body).encode()
        return self.client.request(method, target, headers | (JSON if body else {}), content)


def caller_of(number: int, access: str) -> str:
    """The client that has only one scope: of the resource's group."""
    return f"{access}-{group_of(number, GROUP_SIZE).rpartition('-')[2]}"


def project(folder: Path) -> Path:
    """A checkout with the generated resources only."""
    checkout = copy_checkout(folder / "checkout")
    shutil.copy(ROOT / "tests" / "project" / "resources" / "__init__.py", folder / "init")
    shutil.rmtree(checkout / "resources")
    (checkout / "resources").mkdir()
    shutil.move(folder / "init", checkout / "resources" / "__init__.py")
    source = write_module(COUNT, group_size=GROUP_SIZE)
    (checkout / "resources" / "generated.py").write_text(source)
    return checkout


def fill(url: str) -> None:
    """Create the tables, with two rows in each that the tests read."""
    specs = declare(COUNT, group_size=GROUP_SIZE)
    with open_connection(url) as connection:
        create_tables(connection, specs)
        for number in NUMBERS:
            for key, name in ((1, "a"), (2, "b")):
                connection.execute(
                    f"INSERT INTO things_{number} (number, name, kind, weight, seen_on, "
                    f"{'earlier' if number > 1 else 'note'}, _version, _by_create) "
                    "VALUES (%s, %s, 'k', 1.5, '2026-11-30', %s, %s, true)".encode(),
                    [key, name, 1 if number > 1 else "", VERSION],
                )


def assembly(folder: Path, emulator: Emulator, url: str, pool_arn: str) -> Path:
    # Starts Node.js, which tests of other modules don't need.
    import aws_cdk as cdk  # noqa: PLC0415

    from infra.app import build_app  # noqa: PLC0415
    from tests.infra.variants import settings_of  # noqa: PLC0415

    clients = {
        f"{access}-{number}": [f"group-{number}.{access}"]
        for number in (1, 2)
        for access in ("read", "write")
    }
    changes: Mapping[str, Any] = {
        "database.url": url,
        "database.replica_url": url,
        "stream.endpoint": emulator.url,
        "read_cache": None,
        "api.require_api_key": True,
        "api.cache.ttl_seconds": 600,
        "api.authorization": {
            "kind": "cognito",
            # So large a definition is a file, which can't refer to a pool of the deployment.
            "user_pool_arn": pool_arn,
            "domain_prefix": "forebay-many",
            "machine_clients": clients,
        },
    }
    flags = json.loads((ROOT / "cdk.json").read_bytes())["context"]
    app = cdk.App(context=flags, outdir=str(folder / "assembly"))
    build_app(
        settings_of("local", changes, named="many"),
        app=app,
        served=routes(declare(COUNT, group_size=GROUP_SIZE)),
        packages=partial(stage_asset, with_dependencies=False, root=project(folder)),
    )
    app.synth()
    return folder / "assembly"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, postgres_cluster: Cluster) -> Iterator[Grown]:
    """The API of sixty resources behind the local gateway, with its own emulator and database."""
    folder = tmp_path_factory.mktemp("many")
    with running_emulator(folder) as emulator, cloned_database(postgres_cluster) as name:
        url = postgres_cluster.url(database=name)
        fill(url)
        emulator.s3.create_bucket(Bucket=EMULATOR_ASSETS_BUCKET)
        pool = emulator.client("cognito-idp").create_user_pool(PoolName="many")["UserPool"]
        outputs = deploy(folder, emulator, assembly(folder, emulator, url, pool["Arn"]))
        service, identity = outputs["forebay-many-service"], outputs["forebay-many-identity"]
        key = emulator.client("apigateway").get_api_key(
            apiKey=service["ApiKeyId"], includeValue=True
        )
        arguments = ("--emulator", emulator.url, "--api-id", service["ApiId"])
        with running_gateway(*arguments, log=folder / "gateway.log") as gateway:
            yield Grown(gateway.client, str(key["value"]), fetch_tokens(emulator, identity))


def fetch_tokens(emulator: Emulator, identity: Mapping[str, str]) -> Mapping[str, str]:
    """A token of each client."""
    tokens = {}
    for access in ("read", "write"):
        for number in (1, 2):
            client_id = identity[f"ClientId{access.title()}{number}"]
            described = emulator.client("cognito-idp").describe_user_pool_client(
                UserPoolId=identity["UserPoolId"], ClientId=client_id
            )["UserPoolClient"]
            token = fetch_token(emulator, client_id, described["ClientSecret"])
            tokens[f"{access}-{number}"] = token
    return tokens


@pytest.mark.parametrize("number", NUMBERS)
def test_items_lists_and_counts_are_read(grown: Grown, number: int) -> None:
    caller, path = caller_of(number, "read"), f"/v1/{path_of(number)}"

    item = grown.ask("GET", f"{path}/2", caller)
    assert (item.status, item.json()["name"]) == (200, "b")
    rows = grown.ask("GET", f"{path}?order=number.desc&select=number,name", caller)
    assert [row["number"] for row in rows.json()] == [2, 1]
    filtered = grown.ask("GET", f"{path}?name=eq.a", caller)
    assert [row["number"] for row in filtered.json()] == [1]
    headers = {"Authorization": grown.tokens[caller], "x-api-key": grown.api_key}
    counted = grown.client.get(f"{path}?limit=1", {**headers, "Prefer": "count=exact"})
    assert (counted.status, counted["Content-Range"]) == (206, "0-0/2")
    assert grown.ask("HEAD", path, caller).status == 200


@pytest.mark.parametrize("number", NUMBERS)
def test_writes_are_accepted_and_have_a_status(grown: Grown, number: int) -> None:
    caller, path = caller_of(number, "write"), f"/v1/{path_of(number)}"

    for method, target, body in (
        ("PUT", f"{path}/7", BODY),
        ("PATCH", f"{path}/7", {"name": "c"}),
        ("POST", path, {"number": 8, **BODY}),
    ):
        written = grown.ask(method, target, caller, body)
        assert written.status == 202, written.body
        location = written["Location"]
        assert location is not None
        status = grown.ask("GET", location, caller)
        assert status.status in {200, 202}
        # The emulator delivers at once, so the consumer may be faster than the request.
        assert status.json()["status"] in {"pending", "applied"}


@pytest.mark.parametrize("number", NUMBERS)
def test_the_cache_separates_parameters_and_callers(grown: Grown, number: int) -> None:
    caller, path = caller_of(number, "read"), f"/v1/{path_of(number)}"

    def is_hit(target: str) -> bool:
        return str(grown.ask("GET", target, caller)["X-Cache"]).lower().startswith("hit")

    target = f"{path}?kind=eq.k&limit=1"
    assert [is_hit(target), is_hit(target)] == [False, True]
    assert not is_hit(f"{path}?kind=eq.k&limit=2")
    assert not is_hit(f"{path}?kind=eq.other&limit=1")
    assert [is_hit(f"{path}/1"), is_hit(f"{path}/1")] == [False, True]
    # No caller gets what is kept for another: the key contains the token.
    keyed = {"x-api-key": grown.api_key}
    assert grown.client.get(target, keyed).status == 401


@pytest.mark.parametrize("number", NUMBERS)
def test_credentials_are_those_of_the_resource_s_group(grown: Grown, number: int) -> None:
    path = f"/v1/{path_of(number)}"
    other = "read-2" if caller_of(number, "read") == "read-1" else "read-1"

    assert grown.ask("GET", f"{path}/1", other).status == 401
    assert grown.ask("PUT", f"{path}/7", caller_of(number, "read"), BODY).status == 401
    assert grown.ask("GET", f"{path}/1", caller_of(number, "write")).status == 401
    without_key = {"Authorization": grown.tokens[caller_of(number, "read")]}
    assert grown.client.get(f"{path}/1", without_key).status == 403


@pytest.mark.parametrize("number", NUMBERS)
def test_other_methods_and_parameters_are_refused_and_preflights_answered(
    grown: Grown, number: int
) -> None:
    caller, path = caller_of(number, "read"), f"/v1/{path_of(number)}"

    refused = grown.ask("PUT", path, caller_of(number, "write"), BODY)
    assert refused.status == 405
    assert "POST" in str(refused["Allow"])
    unknown = grown.ask("GET", f"{path}?nothing=eq.5", caller)
    assert (unknown.status, unknown.json()["code"]) == (400, "unknown_parameter")
    preflight = grown.client.request("OPTIONS", f"{path}/1")
    assert preflight.status == 200
    assert "PATCH" in str(preflight["Access-Control-Allow-Methods"])


def test_a_relation_to_a_resource_of_another_group_takes_its_scope(grown: Grown) -> None:
    """The function checks the scopes of the resources that a query names besides the path."""
    embedded = "?select=number,things-30(number)"
    refused = grown.ask("GET", f"/v1/{path_of(31)}{embedded}", "read-2")
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")
    assert "forebay/group-1.read" in refused.json()["detail"]

    shown = grown.ask("GET", f"/v1/{path_of(30)}?select=number,things-29(number)", "read-1")
    assert shown.status == 200
