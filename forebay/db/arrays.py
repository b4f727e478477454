"""Arrays as text parameters: the driver takes ten times as long to write a list of thousands."""

from __future__ import annotations

from collections.abc import Iterable


def write_array(texts: Iterable[str | None]) -> str:
    """An array of texts as Postgres reads it (documentation of "Array Input and Output Syntax")."""
    return "{" + ",".join(map(_quote, texts)) + "}"


def write_plain_array(texts: Iterable[str]) -> str:
    """The same for texts that need no quotes: numbers, UUIDs, ISO timestamps, NULL."""
    return "{" + ",".join(texts) + "}"


def _quote(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
