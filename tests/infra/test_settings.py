"""An environment's file: valid settings, and the texts of refusals."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from forebay.errors import SettingsError
from infra.database import ExternalDatabase, find_block
from infra.settings import CONTEXT_VARIABLE, ENVIRONMENTS, Settings, read_context
from tests.infra.templates import LOCAL_CONTEXT, Synthesised, readable
from tests.infra.variants import settings_of

Edit = Callable[[dict[str, Any]], None]


def _written(tmp_path: Path, name: str, edit: Edit) -> Path:
    """A folder with the file of the named environment, after an edit."""
    values = tomllib.loads((ENVIRONMENTS / f"{name}.toml").read_text())
    edit(values)
    (tmp_path / f"{name}.toml").write_text(_toml(values))
    return tmp_path


def _toml(values: Mapping[str, Any], table: str = "") -> str:
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"[{table}]"] if table else []
    lines += [f'"{key}" = {_literal(value)}' for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, dict):
            lines.append(_toml(value, f'{table}."{key}"' if table else f'"{key}"'))
    return "\n".join(lines)


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _set(path: str, value: object) -> Edit:
    *tables, key = path.split(".")

    def edit(values: dict[str, Any]) -> None:
        for table in tables:
            values = values.setdefault(table, {})
        values[key] = value

    return edit


def _refusal(folder: Path, name: str, context: Mapping[str, str | None]) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.load(name, context, folder)
    return str(refused.value)


def test_the_command_line_completes_the_local_environment() -> None:
    settings = Settings.load("local", LOCAL_CONTEXT)

    assert isinstance(settings.database, ExternalDatabase)
    assert settings.database.url == LOCAL_CONTEXT["database_url"]
    assert settings.database.replica_url == LOCAL_CONTEXT["replica_url"]
    assert settings.stream.endpoint == LOCAL_CONTEXT["firehose_endpoint"]


def test_the_command_line_wins_over_the_file() -> None:
    context = {**LOCAL_CONTEXT, "replica_url": "postgresql://elsewhere/forebay"}
    settings = Settings.load("local", context)

    assert isinstance(settings.database, ExternalDatabase)
    assert settings.database.replica_url == "postgresql://elsewhere/forebay"


@pytest.mark.parametrize("missing", LOCAL_CONTEXT)
def test_the_message_about_a_missing_value_explains_how_to_set_it(missing: str) -> None:
    message = _refusal(ENVIRONMENTS, "local", {**LOCAL_CONTEXT, missing: None})

    assert "local.toml" in message
    assert f"-c {missing}=" in message


def test_an_unknown_environment_lists_the_known_ones() -> None:
    message = _refusal(ENVIRONMENTS, "moon", {})

    # There may be others.
    assert re.search(r"choose one of: .*dev.*local.*prod.*staging", message)


def test_broken_toml_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "dev.toml").write_text("region = ")

    assert "dev.toml is not valid TOML" in _refusal(tmp_path, "dev", {})


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("stream.buffer_minutes", 1, "is not a setting"),
        ("stream.buffer_seconds", "15", "valid integer"),
        ("stream.buffer_seconds", 901, "less than or equal to 900"),
        ("stream.buffer_mebibytes", 129, "less than or equal to 128"),
        ("queue.max_receives", 4, "greater than or equal to 5"),
        ("queue.dead_letter_retention_days", 4, "greater than retention_days"),
        ("consumer.max_concurrency", 1, "greater than or equal to 2"),
        ("consumer.batch_size", 11, "window_seconds must be at least 1"),
        ("functions.write.timeout_seconds", 30, "must be at most 29"),
        ("functions.firehose_consumer.reserved_concurrency", 1, "consumer.max_concurrency"),
        ("api.cache.size_gigabytes", "1", "'0.5', '1.6'"),
        ("api.cache.ttl_seconds", 3601, "less than or equal to 3600"),
        ("api.cors_allow_headers", ["X-Mine, X-Yours"], "should match pattern"),
        ("api.compress_from_bytes", 10_485_761, "less than or equal to 10485760"),
        ("stream.endpoint", "http://127.0.0.1:1", "for the emulator only"),
        ("database.url", "postgresql://host/forebay", "is not a setting"),
        ("account", "12", "should match pattern"),
        ("target", "moon", "'aws' or 'emulator'"),
    ],
)
def test_a_wrong_setting_is_refused_by_file_and_key(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    message = _refusal(_written(tmp_path, "dev", _set(key, value)), "dev", {})

    assert "dev.toml" in message
    assert key.rpartition(".")[2] in message
    assert reason in message


def test_an_unknown_kind_of_database_is_refused_with_the_known_kinds(tmp_path: Path) -> None:
    folder = _written(tmp_path, "dev", _set("database.kind", "postgres"))

    message = _refusal(folder, "dev", {})

    assert message.endswith("database.kind is 'postgres', but must be one of external, rds, aurora")


def test_a_key_in_the_wrong_form_is_refused_by_the_name_of_its_setting(tmp_path: Path) -> None:
    message = _refusal(_written(tmp_path, "dev", _set("encryption.key", "alias/mine")), "dev", {})

    assert "dev.toml: encryption.key: " in message
    assert "literal" not in message


def test_the_emulator_needs_an_account(tmp_path: Path) -> None:
    folder = _written(tmp_path, "local", lambda values: values.pop("account"))

    assert "account is required" in _refusal(folder, "local", LOCAL_CONTEXT)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    def edit(values: dict[str, Any]) -> None:
        _set("stream.buffer_seconds", -1)(values)
        _set("logs.colour", "red")(values)

    message = _refusal(_written(tmp_path, "dev", edit), "dev", {})

    assert "stream.buffer_seconds" in message
    assert "logs.colour" in message


def test_settings_can_not_be_changed() -> None:
    settings = Settings.load("dev", {})

    with pytest.raises(ValueError, match="frozen"):
        settings.region = "eu-west-1"


EXTERNAL: Mapping[str, Any] = {
    "kind": "external",
    "url": "postgresql://user@host/forebay",
    "replica_url": "postgresql://user@host/forebay",
    "read_timeout_seconds": 10,
}
AURORA: Mapping[str, Any] = {
    "kind": "aurora",
    "instance_class": "r8g.large",
    "replicas": 1,
    "read_timeout_seconds": 10,
    "max_connections": 600,
    "backup_days": 1,
    "deletion_protection": True,
    "network": {"cidr": "10.40.0.0/20"},
}


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_every_environment_of_aws_is_consistent(name: str) -> None:
    assert Settings.load(name, {}).target == "aws"


def test_no_two_environments_have_the_same_addresses() -> None:
    """Networks with the same addresses can never be connected."""
    databases = [Settings.load(name, {}).database for name in ("dev", "staging", "prod")]
    networks = [
        IPv4Network(database.network.cidr)
        for database in databases
        if not isinstance(database, ExternalDatabase)
    ]

    assert len(networks) == 3
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


def test_the_addresses_of_a_network_have_no_default() -> None:
    """A default would give two environments the same addresses."""
    database = {key: value for key, value in AURORA.items() if key != "network"}

    with pytest.raises(ValidationError, match="network"):
        settings_of("prod", {"database": database})


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_writes_have_a_concurrency_of_their_own(name: str) -> None:
    assert Settings.load(name, {}).functions.write.reserved_concurrency


def test_the_subnet_of_each_zone_has_a_block_of_its_own() -> None:
    numbers = [str(number) for number in range(1, 7)]
    ids = [f"use1-az{number}" for number in range(1, 11)]

    blocks = [find_block(zone) for zone in (*numbers, *ids)]

    assert sorted(blocks) == list(range(16))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("prod", {"functions.read.provisioned_concurrency": 5}, "exclude each other"),
        (
            "prod",
            {"functions.read.snap_start": False, "functions.read.provisioned_concurrency": 401},
            "must not exceed reserved_concurrency",
        ),
        ("dev", {"database.proxy": True}, "the cluster would never pause"),
        ("dev", {"stream.buffer_seconds": 20}, "less than wait_cap_seconds"),
        (
            "dev",
            {"wait_cap_seconds": 25, "functions.status.timeout_seconds": 25},
            "must be less than functions.status.timeout_seconds",
        ),
        (
            "dev",
            {"database.read_timeout_seconds": 25, "functions.read.timeout_seconds": 25},
            "the function is killed before the query times out",
        ),
        ("prod", {"functions.read.reserved_concurrency": 959}, "10 must stay free"),
        ("staging", {"database.max_connections": 100}, "10 must stay free"),
        ("staging", {"functions.read.reserved_concurrency": None}, "is required without a proxy"),
        ("staging", {"functions.status.reserved_concurrency": None}, "is required without a proxy"),
        ("prod", {"database.max_storage_gibibytes": 105}, "at least 1.1 times"),
        ("prod", {"database.replicas": 16}, "less than or equal to 15"),
        ("prod", {"database.backup_days": 0}, "greater than or equal to 1"),
        ("dev", {"database.instance_class": "r8g.large"}, "exactly one of instance_class"),
        ("dev", {"database.serverless.min_units": 0.5}, "require each other"),
        ("dev", {"database.serverless.min_units": 3.0}, "min_units must not be greater"),
        ("dev", {"database.in_global": {"identifier": "f", "role": "primary"}}, "can't pause"),
        (
            "prod",
            {
                "database": {
                    **AURORA,
                    "proxy": True,
                    "in_global": {"identifier": "f", "role": "secondary"},
                }
            },
            "proxy must be off in a secondary region",
        ),
        (
            "prod",
            {"database": {**EXTERNAL, "url": "postgresql://user:password@host/forebay"}},
            "must not contain a password",
        ),
        (
            "prod",
            {"archive.copy_to": {"region": "us-east-1", "bucket": "copy"}},
            "must differ from",
        ),
        ("prod", {"archive.lock": {"mode": "compliance", "days": 365}}, "can't expire"),
        ("prod", {"stream.count": 0}, "greater than or equal to 1"),
        ("prod", {"database.network.cidr": "10.0.0.0/8"}, "should match pattern"),
        ("prod", {"database.network.cidr": "10.0.0.0/23"}, "should match pattern"),
        ("prod", {"database.network.cidr": "10.0.0.1/20"}, "cidr is no network"),
        ("prod", {"database.network.zones": ["use1-az1", "use1-az2"]}, "exclude each other"),
        ("dev", {"database.network.zones": ["use1-az1"]}, "at least two zones"),
        ("dev", {"database.network.zones": ["use1-az1", "us-east-1b"]}, "should match pattern"),
        ("dev", {"database.network.kept_zones": ["1"]}, "twice"),
        ("local", {"functions.read.snap_start": True}, "the emulator supports neither"),
        ("local", {"archive.copy_to": {"region": "eu-west-1", "bucket": "copy"}}, "AWS only"),
        ("local", {"database": {**AURORA, "proxy": True}}, "the emulator has no databases"),
    ],
)
def test_contradictory_settings_are_refused_with_a_message(
    tmp_path: Path, name: str, changes: Mapping[str, Any], sentence: str
) -> None:
    def edit(values: dict[str, Any]) -> None:
        for path, value in changes.items():
            if value is None:
                *tables, key = path.split(".")
                table = values
                for part in tables:
                    table = table[part]
                del table[key]
            else:
                _set(path, value)(values)

    context = LOCAL_CONTEXT if name == "local" and "database" not in changes else {}
    if name == "local" and not context:
        context = {
            "firehose_endpoint": "http://127.0.0.1:1",
            "read_cache": "valkey://127.0.0.1:1",
        }
    message = _refusal(_written(tmp_path, name, edit), name, context)

    assert sentence in message
    assert message.startswith(str(tmp_path / f"{name}.toml"))
    assert "\n" not in message


@pytest.mark.parametrize(
    "name",
    ["production-in-frankfurt", "a-b-c-d-e-f-g-h-i-jk", "two--hyphens", "Prod", "1st", "end-"],
)
def test_a_name_that_resources_can_not_have_is_refused(tmp_path: Path, name: str) -> None:
    """S3 allows 63 characters; RDS allows no hyphen at the end, and no two in a row."""
    source = (ENVIRONMENTS / "dev.toml").read_text(encoding="utf-8")
    (tmp_path / f"{name}.toml").write_text(source, encoding="utf-8")

    assert f"{name}.toml: {name!r} is no name" in _refusal(tmp_path, name, {})


def test_the_longest_name_fits_buckets_and_functions(
    flags: Mapping[str, Any], package: Path
) -> None:
    """They have AWS's strictest limits: 63 and 64 characters."""
    synthesised = Synthesised.of(settings_of("prod", {}, named="a" * 19), flags, package)

    (bucket,) = synthesised.properties("data", "AWS::S3::Bucket")
    archive = readable(bucket["BucketName"]).replace("<AWS::AccountId>", "1" * 12)
    assert len(archive.replace("us-east-1", "ap-northeast-1")) <= 63
    for function in synthesised.properties("service", "AWS::Lambda::Function"):
        assert len(function.get("FunctionName", "")) <= 64


@pytest.mark.parametrize(
    "changes",
    [
        {"database": {**AURORA, "instance_class": "r8g.large"}},
        {"database.proxy": True, "functions.read.reserved_concurrency": 5_000},
        {
            "functions.read.snap_start": False,
            "functions.read.provisioned_concurrency": 400,
            "deployment.canary": "off",
        },
        {"archive.lock": {"mode": "governance", "days": 30}},
        {"database": dict(EXTERNAL)},
        {"stream.buffer_seconds": 60, "wait_cap_seconds": 0},
    ],
)
def test_valid_settings_are_accepted(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    """Valid counterparts of the refused settings."""

    def edit(values: dict[str, Any]) -> None:
        for path, value in changes.items():
            _set(path, value)(values)

    Settings.load("prod", {}, _written(tmp_path, "prod", edit))


def test_a_key_of_the_database_is_named_without_its_kind(tmp_path: Path) -> None:
    message = _refusal(_written(tmp_path, "dev", _set("database.colour", "red")), "dev", {})

    assert "dev.toml: database.colour is not a setting" in message


def test_values_with_passwords_are_given_by_the_environment() -> None:
    """Other users of a machine can read command lines."""
    assert read_context({CONTEXT_VARIABLE: json.dumps(LOCAL_CONTEXT)}) == LOCAL_CONTEXT
    assert read_context({}) == {}


@pytest.mark.parametrize("text", ["", "x", "[]", '{"unknown": "x"}', '{"database_url": 1}'])
def test_an_environment_variable_that_is_not_in_the_context_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=CONTEXT_VARIABLE):
        read_context({CONTEXT_VARIABLE: text})


@pytest.mark.parametrize(
    "idempotency", [{"retention_hours": 0}, {"when_unavailable": "ignore"}, {"table": "mine"}]
)
def test_idempotency_records_have_a_retention_and_one_of_two_behaviours(
    idempotency: dict[str, object],
) -> None:
    """A record that expires before its lock ends would let two attempts send other commands."""
    with pytest.raises(ValidationError, match="idempotency"):
        settings_of("dev", {"idempotency": idempotency})
