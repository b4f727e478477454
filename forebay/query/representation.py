"""How an answer is to be written: what Accept, Prefer and Range of a request come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Count: TypeAlias = Literal["exact", "planned", "estimated"]


class Media(StrEnum):
    """The media types that a list can be written in."""

    JSON = "application/json"
    CSV = "text/csv"
    #: One object; 406 PGRST116 unless there is exactly one row.
    OBJECT = "application/vnd.pgrst.object+json"


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


def parse_representation(headers: Mapping[str, str]) -> Representation:
    """What the declared headers of a list request (by lower-case name) ask for.

    Raises:
        ProblemError: PGRST107 (none of the accepted media types is there) or PGRST122 (a
            preference is unknown, with handling=strict).
    """
    raise NotImplementedError
