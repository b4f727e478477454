"""The read function counts answers and refusals in the line of each request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.metrics import METRICS, READS_ANSWERED
from lambdas.read.bootstrap import SERVICE
from tests.fixtures.commands import city
from tests.fixtures.reading import Reader
from tests.fixtures.tables import Database

OWN = {metric.name for metric in METRICS if metric.service == SERVICE}


def counts(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """The metrics in the only line, and the kind of the request."""
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    (directive,) = event["_aws"]["CloudWatchMetrics"]
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert set(names) <= OWN
    assert ("kind" in directive["Dimensions"][0]) == (names == [READS_ANSWERED.name])
    return {name: event[name] for name in names}, event["kind"]


def test_the_kinds_of_answers_are_the_declared_ones(reader: Reader) -> None:
    assert set(reader.app._readers) == set(READS_ANSWERED.values)


def test_answers_are_counted_by_kind(
    database: Database, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    database.apply([city(1, key=5)])
    capsys.readouterr()

    tag = reader.get("cities", key="5").headers["ETag"]
    assert counts(capsys) == ({"ReadsAnswered": 1}, "item")
    assert reader.get("cities", key="5", If_None_Match=tag).status == 304
    assert counts(capsys) == ({"ReadsAnswered": 1}, "item")
    reader.get("cities")
    assert counts(capsys) == ({"ReadsAnswered": 1}, "list")


def test_refused_reads_are_counted(reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    assert reader.get("cities", key="5").status == 404
    assert counts(capsys) == ({"ReadsRefused": 1}, "item")
