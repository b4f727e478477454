"""The description of the API as docs/openapi.json has it: what the one-machine stack serves."""

import orjson

import resources
from forebay.openapi import describe


def written() -> bytes:
    """The file's content; no API key is asked for on one machine."""
    document = describe(resources.load(), require_api_key=False)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
