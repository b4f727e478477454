"""The monthly estimate: the counted items, and the warnings about quotas."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ops import cli
from ops.cost.estimate import (
    SECONDS_PER_MONTH,
    Estimate,
    Load,
    estimate_buffered,
    estimate_quotas,
    estimate_synchronous,
)
from ops.exit_codes import ExitCode
from tests.fixtures.pages import text_of

LOAD = Load(reads_per_second=100, hit_rate=0.8, writes_per_second=50, bytes=500)


def dollars(estimate: Estimate, name: str) -> float:
    (line,) = (item.dollars for item in estimate.items if item.name == name)
    return line


def test_a_million_single_writes_cost_about_four_dollars_beside_what_is_always_there() -> None:
    """3.50 for the request, 0.14 for Firehose, and a small amount for the function."""
    writes = 1e6 / SECONDS_PER_MONTH
    load = replace(LOAD, reads_per_second=0, writes_per_second=writes, buffer_seconds=900)
    bill = estimate_buffered(load)
    names = ("API Gateway requests", "Lambda, API", "Firehose")

    assert dollars(bill, "API Gateway requests") == pytest.approx(3.50)
    assert dollars(bill, "Firehose") == pytest.approx(0.138, abs=0.001)
    assert sum(dollars(bill, name) for name in names) == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize(("size", "factor"), [(1, 1), (5_120, 1), (5_121, 2), (51_200, 10)])
def test_firehose_charges_each_record_in_steps_of_5_kb(size: int, factor: int) -> None:
    one = dollars(estimate_buffered(replace(LOAD, bytes=1)), "Firehose")

    assert dollars(estimate_buffered(replace(LOAD, bytes=size)), "Firehose") == pytest.approx(
        factor * one
    )


def test_more_requests_are_cheaper_each() -> None:
    million = replace(LOAD, reads_per_second=1e6 / SECONDS_PER_MONTH, writes_per_second=0)
    thousand = replace(LOAD, reads_per_second=1e9 / SECONDS_PER_MONTH, writes_per_second=0)

    assert dollars(estimate_buffered(million), "API Gateway requests") == pytest.approx(3.50)
    assert dollars(estimate_buffered(thousand), "API Gateway requests") == pytest.approx(
        333 * 3.50 + 667 * 2.80
    )


def test_commands_that_share_a_request_spare_requests_and_nothing_of_firehose() -> None:
    alone, together = (
        estimate_buffered(LOAD),
        estimate_buffered(replace(LOAD, commands_per_request=50)),
    )

    assert dollars(together, "API Gateway requests") < dollars(alone, "API Gateway requests")
    assert dollars(together, "Firehose") == dollars(alone, "Firehose")


def test_the_first_quota_is_the_one_that_the_load_is_nearest_to() -> None:
    first, *others = estimate_quotas(LOAD)

    assert first.name.startswith("Firehose, requests")
    assert first.share == pytest.approx(50 * 5 / 2_000)
    assert all(first.share >= other.share for other in others)
    elsewhere = estimate_quotas(replace(LOAD, large_region=False))[0]
    assert elsewhere.share == pytest.approx(2 * first.share)
    # With two streams, another quota is the nearest.
    assert estimate_quotas(replace(LOAD, streams=2))[0].name.startswith("API Gateway")


def test_large_commands_meet_the_bytes_first() -> None:
    assert estimate_quotas(replace(LOAD, bytes=100_000))[0].name.startswith("Firehose, MiB")


def test_a_synchronous_primary_must_bear_the_busiest_second() -> None:
    heavy = replace(LOAD, writes_per_second=2_000, peak=5)

    assert dollars(estimate_synchronous(heavy), "Database instances") > 3 * dollars(
        estimate_buffered(heavy), "Database instances"
    )
    names = {item.name for item in estimate_synchronous(heavy).items}
    assert names.isdisjoint({"Firehose", "SQS", "S3 archive"})


def test_the_three_largest_items_come_first() -> None:
    bill = estimate_buffered(LOAD)
    ranked = sorted((item.dollars for item in bill.items), reverse=True)

    assert [item.dollars for item in bill.largest] == ranked[:3]


@pytest.mark.parametrize(
    "wrong", [["--hit-rate", "1.5"], ["--writes", "-1"], ["--reads", "inf"], ["--cache", "3"]]
)
def test_nonsense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--reads", "1", "--hit-rate", "0.5", "--writes", "1", "--bytes", "100", *wrong]

    assert cli.run(["cost", *given]) == ExitCode.USAGE
    assert wrong[0] in capsys.readouterr().err


def test_the_page_shows_what_the_program_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = text_of("docs/cost.md")
    examples = page.split("$ forebay cost ")[1:]

    assert len(examples) == 2
    for example in examples:
        arguments, _, shown = example.partition("\n")
        assert cli.run(["cost", *arguments.split()]) == ExitCode.OK
        assert shown.partition("```")[0] == capsys.readouterr().out


def test_programs_read_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--reads", "100", "--hit-rate", "0.8", "--writes", "50", "--bytes", "500", "--json"]

    assert cli.run(["cost", *given]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["buffered"]["dollars"] == pytest.approx(
        estimate_buffered(LOAD).dollars, abs=0.01
    )
    assert document["quotas"][0]["name"] == estimate_quotas(LOAD)[0].name
    assert len(document["largest"]) == 3
