"""The API description of docs/openapi.json, as the one-machine stack serves it."""

import orjson

import resources
from forebay.openapi import describe


def written() -> bytes:
    """Return the file's content; the one-machine stack requires no API key."""
    document = describe(resources.load(), require_api_key=False)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
