"""The monthly estimate: the counted items, and the warnings about quotas."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops import cli
from ops.cost.estimate import (
    SECONDS_PER_MONTH,
    Estimate,
    Load,
    estimate_at_rest,
    estimate_buffered,
    estimate_quotas,
    estimate_synchronous,
)
from ops.cost.prices import HOURS_PER_MONTH
from ops.cost.settings import ENVIRONMENTS, Settings, load
from ops.errors import UsageError
from ops.exit_codes import ExitCode
from tests.unit.cost.page import PAGE, render

LOAD = Load(reads_per_second=100, hit_rate=0.8, writes_per_second=50, bytes=500)
SIZE = {"memory_mebibytes": 512, "snap_start": False}
FUNCTIONS = ("write", "read", "status", "about", "imports", "firehose_consumer", "migrate", "sweep")
RDS = {
    "kind": "rds",
    "instance_class": "r8g.large",
    "replicas": 1,
    "multi_az": True,
    "storage_gibibytes": 100,
}
AURORA = {"kind": "aurora", "instance_class": "r8g.large", "replicas": 1}
PAUSING = {
    "kind": "aurora",
    "serverless": {"min_units": 0.0, "max_units": 2.0, "pause_after_seconds": 600},
    "replicas": 0,
}


def settings_with(**changes: Any) -> Settings:
    """An environment with every priced setting; a change replaces a whole table."""
    values: dict[str, Any] = {
        "target": "aws",
        "region": "us-east-1",
        "logs": {"retention_days": 30, "traces": False},
        "database": RDS,
        "stream": {"buffer_mebibytes": 64, "buffer_seconds": 10},
        "functions": dict.fromkeys(FUNCTIONS, SIZE),
        "sweep": {"every_minutes": 60},
        "api": {"cache": {"size_gigabytes": "0.5"}},
    }
    return Settings.model_validate(values | changes)


SETTINGS = settings_with()


def dollars(estimate: Estimate, name: str) -> float:
    (line,) = (item.dollars for item in estimate.items if item.name == name)
    return line


def test_a_million_single_writes_cost_about_four_dollars_above_the_cost_at_rest() -> None:
    """3.50 for the request, 0.14 for Firehose, and a small amount for the function."""
    writes = 1e6 / SECONDS_PER_MONTH
    settings = settings_with(stream={"buffer_mebibytes": 64, "buffer_seconds": 900})
    bill = estimate_buffered(settings, replace(LOAD, reads_per_second=0, writes_per_second=writes))
    names = ("API Gateway requests", "Lambda, API", "Firehose")

    assert dollars(bill, "API Gateway requests") == pytest.approx(3.50)
    assert dollars(bill, "Firehose") == pytest.approx(0.138, abs=0.001)
    assert sum(dollars(bill, name) for name in names) == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize(("size", "factor"), [(1, 1), (5_120, 1), (5_121, 2), (51_200, 10)])
def test_firehose_charges_each_record_in_steps_of_5_kb(size: int, factor: int) -> None:
    one = dollars(estimate_buffered(SETTINGS, replace(LOAD, bytes=1)), "Firehose")

    assert dollars(
        estimate_buffered(SETTINGS, replace(LOAD, bytes=size)), "Firehose"
    ) == pytest.approx(factor * one)


def test_more_requests_are_cheaper_each() -> None:
    million = replace(LOAD, reads_per_second=1e6 / SECONDS_PER_MONTH, writes_per_second=0)
    thousand = replace(LOAD, reads_per_second=1e9 / SECONDS_PER_MONTH, writes_per_second=0)

    assert dollars(estimate_buffered(SETTINGS, million), "API Gateway requests") == pytest.approx(
        3.50
    )
    assert dollars(estimate_buffered(SETTINGS, thousand), "API Gateway requests") == pytest.approx(
        333 * 3.50 + 667 * 2.80
    )


def test_commands_that_share_a_request_spare_requests_and_nothing_of_firehose() -> None:
    alone, together = (
        estimate_buffered(SETTINGS, LOAD),
        estimate_buffered(SETTINGS, replace(LOAD, commands_per_request=50)),
    )

    assert dollars(together, "API Gateway requests") < dollars(alone, "API Gateway requests")
    assert dollars(together, "Firehose") == dollars(alone, "Firehose")


def test_the_first_quota_is_the_one_that_the_load_is_nearest_to() -> None:
    first, *others = estimate_quotas(SETTINGS, LOAD)

    assert first.name.startswith("Firehose, requests")
    assert first.share == pytest.approx(50 * 5 / 2_000)
    assert all(first.share >= other.share for other in others)
    elsewhere = estimate_quotas(settings_with(region="eu-central-1"), LOAD)[0]
    assert elsewhere.share == pytest.approx(2 * first.share)
    # With two streams, another quota is the nearest.
    two = settings_with(stream={"buffer_mebibytes": 64, "buffer_seconds": 10, "count": 2})
    assert estimate_quotas(two, LOAD)[0].name.startswith("API Gateway")


def test_large_commands_meet_the_bytes_first() -> None:
    assert estimate_quotas(SETTINGS, replace(LOAD, bytes=100_000))[0].name.startswith(
        "Firehose, MiB"
    )


def test_a_synchronous_primary_must_bear_the_busiest_second() -> None:
    heavy = replace(LOAD, writes_per_second=2_000, peak=5)

    assert dollars(estimate_synchronous(SETTINGS, heavy), "Database instances") > 3 * dollars(
        estimate_buffered(SETTINGS, heavy), "Database instances"
    )
    names = {item.name for item in estimate_synchronous(SETTINGS, heavy).items}
    assert names.isdisjoint({"Firehose", "SQS", "S3 archive"})


def test_the_three_largest_items_come_first() -> None:
    bill = estimate_buffered(SETTINGS, LOAD)
    ranked = sorted((item.dollars for item in bill.items), reverse=True)

    assert [item.dollars for item in bill.largest] == ranked[:3]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--hit-rate", "1.5"],
        ["--writes", "-1"],
        ["--reads", "inf"],
        ["--env", "moon"],
        ["--env", "local"],
        ["--env", "../environments/prod"],
    ],
)
def test_nonsense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cost", "--env", "prod", "--writes", "1", *wrong]) == ExitCode.USAGE
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("target =", "is not valid TOML"),
        ('target = "aws"', "region: Field required; `make synth ENV=mine`"),
    ],
)
def test_a_file_without_a_priced_setting_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(UsageError, match=r"mine\.toml") as refusal:
        load("mine", tmp_path)
    assert message in str(refusal.value)


def test_an_environment_at_rest_pays_for_all_that_is_always_there() -> None:
    """2 + 1 instances at $0.239, 3 times 100 GB, the cache, the endpoint, idle polls, alarms."""
    bill = estimate_at_rest(SETTINGS)

    fixed = {item.name: round(item.dollars, 2) for item in bill.items if item.dollars}
    assert fixed == {
        "Stage cache": 14.60,
        "Alarms and metrics": 0.90,
        "SQS": 0.79,
        "Interface endpoints": 7.30,
        "Database instances": 523.41,
        "Database storage": 34.50,
    }


@pytest.mark.parametrize(
    ("changes", "name", "monthly"),
    [
        ({"database": {**RDS, "instance_class": "r8g.2xlarge"}}, "Database instances", 2093.64),
        ({"database": {**RDS, "replica_class": "t4g.small"}}, "Database instances", 372.48),
        ({"database": {**RDS, "multi_az": False}}, "Database instances", 348.94),
        ({"database": {**RDS, "storage_gibibytes": 20}}, "Database storage", 6.90),
        ({"database": {**RDS, "proxy": True}}, "RDS Proxy", 21.90),
        ({"database": AURORA}, "Database instances", 402.96),
        ({"database": {**AURORA, "io_optimized": True}}, "Database instances", 523.85),
        (
            {"database": {**AURORA, "in_global": {"role": "secondary"}}},
            "Database instances",
            201.48,
        ),
        ({"api": {"cache": {"size_gigabytes": "6.1"}}}, "Stage cache", 146.00),
        ({"operations": {"runner": True}}, "Interface endpoints", 29.20),
        ({"edge": {}}, "WAF", 11.00),
        ({"edge": {"origin_secrets": ["1", "2"]}}, "Secrets of the edge", 0.80),
        ({"edge": {}, "region": "eu-west-1"}, "Secrets of the edge", 0.80),
        (
            {"functions": {name: {"memory_mebibytes": 512} for name in FUNCTIONS}},
            "Lambda, snapshots",
            15.82,
        ),
        (
            {"functions": dict.fromkeys(FUNCTIONS, SIZE | {"provisioned_concurrency": 1})},
            "Lambda, instances kept ready",
            35.04,
        ),
        (
            {"stream": {"buffer_mebibytes": 64, "buffer_seconds": 10, "count": 3}},
            "Alarms and metrics",
            1.30,
        ),
    ],
)
def test_each_setting_with_a_price_at_rest_changes_the_bill(
    changes: dict[str, Any], name: str, monthly: float
) -> None:
    assert dollars(estimate_at_rest(settings_with(**changes)), name) == pytest.approx(
        monthly, abs=0.01
    )


@pytest.mark.parametrize(
    ("changes", "name", "factor"),
    [
        (
            {"functions": dict.fromkeys(FUNCTIONS, SIZE | {"memory_mebibytes": 1769})},
            "Lambda, consumer",
            2.97,
        ),
        ({"logs": {"retention_days": 365, "traces": False}}, "Logs", 1.097),
        ({"archive": {"glacier_after_days": 91}}, "S3 archive", 0.38),
    ],
)
def test_each_setting_with_a_price_under_load_changes_the_bill(
    changes: dict[str, Any], name: str, factor: float
) -> None:
    before = dollars(estimate_buffered(SETTINGS, LOAD), name)
    after = dollars(estimate_buffered(settings_with(**changes), LOAD), name)

    assert after / before == pytest.approx(factor, rel=0.02)


def test_traces_are_sampled() -> None:
    """20 reads and 50 writes a second: 1 + 5 % of the others, of each; every object."""
    settings = settings_with(logs={"retention_days": 30, "traces": True})

    traces = dollars(estimate_buffered(settings, LOAD), "Traces") / 5e-6 / SECONDS_PER_MONTH
    assert traces == pytest.approx(1 + 19 * 0.05 + 1 + 49 * 0.05 + 0.1)


def test_an_edge_replaces_the_traffic_of_the_gateway() -> None:
    bill = estimate_buffered(settings_with(edge={}), LOAD)

    assert {"CloudFront", "WAF"} <= {item.name for item in bill.items}
    assert "Traffic" not in {item.name for item in bill.items}
    requests = 150 * SECONDS_PER_MONTH
    assert dollars(bill, "CloudFront") == pytest.approx(
        (requests - 10e6) * 1e-6
        + (requests - 2e6) * 0.1e-6
        # Two lookups of each read in the edge's table.
        + 2 * LOAD.reads_per_second * SECONDS_PER_MONTH * 0.03e-6
    )


def test_a_database_that_pauses_costs_its_wakings_at_rest_and_all_hours_under_load() -> None:
    settings = settings_with(database=PAUSING, sweep={"every_minutes": 1_440})
    hours = HOURS_PER_MONTH / 24 * 600 / 3600

    assert dollars(estimate_at_rest(settings), "Database instances") == pytest.approx(
        hours * 0.5 * 0.12
    )
    busy = estimate_buffered(settings, replace(LOAD, writes_per_second=1))
    assert dollars(busy, "Database instances") == pytest.approx(HOURS_PER_MONTH * 0.5 * 0.12)


def test_an_external_database_is_not_on_the_bill() -> None:
    bill = estimate_buffered(settings_with(database={"kind": "external"}), LOAD)

    names = {item.name for item in bill.items}
    assert names.isdisjoint({"Database instances", "Database storage", "Interface endpoints"})


@pytest.mark.parametrize("instance_class", ["x9z.large", "r8g.huge", "r8g"])
def test_an_unknown_instance_class_is_refused_by_its_name(instance_class: str) -> None:
    settings = settings_with(database={**RDS, "instance_class": instance_class})

    with pytest.raises(UsageError, match=instance_class):
        estimate_at_rest(settings)


def test_a_load_above_the_primary_is_named() -> None:
    quotas = estimate_quotas(
        settings_with(database={**RDS, "instance_class": "t4g.small"}),
        replace(LOAD, writes_per_second=44_000),
    )

    (primary,) = (quota for quota in quotas if quota.name.startswith("The primary"))
    assert primary.share == pytest.approx(2)


def test_the_figures_of_the_page_are_those_of_the_program() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page.count("$ forebay cost") == 3
    assert render(page) == page, "run `make cost-page`"


def test_the_development_file_names_its_cost_at_rest() -> None:
    text = (ENVIRONMENTS / "dev.toml").read_text()

    assert f"about {estimate_at_rest(load('dev')).dollars:.0f} dollars a month" in text


def test_programs_read_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--env", "prod", "--reads", "100", "--writes", "50", "--json"]

    assert cli.run(["cost", *given]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    prod = load("prod")
    assert document["env"] == "prod"
    assert document["at_rest"]["dollars"] == round(estimate_at_rest(prod).dollars, 2)
    assert document["buffered"]["dollars"] == round(estimate_buffered(prod, LOAD).dollars, 2)
    assert document["quotas"][0]["name"] == estimate_quotas(prod, LOAD)[0].name
    assert len(document["largest"]) == 3


def test_without_a_load_only_the_month_at_rest_is_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["cost", "--env", "prod", "--json"]) == ExitCode.OK
    assert set(json.loads(capsys.readouterr().out)) >= {"env", "at_rest", "largest"}
    assert cli.run(["cost", "--env", "prod"]) == ExitCode.OK
    assert "synchronous" not in capsys.readouterr().out


def test_attachments_cost_by_the_upload_and_as_long_as_the_archive_is_kept() -> None:
    without, with_them = settings_with(), settings_with(attachments={})
    rest = {item.name for item in estimate_at_rest(with_them).items if item.dollars}
    assert "S3 attachments" not in rest
    assert "S3 attachments" not in {item.name for item in estimate_buffered(without, LOAD).items}

    def price(load: Load) -> float:
        items = estimate_buffered(with_them, load).items
        return next(item.dollars for item in items if item.name == "S3 attachments")

    few = replace(LOAD, uploads_per_second=1, upload_bytes=1_000)
    uploads = SECONDS_PER_MONTH
    # Two PUTs and two GETs of S3, three requests of SQS, a call of half a second with 512 MiB.
    call = 0.2e-6 + 0.5 * 0.5 * 0.0000133334
    requests = uploads * (2 * 0.005e-3 + 2 * 0.0004e-3 + 3 * 0.4e-6 + call)
    stored = uploads * 1_000 / 1e9 * (12 + 14 / (HOURS_PER_MONTH / 24)) * 0.023
    assert price(few) == pytest.approx(requests + stored, rel=0.01)
    assert price(replace(few, upload_bytes=2_000)) == pytest.approx(requests + 2 * stored, rel=0.01)


def test_uploads_of_an_environment_without_attachments_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["cost", "--env", "dev", "--uploads", "1"]) == ExitCode.USAGE
    assert "has no attachments" in capsys.readouterr().err
