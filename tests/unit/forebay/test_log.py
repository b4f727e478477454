"""Every event is logged as one line: no text of a caller can add another event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.log import Log
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
