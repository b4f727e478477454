"""Announcements: a resource with server-generated keys."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field

from forebay.resource import Indexed, Resource


class Announcement(Resource, path="announcements"):
    """Something that is announced to the public."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    body: Annotated[str, Field(max_length=20_000, description="Plain text or Markdown.")]
    published_on: Annotated[dt.date, Indexed()]
    expires_at: Annotated[dt.datetime | None, Field(description="With its time zone.")] = None
    status: Literal["draft", "published", "withdrawn"] = "published"
    pinned: bool = False
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=50)]], Field(max_length=20)
    ] = []
