"""`GET /{resource}/{key}/{field}`: a redirect to the object of an attachment in S3."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

import orjson

from forebay.attachments import Bucket, Upload
from forebay.http import Response
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.attachment import Attachment
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from forebay.signing import Credentials
from lambdas.read.items import ItemReader

#: Each request gets a new signature. A stored redirect could outlive its signature and, after a
#: change of the item, its object.
_CACHE_CONTROL: Final = "private, no-store"


class DownloadReader:
    """Signs downloads of the objects that items name."""

    def __init__(
        self,
        bucket: Bucket,
        items: ItemReader,
        credentials: Callable[[], Credentials],
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Create the reader; `credentials` returns the process's own."""
        self._bucket = bucket
        self._items = items
        self._credentials = credentials
        self._now = now

    def read(self, spec: ResourceSpec, view: RequestView, field: str) -> Response:
        """Answer 307 with the address of the object, which is valid for minutes.

        Raises:
            ProblemError: the key or a header is invalid, the item does not exist, or it has no such
                attachment.
            TransientError: the version in `Read-After` is not visible yet, or the process has no
                credentials at present.
        """
        key = read_key(spec, view.path.get("key", ""))
        value: Attachment | None = orjson.loads(self._items.read_text(spec, key, view))[field]
        if value is None:
            raise ProblemError(Problem("no_attachment", f"{spec.path} {key!r} has no {field}"))
        location = self._bucket.sign_download(
            Upload(spec.path, key, field, value["id"]),
            value,
            credentials=self._credentials(),
            now=self._now(),
        )
        headers = {
            "Location": location,
            "Cache-Control": _CACHE_CONTROL,
            "X-Content-Type-Options": "nosniff",
        }
        return Response(307, headers=headers)


def describe_attachments_disabled() -> Problem:
    """The problem with an environment that has no bucket."""
    return Problem("attachments_disabled", "this environment has no bucket for attachments")
