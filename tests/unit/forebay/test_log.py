"""Every event is logged as one line: no text of a caller can add another event."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import SettingsError
from forebay.log import Level, Log
from forebay.metrics import COMMANDS_APPLIED, READS_ANSWERED, READS_REFUSED
from tests.fixtures.api import WriteBench

#: Line breaks of any alphabet, terminal control sequences, direction marks, and a forged event.
HOSTILE = (
    'a\n{"level":"ERROR","action":"forged"}',
    "a\r\nb",
    "a\u2028b\u2029c\x85d",
    "\x1b[2J\x1b]0;title\x07",
    "\u202eevil\u2066",
    '"}\n{"action":"forged"',
    "\x00",
)


def events(text: str) -> list[Any]:
    """Parse the events of a log, split at line feeds as Lambda's collector splits them."""
    assert text.endswith("\n")
    return [json.loads(line) for line in text[:-1].split("\n")]


@given(text=st.text(st.characters(codec="utf-8")) | st.sampled_from(HOSTILE))
def test_any_text_is_one_line_and_is_read_as_it_was(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append)
        Log("test").event("tried", object=text)

    (event,) = events("".join(written))
    assert (event["action"], event["object"]) == ("tried", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_path_of_a_request_is_logged_in_printable_ascii(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    WriteBench().send("PUT", "/cities/{key}", {}, key=text)

    written = capsys.readouterr().out
    (event,) = events(written)
    assert event["action"] == "write_answered"
    assert event["path"].isascii()
    assert event["path"].isprintable()


LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")


@pytest.mark.parametrize("level", LEVELS)
def test_events_below_the_level_of_the_function_are_dropped(
    capsys: pytest.CaptureFixture[str], level: Level
) -> None:
    log = Log.of("test", {"FOREBAY_ENV": "dev", "FOREBAY_LOG_LEVEL": level})
    for own in LEVELS:
        log.event("tried", level=own)

    written = [event["level"] for event in events(capsys.readouterr().out)]
    assert written == list(LEVELS[LEVELS.index(level) :])


def test_an_unknown_level_or_a_missing_environment_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="FOREBAY_LOG_LEVEL='LOUD'"):
        Log.of("test", {"FOREBAY_ENV": "dev", "FOREBAY_LOG_LEVEL": "LOUD"})
    with pytest.raises(SettingsError, match="FOREBAY_ENV"):
        Log.of("test", {})


def test_metrics_are_members_of_the_event_that_cloudwatch_extracts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The format: CloudWatch user guide, "Specification: Embedded metric format"."""
    values = {READS_ANSWERED: 1, READS_REFUSED: 0, COMMANDS_APPLIED: 2.5}
    Log("test", "dev", level="ERROR").event("counted", metrics=values, kind="item")

    (event,) = events(capsys.readouterr().out)
    embedded = event["_aws"]
    moment = dt.datetime.fromisoformat(event["timestamp"]).timestamp() * 1000
    assert embedded["Timestamp"] == pytest.approx(moment, abs=1)
    assert embedded["CloudWatchMetrics"] == [
        {
            "Namespace": "Forebay",
            "Dimensions": [["service", "environment", "kind"]],
            "Metrics": [{"Name": "ReadsAnswered", "Unit": "Count"}],
        },
        {
            "Namespace": "Forebay",
            "Dimensions": [["service", "environment"]],
            "Metrics": [
                {"Name": "ReadsRefused", "Unit": "Count"},
                {"Name": "CommandsApplied", "Unit": "Count"},
            ],
        },
    ]
    assert (event["service"], event["environment"], event["kind"]) == ("test", "dev", "item")
    assert (event["ReadsAnswered"], event["ReadsRefused"], event["CommandsApplied"]) == (1, 0, 2.5)


def test_an_event_without_metrics_has_no_members_for_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Log("test").event("tried", metrics={})

    (event,) = events(capsys.readouterr().out)
    assert set(event) == {"level", "timestamp", "service", "action"}
