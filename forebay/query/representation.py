"""How an answer is to be written: what Accept, Prefer and Range of a request come to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

from forebay.problem import Problem, ProblemError
from forebay.query.faults import listed, shown
from forebay.query.grammar import MAX_OFFSET, MAX_PARAMETER_LENGTH

Count: TypeAlias = Literal["exact", "planned", "estimated"]
COUNTS: Final = ("exact", "planned", "estimated")


class Media(StrEnum):
    """The media types that a list can be written in."""

    JSON = "application/json"
    CSV = "text/csv"
    #: One object; 406 PGRST116 unless there is exactly one row.
    OBJECT = "application/vnd.pgrst.object+json"

    @property
    def content_type(self) -> str:
        """`Content-Type` of an answer in it."""
        return f"{self.value}; charset=utf-8"


@dataclass(frozen=True, slots=True)
class RowRange:
    """`Range: 10-19`, both ends included; without the second, all the rest."""

    first: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Representation:
    """How a list is to be written."""

    media: Media = Media.JSON
    count: Count | None = None
    #: The preferences that are honoured, for Preference-Applied: `count=exact`.
    applied: tuple[str, ...] = ()
    range: RowRange | None = None


#: Further names of the media types, as PostgREST has them.
_ALIASES: Final[Mapping[str, Media]] = {
    **{media.value: media for media in Media},
    "application/vnd.pgrst.object": Media.OBJECT,
    "application/vnd.pgrst.array+json": Media.JSON,
    "application/vnd.pgrst.array": Media.JSON,
}
#: What a wildcard stands for: the one object is answered only where it is asked for by name.
_WILDCARDS: Final[Mapping[str, tuple[Media, ...]]] = {
    "*/*": (Media.JSON, Media.CSV),
    "application/*": (Media.JSON,),
    "text/*": (Media.CSV,),
}
_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
#: Headers of so many kinds of request are read once; clients have few, each below some 40 KB.
_KEPT: Final = 64
_ROWS = re.compile(r"([0-9]+)-([0-9]*)")
_MAX_DIGITS: Final = len(str(MAX_OFFSET))


def parse_representation(headers: Mapping[str, str]) -> Representation:
    """What the declared headers of a list request (by lower-case name) ask for.

    A `Range` that is none of ours is left out, as RFC 9110 §14.2 has it.

    Raises:
        ProblemError: PGRST107 (none of the accepted media types is there), PGRST122 (a
            preference is unknown, with handling=strict), or bad_header (one is far too long).
    """
    for name in ("accept", "prefer", "range", "range-unit"):
        if len(headers.get(name, "")) > MAX_PARAMETER_LENGTH:
            raise ProblemError(Problem("bad_header", f"{name}: is far too long"))
    return _representation(
        headers.get("accept", ""),
        headers.get("prefer", ""),
        headers.get("range"),
        headers.get("range-unit"),
    )


@lru_cache(maxsize=_KEPT)
def _representation(
    accept: str, prefer: str, range_: str | None, range_unit: str | None
) -> Representation:
    count, applied = _preferences(prefer)
    return Representation(
        media=parse_accept(accept),
        count=count,
        applied=applied,
        range=_range(range_, range_unit),
    )


@lru_cache(maxsize=_KEPT)
def parse_accept(accept: str, offered: Collection[Media] = tuple(Media)) -> Media:
    """The most wanted of what is offered (RFC 9110 §12.5.1).

    Of equals it is the one named exactly, then the first.

    Raises:
        ProblemError: PGRST107: nothing that is offered is accepted.
    """
    if not accept.strip():
        return Media.JSON
    best: dict[Media, tuple[bool, float, int]] = {}
    for place, (media, quality, exact) in enumerate(_accepted(accept)):
        # What is named exactly counts more than what a wildcard says of it.
        if media not in best or (exact and not best[media][0]):
            best[media] = (exact, quality, -place)
    wanted = {media: found for media, found in best.items() if found[1] > 0 and media in offered}
    if not wanted:
        names = listed(media.value for media in offered)
        raise ProblemError(
            Problem("PGRST107", f"Accept: {shown(accept)} has none of {names}", details=names)
        )
    return max(wanted, key=lambda media: (wanted[media][1], wanted[media][0], wanted[media][2]))


def _accepted(accept: str) -> Iterator[tuple[Media, float, bool]]:
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value := value.strip()) else 0.0
            elif key.strip() == "nulls":
                quality = 0.0  # PostgREST's nulls=stripped, which is not there
        if name in _ALIASES:
            yield _ALIASES[name], quality, True
        for media in _WILDCARDS.get(name, ()):
            yield media, quality, False


def _preferences(prefer: str) -> tuple[Count | None, tuple[str, ...]]:
    """`count=` and `handling=` (RFC 7240); the first of each counts, others are ignored."""
    known: dict[str, str] = {}
    unknown: list[str] = []
    for item in prefer.split(","):
        name, _, value = item.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        allowed = {"count": COUNTS, "handling": ("strict", "lenient")}.get(name, ())
        if value in allowed:
            known.setdefault(name, value)
        elif name:
            unknown.append(item.strip())
    if unknown and known.get("handling") == "strict":
        detail = f"Prefer: handling=strict, and these are unknown: {shown(listed(unknown))}"
        raise ProblemError(Problem("PGRST122", detail, details=shown(listed(unknown))))
    applied = tuple(f"{name}={known[name]}" for name in ("count", "handling") if name in known)
    return cast("Count | None", known.get("count")), applied


def _range(text: str | None, unit: str | None) -> RowRange | None:
    found = _ROWS.fullmatch((text or "").strip())
    if found is None or (unit or "items").strip().lower() != "items":
        return None
    return RowRange(_row(found[1]), _row(found[2]) if found[2] else None)


def _row(digits: str) -> int:
    # There are never so many rows, so a greater number has the same answer.
    return MAX_OFFSET if len(digits.lstrip("0")) > _MAX_DIGITS else min(int(digits), MAX_OFFSET)
