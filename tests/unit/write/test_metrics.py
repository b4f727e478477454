"""The write function counts commands and refusals in the line of each request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.metrics import METRICS
from lambdas.write.bootstrap import SERVICE
from tests.fixtures.api import RecordingSink, RecordingStore, WriteBench
from tests.fixtures.commands import CITY

ITEM = {"geonameid": 5, **CITY}
OWN = {metric.name for metric in METRICS if metric.service == SERVICE}


def counts(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The metrics in the only line with metrics."""
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (event,) = [event for event in events if "_aws" in event]
    (directive,) = event["_aws"]["CloudWatchMetrics"]
    names = [metric["Name"] for metric in directive["Metrics"]]
    assert set(names) <= OWN
    assert event["action"] == "write_answered"
    return {name: event[name] for name in names}


def down(*indexes: int, archive_too: bool = False) -> WriteBench:
    sink = RecordingSink(refuse=set(indexes))
    return WriteBench(sink=sink, store=RecordingStore(down=archive_too))


def batch(*keys: object) -> list[dict[str, Any]]:
    return [{**ITEM, "geonameid": key} for key in keys]


def test_an_accepted_command_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    WriteBench().send("POST", "/cities", ITEM)
    assert counts(capsys) == {"CommandsAccepted": 1}


def test_the_items_of_a_batch_are_counted_by_their_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    WriteBench().send("POST", "/cities", batch(1, "2", 3, "4", 5))
    assert counts(capsys) == {"CommandsAccepted": 3, "ItemsRefused": 2}


def test_commands_that_take_the_fallback_are_counted_in_addition(
    capsys: pytest.CaptureFixture[str],
) -> None:
    down(0, 2).send("POST", "/cities", batch(1, 2, 3))
    assert counts(capsys) == {"CommandsAccepted": 3, "CommandsByFallback": 2}


def test_commands_that_no_store_takes_are_counted_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    down(1, archive_too=True).send("POST", "/cities", batch(1, 2, 3))
    assert counts(capsys) == {"CommandsAccepted": 2, "CommandsNotAccepted": 1}

    down(0, archive_too=True).send("DELETE", "/cities/{key}", key="5")
    assert counts(capsys) == {"CommandsNotAccepted": 1}


@pytest.mark.parametrize(
    ("method", "resource", "content"),
    [
        ("POST", "/planets", ITEM),
        ("POST", "/cities", []),
        ("POST", "/cities", {**ITEM, "population": "many"}),
        ("PUT", "/cities/{key}", {**ITEM, "geonameid": 6}),
    ],
)
def test_a_refused_request_is_counted_once(
    capsys: pytest.CaptureFixture[str], method: str, resource: str, content: Any
) -> None:
    key = "5" if method == "PUT" else None
    WriteBench().send(method, resource, content, key=key)
    assert counts(capsys) == {"WritesRefused": 1}


def test_the_line_of_a_request_names_its_route_and_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither is a dimension, which would multiply the metrics: queries of the log use them."""
    WriteBench().send("PUT", "/cities/{key}", CITY, key="5")
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (event["route"], event["status"]) == ("cities.put", 202)
    assert "code" not in event
    assert event["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service", "environment"]]


@pytest.mark.parametrize("code", ["validation_failed", "not_accepted"])
def test_the_line_of_a_refused_request_has_the_code_of_its_problem(
    capsys: pytest.CaptureFixture[str], code: str
) -> None:
    content = CITY if code == "not_accepted" else {**CITY, "population": "many"}
    answer = down(0, archive_too=True).send("PUT", "/cities/{key}", content, key="5")
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    (event,) = (line for line in lines if line["action"] == "write_answered")
    assert (event["code"], event["status"]) == (code, answer.status)
