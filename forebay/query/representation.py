"""Parser for the headers that determine an answer's form: Accept, Prefer and Range."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

from forebay.http import parse_weighted
from forebay.problem import Problem, ProblemError
from forebay.query.faults import listed, shown
from forebay.query.grammar import MAX_OFFSET, MAX_PARAMETER_LENGTH

Count: TypeAlias = Literal["exact", "planned", "estimated"]
COUNTS: Final = ("exact", "planned", "estimated")


class Media(StrEnum):
    """The media types of a list."""

    JSON = "application/json"
    CSV = "text/csv"
    #: A single object; 406 PGRST116 unless exactly one row matches.
    OBJECT = "application/vnd.pgrst.object+json"

    @property
    def content_type(self) -> str:
        """The value of `Content-Type`."""
        return f"{self.value}; charset=utf-8"


@dataclass(frozen=True, slots=True)
class RowRange:
    """`Range: 10-19`, both ends included; without a last row, all rows from the first."""

    first: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Representation:
    """The form of an answer to a list request."""

    media: Media = Media.JSON
    count: Count | None = None
    #: The preferences in `Preference-Applied`: `count=exact`.
    applied: tuple[str, ...] = ()
    range: RowRange | None = None


#: Media types by name, with PostgREST's further names.
_ALIASES: Final[Mapping[str, Media]] = {
    **{media.value: media for media in Media},
    "application/vnd.pgrst.object": Media.OBJECT,
    "application/vnd.pgrst.array+json": Media.JSON,
    "application/vnd.pgrst.array": Media.JSON,
}
#: The media types that a wildcard matches; `OBJECT` must be requested by name.
_WILDCARDS: Final[Mapping[str, tuple[Media, ...]]] = {
    "*/*": (Media.JSON, Media.CSV),
    "application/*": (Media.JSON,),
    "text/*": (Media.CSV,),
}
#: Size of each cache of parsed headers. Clients send few variants, each below some 40 KB.
_KEPT: Final = 64
_ROWS = re.compile(r"([0-9]+)-([0-9]*)")
_MAX_DIGITS: Final = len(str(MAX_OFFSET))


def parse_representation(headers: Mapping[str, str]) -> Representation:
    """Parse the declared headers of a list request, given by lower-case name.

    A `Range` with another unit or syntax is ignored (RFC 9110 §14.2).

    Raises:
        ProblemError: PGRST107, no accepted media type is available; PGRST122, a preference is
            unknown, with handling=strict; bad_header, a header is too long.
    """
    for name in ("accept", "prefer", "range", "range-unit"):
        if len(headers.get(name, "")) > MAX_PARAMETER_LENGTH:
            raise ProblemError(Problem("bad_header", f"{name}: is too long"))
    return _read_representation(
        headers.get("accept", ""),
        headers.get("prefer", ""),
        headers.get("range"),
        headers.get("range-unit"),
    )


@lru_cache(maxsize=_KEPT)
def _read_representation(
    accept: str, prefer: str, range_: str | None, range_unit: str | None
) -> Representation:
    count, applied = _read_preferences(prefer)
    return Representation(
        media=parse_accept(accept),
        count=count,
        applied=applied,
        range=_read_range(range_, range_unit),
    )


@lru_cache(maxsize=_KEPT)
def parse_accept(accept: str, offered: Collection[Media] = tuple(Media)) -> Media:
    """Return the offered media type with the highest quality (RFC 9110 §12.5.1).

    Between equal qualities, an exact name precedes a wildcard, then the first precedes the rest.

    Raises:
        ProblemError: PGRST107, no offered media type is accepted.
    """
    if not accept.strip():
        return Media.JSON
    best: dict[Media, tuple[bool, float, int]] = {}
    for place, (media, quality, exact) in enumerate(_read_accept(accept)):
        # An exact name overrides a wildcard.
        if media not in best or (exact and not best[media][0]):
            best[media] = (exact, quality, -place)
    acceptable = {media: rank for media, rank in best.items() if rank[1] > 0 and media in offered}
    if not acceptable:
        names = listed(media.value for media in offered)
        raise ProblemError(
            Problem("PGRST107", f"Accept: {shown(accept)} accepts none of {names}", details=names)
        )
    return max(
        acceptable,
        key=lambda media: (acceptable[media][1], acceptable[media][0], acceptable[media][2]),
    )


def _read_accept(accept: str) -> Iterator[tuple[Media, float, bool]]:
    for name, parameters, weight in parse_weighted(accept):
        # PostgREST's nulls=stripped is not supported.
        quality = 0.0 if "nulls" in parameters else weight
        if name in _ALIASES:
            yield _ALIASES[name], quality, True
        for media in _WILDCARDS.get(name, ()):
            yield media, quality, False


def _read_preferences(prefer: str) -> tuple[Count | None, tuple[str, ...]]:
    """Parse `count=` and `handling=` (RFC 7240); repetitions are ignored."""
    accepted: dict[str, str] = {}
    unknown: list[str] = []
    for item in prefer.split(","):
        name, _, value = item.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        values = {"count": COUNTS, "handling": ("strict", "lenient")}.get(name, ())
        if value in values:
            accepted.setdefault(name, value)
        elif name:
            unknown.append(item.strip())
    if unknown and accepted.get("handling") == "strict":
        detail = (
            f"Prefer: handling=strict, and these preferences are unknown: {shown(listed(unknown))}"
        )
        raise ProblemError(Problem("PGRST122", detail, details=shown(listed(unknown))))
    applied = tuple(
        f"{name}={accepted[name]}" for name in ("count", "handling") if name in accepted
    )
    return cast("Count | None", accepted.get("count")), applied


def _read_range(text: str | None, unit: str | None) -> RowRange | None:
    match = _ROWS.fullmatch((text or "").strip())
    if match is None or (unit or "items").strip().lower() != "items":
        return None
    return RowRange(_read_row(match[1]), _read_row(match[2]) if match[2] else None)


def _read_row(digits: str) -> int:
    # No table has that many rows, so a greater number has the same answer.
    return MAX_OFFSET if len(digits.lstrip("0")) > _MAX_DIGITS else min(int(digits), MAX_OFFSET)
