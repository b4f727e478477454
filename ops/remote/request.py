"""The request for a command: its arguments and files, as one environment variable of a build."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from forebay.text_files import read_text_file
from ops.errors import UsageError

#: The variable of the build that contains the request.
VARIABLE: Final = "FOREBAY_REQUEST"
#: Begins the last line of the command's output; the exit code follows.
END_MARK: Final = "forebay: the command has ended with exit code "
#: Begins each line of the command's standard error.
ERROR_MARK: Final = "[stderr] "
#: Options with a file as their value of the operator. Its content is part of the request.
FILE_OPTIONS: Final = ("--fix", "--id-file")
#: A careful bound: the API reference of CodeBuild names no limit for the variables of a build.
MAX_CHARACTERS: Final = 3_500


def encode_request(arguments: Sequence[str]) -> str:
    """Return the request for a command's arguments, with the contents of the files they name.

    Raises:
        UsageError: the request is too large.
        forebay.errors.SettingsError: a file can't be read.
    """
    parts = [part for argument in arguments for part in _split(argument)]
    files = {
        number: read_text_file(Path(part))
        for number, part in enumerate(parts)
        if number and parts[number - 1] in FILE_OPTIONS
    }
    document = json.dumps({"arguments": parts, "files": files}).encode()
    request = base64.b64encode(zlib.compress(document, 9)).decode("ascii")
    if len(request) > MAX_CHARACTERS:
        raise UsageError(
            f"the command and its files have {len(request):,} characters, but at most "
            f"{MAX_CHARACTERS:,} can be sent; divide the file"
        )
    return request


def decode_request(request: str, folder: Path) -> list[str]:
    """Return the arguments of a request, and write its files into the folder."""
    document = json.loads(zlib.decompress(base64.b64decode(request)))
    arguments: list[str] = document["arguments"]
    for number, content in document["files"].items():
        file = folder / f"file-{number}"
        file.write_text(content, encoding="utf-8")
        arguments[int(number)] = str(file)
    return arguments


def _split(argument: str) -> list[str]:
    """Return an option and its value as two arguments, if the value is a file."""
    option, separator, value = argument.partition("=")
    return [option, value] if separator and option in FILE_OPTIONS else [argument]
