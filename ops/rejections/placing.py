"""Choose the ids of amendments, which decide their order among the commands of a key.

An amendment that is a put or a delete takes the place of the rejected command: each command that is
newer than the rejected command also beats the amendment, whether it is applied or not (law 2).
Among creates the smallest id wins, so an amendment that is a create gets a current id: each create
accepted before beats it.
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
    """Makes the ids of one pass over rejections, which are passed in the order of their ids."""

    def __init__(self, ids: IdSource, *, wins: bool = False) -> None:
        """Create a placer.

        Args:
            ids: makes current ids.
            wins: whether each amendment gets a current id, and so beats the commands accepted
                before.
        """
        self._ids = ids
        self._wins = wins
        #: The last id of each key, within one millisecond: other ids are in order already.
        self._floors: dict[tuple[str, KeyValue], str] = {}
        self._floors_ms = 0

    def place(self, rejected_id: str, rejected_at: dt.datetime) -> str:
        """Return the id that determines a rejected command's order: its own, with one exception.

        A command is accepted before it is rejected. If the time of its id is later than its
        rejection, a clock was ahead or the id is forged; the time of the rejection is used then.
        """
        latest_ms = min(int(rejected_at.timestamp() * 1000), self._ids.now_ms())
        if accepted_ms(rejected_id) <= latest_ms:
            return rejected_id
        return make_id_at(latest_ms, create=False)

    def make_id(self, place: str, op: Op, resource: str, key: KeyValue) -> str:
        """Return the id of the amendment, where `place` is the rejected command's place."""
        if self._wins or op == "create":
            return self._ids.make(create=op == "create")
        if accepted_ms(place) != self._floors_ms:
            self._floors.clear()
            self._floors_ms = accepted_ms(place)
        floor = max(place, self._floors.get((resource, key), place))
        amendment_id = make_id_above(floor, create=False)
        self._floors[resource, key] = amendment_id
        return amendment_id


def is_overtaken(place: str, op: Op, version: str) -> bool:
    """Return whether an amendment would undo the row or the delete with this version.

    A create never replaces a row. An outdated row counts with its original version; if that is
    unknown, the row may be newer.

    Args:
        place: the rejected command's place, from `Placer.place`.
        op: the operation of the amendment.
        version: the version of the row or the tombstone of its key.
    """
    if op == "create":
        return True
    original = original_version(version)
    return is_outdated(original) or original > place
