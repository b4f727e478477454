"""Operators see every text in full, and no text of a client can control the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.console import Console, build_pairs_table, build_table, escape
from tests.fixtures import hostile

TEXTS = (
    *hostile.TEXTS,
    *hostile.SURROGATES,
    *("[/]", "[/x]", "[bold]x[/bold]", "[link=http://127.0.0.1]x[/link]", "[red", ":smile:", "\\["),
    *("\x1b]0;title\x07", "\x1b]8;;http://127.0.0.1\x07x", "\x9b31m", "a\rb", "a\x08b"),
)


def test_any_text_is_shown_in_any_place(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets were once parsed as markup: `[/x]` ended the command, `[bold]` vanished."""
    console = Console()
    for text in TEXTS:
        if "\n" in text or len(text) > 100:
            continue
        console.result({}, build_table([text], [[text]]))
        console.result({}, build_pairs_table({text: text, "nested": {text: [text]}}))
        console.result({}, text)
        console.show(text)
        console.note(text)
        shown = capsys.readouterr()
        squeezed = "".join((shown.out + shown.err).split())
        assert squeezed.count("".join(escape(text).split())) >= 6, ascii(text)
        assert escape(shown.out) == shown.out, ascii(text)
        assert escape(shown.err) == shown.err, ascii(text)


@given(st.text())
def test_escaping_keeps_printable_text(text: str) -> None:
    shown = escape(text)
    assert escape(shown) == shown
    assert shown.encode().decode() == shown
    if text.isprintable() or (text.isascii() and text.replace("\n", "").isprintable()):
        assert shown == text
