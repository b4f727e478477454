"""A request's JSON is parsed once, and acceptance separates the accepted lines from the others."""

from __future__ import annotations

import json
from typing import Any

import jiter
import pytest

from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.intake.commands import CommandMaker, Line, Origin
from forebay.intake.json_text import parse_text
from forebay.log import Log
from resources import load
from tests.fixtures.api import RecordingSink, RecordingStore, WriteBench
from tests.fixtures.commands import CITY

NEWS = {"title": "t", "body": "b", "published_on": "2026-01-01"}
ITEM = json.dumps(NEWS)
AMBIGUOUS = '{"title":"a","title":"b"}'


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The texts that the strict parser has parsed."""
    texts: list[bytes] = []
    parse = jiter.from_json

    def record(text: bytes, **options: Any) -> Any:
        texts.append(text)
        return parse(text, **options)

    monkeypatch.setattr(jiter, "from_json", record)
    return texts


@pytest.mark.parametrize(
    ("media", "body", "texts"),
    [
        ("application/json", ITEM, [ITEM]),
        ("application/json", f"[{ITEM},{ITEM}]", [f"[{ITEM},{ITEM}]"]),
        ("application/x-ndjson", f"{ITEM}\n{ITEM}\n", [ITEM, ITEM]),
        # An array that is refused as a whole is parsed item by item.
        (
            "application/json",
            f"[{ITEM},{AMBIGUOUS}]",
            [f"[{ITEM},{AMBIGUOUS}]", ITEM, AMBIGUOUS],
        ),
    ],
    ids=["item", "array", "lines", "array with an ambiguous item"],
)
def test_each_text_of_a_request_is_parsed_once(
    parsed: list[bytes], media: str, body: str, texts: list[str]
) -> None:
    """The names that derive keys, and the exact numbers, use the parsed values."""
    WriteBench().send("POST", "/announcements", raw=body, media=media, Idempotency_Key="k")

    assert parsed == [text.encode() for text in texts]


def test_a_put_is_parsed_once_though_its_numbers_are_inspected(parsed: list[bytes]) -> None:
    body = json.dumps(CITY).replace("50.77664", "50.776640000000000")
    assert body != json.dumps(CITY)
    assert WriteBench().send("PUT", "/cities/{key}", raw=body, key="5").status == 202

    assert parsed == [body.encode()]


def lines(count: int) -> list[Line]:
    maker, spec = CommandMaker(IdSource()), load()["announcements"]
    return [maker.create(spec, parse_text(ITEM.encode()), Origin("test")) for _ in range(count)]


@pytest.mark.parametrize("refused", [set(), {1}, {0, 2}, {0, 1, 2}])
def test_lines_that_the_stream_refuses_are_accepted_by_the_archive(refused: set[int]) -> None:
    sent = lines(3)

    acceptance = Acceptor(RecordingSink(refuse=refused), RecordingStore(), Log("test")).accept(sent)

    assert list(acceptance.accepted) == sent
    assert list(acceptance.not_accepted) == []
    assert acceptance.fallback_count == len(refused)


@pytest.mark.parametrize("refused", [{1}, {0, 2}, {0, 1, 2}])
def test_lines_that_no_store_acknowledges_are_not_accepted(refused: set[int]) -> None:
    sent = lines(3)
    store = RecordingStore(down=True)

    acceptance = Acceptor(RecordingSink(refuse=refused), store, Log("test")).accept(sent)

    assert list(acceptance.accepted) == [sent[index] for index in range(3) if index not in refused]
    assert list(acceptance.not_accepted) == [sent[index] for index in sorted(refused)]
    assert acceptance.fallback_count == 0
