"""Chooses the ids of amendments, and so their places among the other commands of their keys.

An amendment of a put or a delete takes the place of the rejected command: every command that is
newer than that one wins over the amendment too, applied or not (law 2). Among creates the smallest
id wins, so the amendment of a create gets an id of now: every create that was accepted before wins.
"""

from __future__ import annotations

import datetime as dt

from forebay.command import KeyValue, Op
from forebay.ids import (
    IdSource,
    accepted_ms,
    is_outdated,
    make_id_above,
    make_id_at,
    original_version,
)


class Placer:
    """Makes the ids of one pass over rejections, which come in the order of their ids."""

    def __init__(self, ids: IdSource, *, wins: bool = False) -> None:
        """A placer.

        Args:
            ids: makes ids of now.
            wins: every amendment gets an id of now, so that it wins over what was accepted before.
        """
        self._ids = ids
        self._wins = wins
        #: The last id of each key. Only ids of one millisecond can be in the wrong order.
        self._floors: dict[tuple[str, KeyValue], str] = {}
        self._floors_ms = 0

    def place(self, rejected_id: str, rejected_at: dt.datetime) -> str:
        """The id that the rejected command counts with: its own, unless that is from the future.

        A command is rejected after it was accepted. So where its id has a later time, a clock was
        ahead or the id is forged, and the command counts as accepted when it was rejected.
        """
        latest_ms = min(int(rejected_at.timestamp() * 1000), self._ids.now_ms())
        if accepted_ms(rejected_id) <= latest_ms:
            return rejected_id
        return make_id_at(latest_ms, create=False)

    def make_id(self, place: str, op: Op, resource: str, key: KeyValue) -> str:
        """The id of the amendment of a command that counts with the id `place`."""
        if self._wins or op == "create":
            return self._ids.make(create=op == "create")
        if accepted_ms(place) != self._floors_ms:
            self._floors.clear()
            self._floors_ms = accepted_ms(place)
        floor = max(place, self._floors.get((resource, key), place))
        made = make_id_above(floor, create=False)
        self._floors[resource, key] = made
        return made


def is_overtaken(place: str, op: Op, version: str) -> bool:
    """Whether an amendment would undo the row, or the delete, of that version.

    A create replaces nothing. An outdated row counts as its command wrote it; where that command
    is not known, the row may be newer.

    Args:
        place: the id that the rejected command counts with.
        op: of the amendment.
        version: of the row or the tombstone of its key.
    """
    if op == "create":
        return True
    original = original_version(version)
    return is_outdated(original) or original > place
