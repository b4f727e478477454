"""`POST /{resource}/{key}/{field}`: the form with which a client uploads an attachment to S3."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from forebay.attachments import MAX_NAME_BYTES, Bucket, Upload, encode_details, find_media
from forebay.command import KeyValue
from forebay.http import Response, build_json_response
from forebay.ids import IdSource
from forebay.intake.commands import Origin
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.attachment import Media
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX
from forebay.signing import Credentials
from lambdas.write.answers import NOT_ACCEPTED_RETRY_SECONDS
from lambdas.write.items import parse_item
from lambdas.write.parameters import refuse_unknown
from lambdas.write.requests import JSON_TYPES, WriteRequest, check_media

_MEMBERS: Final = frozenset({"type", "name"})
_DELETE_CHARACTER: Final = 0x7F


class UploadForms:
    """Makes the forms."""

    def __init__(
        self,
        bucket: Bucket,
        ids: IdSource,
        credentials: Callable[[], Credentials],
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Create it; `credentials` returns the process's own."""
        self._bucket = bucket
        self._ids = ids
        self._credentials = credentials
        self._now = now

    def answer_with_form(
        self, spec: ResourceSpec, field: str, request: WriteRequest, origin: Origin
    ) -> Response:
        """Answer 201 with a form for one upload.

        Raises:
            ProblemError: the request is refused.
            TransientError: the process has no credentials at present.
        """
        if request.if_match or "if-none-match" in request.headers:
            detail = "an upload has neither If-Match nor If-None-Match"
            raise ProblemError(Problem("bad_header", detail))
        refuse_unknown(request.query, ())
        key = read_key(spec, request.path_parameters.get("key", ""))
        media = find_media(spec, field)
        assert media is not None  # noqa: S101 - the route exists for attachments only
        check_media(request, JSON_TYPES)
        media_type, name = _read_request(parse_item(request.read_body()).value, media)
        upload = Upload(spec.path, key, field, self._ids.make(create=False, after=origin.after))
        now = self._now()
        fields = self._bucket.sign_upload(
            upload,
            media,
            encode_details(origin.by, name, origin.trace),
            media_type=media_type,
            credentials=self._credentials(),
            now=now,
        )
        return self._build_response(upload, media, fields, now)

    def _build_response(
        self, upload: Upload, media: Media, fields: Mapping[str, str], now: dt.datetime
    ) -> Response:
        item = _format_item(upload.resource, upload.key)
        status = f"{item}/commands/{upload.id}"
        expires = now + dt.timedelta(seconds=self._bucket.valid_seconds)
        document = {
            "command_id": upload.id,
            "resource": upload.resource,
            "key": upload.key,
            "links": {"item": item, "status": status, "attachment": upload.link},
            "upload": {
                "url": self._bucket.url,
                "fields": dict(fields),
                "expires_at": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
                "max_bytes": media.max_bytes,
            },
        }
        return build_json_response(201, document, {"Location": status, "Cache-Control": "no-store"})


def describe_attachments_disabled() -> Problem:
    """The problem with an environment that has no bucket."""
    return Problem(
        "attachments_disabled",
        "this environment has no bucket for attachments; add the table [attachments] to its file "
        "and deploy it",
    )


def describe_attachments_unavailable() -> Problem:
    """503: S3 or the credentials for it did not answer."""
    return Problem(
        "attachments_unavailable",
        "the bucket of attachments did not answer, so nothing was accepted; send the request again",
        headers={"Retry-After": str(NOT_ACCEPTED_RETRY_SECONDS)},
    )


def _read_request(document: Any, media: Media) -> tuple[str, str | None]:  # noqa: ANN401 - any JSON value
    """The type and the name of the file.

    Raises:
        ProblemError: validation_failed.
    """
    if not isinstance(document, dict):
        raise _build_form_error([("#", "Input should be an object")])
    faults = [
        ("#/" + str(name)[:80], "Extra inputs are not permitted")
        for name in document
        if name not in _MEMBERS
    ]
    media_type, name = document.get("type"), document.get("name")
    if media_type not in media.types:
        faults.append(("#/type", f"must be one of {', '.join(media.types)}"))
    if name is not None and (not isinstance(name, str) or not _is_file_name(name)):
        rule = f"a file name of 1 to {MAX_NAME_BYTES} bytes without path and control characters"
        faults.append(("#/name", f"must be {rule}"))
    if faults:
        raise _build_form_error(faults)
    return str(media_type), name


def _is_file_name(name: str) -> bool:
    return (
        0 < len(name.encode()) <= MAX_NAME_BYTES
        and name not in {".", ".."}
        and not any(
            char in "/\\" or ord(char) < ord(" ") or ord(char) == _DELETE_CHARACTER for char in name
        )
    )


def _format_item(resource: str, key: KeyValue) -> str:
    return f"{API_PREFIX}/{resource}/{quote(str(key), safe='')}"


def _build_form_error(faults: list[tuple[str, str]]) -> ProblemError:
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults]
    return ProblemError(
        Problem("validation_failed", "the request describes no file to upload", errors)
    )
