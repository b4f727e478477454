"""Pictures: a resource with an attachment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from forebay.resource import Attachment, Key, Media, Resource


class Picture(Resource, path="pictures"):
    """A picture with its title."""

    slug: Annotated[str, Field(min_length=1, max_length=100, examples=["harbour"]), Key()]
    title: Annotated[str, Field(max_length=200)]
    image: Annotated[Attachment | None, Media("image/png", "image/jpeg", max_bytes=200_000)] = None
