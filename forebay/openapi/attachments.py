"""The operations of attachments: the form of an upload, and the redirect to a download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from forebay.attachments import MAX_NAME_BYTES
from forebay.openapi.answers import content, headers
from forebay.openapi.examples import COMMAND_ID
from forebay.openapi.schemas import TIMESTAMP, Schema, reference
from forebay.resource.attachment import Media
from forebay.routes import Route

_ADDRESS: Final = {"type": "string", "format": "uri-reference"}


def describe_attachment(route: Route, media: Media, upload_headers: Sequence[Schema]) -> Schema:
    """Describe a route of an attachment.

    Args:
        route: its upload or its download.
        media: the mark of the field.
        upload_headers: the headers of an upload.
    """
    if route.action == "download":
        return _describe_download(route.field)
    return _describe_upload(route.field, media, upload_headers)


def _describe_upload(field: str, media: Media, upload_headers: Sequence[Schema]) -> Schema:
    return {
        "summary": f"Get a form for the upload of `{field}`",
        "description": "Send the fields of the form, and after them the file as `file`, in a "
        "`multipart/form-data` body to the address in the answer. The upload becomes a command "
        "that sets the field; the answer has the command's id and the address of its status.",
        "parameters": [*upload_headers],
        "requestBody": {
            "required": True,
            "content": content(_build_file(media), example={"type": media.types[0]}),
        },
        "responses": {
            "201": {
                "description": "The form.",
                "headers": headers("Location", "Cache-Control"),
                "content": content(_build_form()),
            },
        },
    }


def _describe_download(field: str) -> Schema:
    return {
        "summary": f"Download `{field}`",
        "responses": {
            "307": {
                "description": "The address of the file, which is valid for minutes.",
                "headers": headers("Location", "Cache-Control"),
            },
        },
    }


def _build_file(media: Media) -> Schema:
    return {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": [*media.types]},
            "name": {
                "type": ["string", "null"],
                "description": "The name of the file, without a path.",
                "minLength": 1,
                "maxLength": MAX_NAME_BYTES,
                "pattern": r"^[^\u0000-\u001f\u007f/\\]+$",
            },
        },
        "required": ["type"],
        "additionalProperties": False,
    }


def _build_form() -> Schema:
    fields = {"type": "object", "additionalProperties": {"type": "string"}}
    form = _build_object(
        url={"type": "string", "format": "uri"},
        fields=fields,
        expires_at=TIMESTAMP,
        max_bytes={"type": "integer", "minimum": 1},
    )
    return _build_object(
        command_id={**reference("CommandId"), "examples": [COMMAND_ID]},
        resource={"type": "string"},
        key={"type": ["string", "integer"]},
        links=_build_object(item=_ADDRESS, status=_ADDRESS, attachment=_ADDRESS),
        upload=form,
    )


def _build_object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}
