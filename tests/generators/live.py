"""Use the client that openapi-python-client has generated, on a running stack."""

# mypy: ignore-errors
# The test that runs this script generates the package `client`.

from __future__ import annotations

import datetime as dt
import sys
import uuid

from client import Client
from client.api.announcements import (
    announcements_item,
    announcements_list,
    announcements_post,
    announcements_put,
    announcements_status,
)
from client.models import (
    Accepted,
    AcceptedItem,
    Announcement,
    AnnouncementContent,
    AnnouncementContentStatus,
    AnnouncementsPutIfNoneMatch,
    BatchResult,
    NewAnnouncement,
    Problem,
    RefusedItem,
    Settled,
)

DAY = dt.date(2026, 11, 21)


def main(address: str) -> None:
    """Write an item and a batch, and read them as the models that the description promises."""
    with Client(base_url=address, raise_on_unexpected_status=True) as client:
        key = uuid.uuid4()
        body = AnnouncementContent(
            "Roads", "Open.", DAY, status=AnnouncementContentStatus.WITHDRAWN, tags=["roads"]
        )
        accepted = announcements_put.sync(
            key, client=client, body=body, if_none_match=AnnouncementsPutIfNoneMatch.VALUE_0
        )
        assert isinstance(accepted, Accepted), accepted
        assert accepted.status == "pending"
        settled = announcements_status.sync(
            key, accepted.command_id, client=client, prefer="wait=20"
        )
        assert isinstance(settled, Settled), settled
        assert settled.status == "applied"
        item = announcements_item.sync(key, client=client, read_after=accepted.command_id)
        assert isinstance(item, Announcement), item
        assert (item.title, item.status, item.tags) == ("Roads", "withdrawn", ["roads"])
        assert (item.published_on, item.expires_at) == (DAY, None)

        many = announcements_post.sync(
            client=client,
            body=[NewAnnouncement("One", "1", DAY), NewAnnouncement("", "empty title", DAY)],
        )
        assert isinstance(many, BatchResult), many
        first, second = many.results
        assert isinstance(first, AcceptedItem), first
        assert isinstance(second, RefusedItem), second
        assert second.problem.code == "validation_failed"

        rows = announcements_list.sync(client=client, id=f"eq.{key}", limit=1)
        assert isinstance(rows, list), rows
        assert [row.title for row in rows if isinstance(row, Announcement)] == ["Roads"]
        bad = announcements_list.sync(client=client, id="eq.nothing")
        assert isinstance(bad, Problem), bad
        assert bad.code == "bad_filter"


main(sys.argv[1])
