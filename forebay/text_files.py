"""Reads text files that people write, as their editors save them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

from forebay.errors import SettingsError

_BYTE_ORDER_MARK: Final = "\ufeff"
#: The longer ones first: that of UTF-32 begins with that of UTF-16 (Unicode 16.0, §23.8).
_OTHER_ENCODINGS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32 (little-endian)"),
    (codecs.BOM_UTF32_BE, "UTF-32 (big-endian)"),
    (codecs.BOM_UTF16_LE, "UTF-16 (little-endian)"),
    (codecs.BOM_UTF16_BE, "UTF-16 (big-endian)"),
)


class EncodingError(ValueError):
    """A text is not in UTF-8; the message names its encoding, or the line."""


def read_text_file(file: Path) -> str:
    """Return the text of a file in UTF-8, without a byte order mark and with line feeds.

    Raises:
        SettingsError: the file can't be read, or is not UTF-8; names file and encoding.
    """
    try:
        return decode_text(file.read_bytes())
    except OSError as exc:
        raise SettingsError(f"{file} can't be read: {exc.strerror}") from exc
    except EncodingError as exc:
        raise SettingsError(f"{file} {exc}") from exc


def decode_text(content: bytes) -> str:
    """Return the text of a file's bytes, as `read_text_file` does.

    Raises:
        EncodingError: it is not UTF-8.
    """
    for mark, encoding in _OTHER_ENCODINGS:
        if content.startswith(mark):
            raise EncodingError(f"is in {encoding}; save it as UTF-8")
    if b"\x00" in content:
        raise EncodingError(
            "contains zero bytes: it is not text, or is UTF-16 without a byte order mark; save it "
            "as UTF-8"
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise EncodingError(
            f"is not UTF-8: byte 0x{content[exc.start]:02x} in line {line:,}; save it as UTF-8"
        ) from None
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n").replace("\r", "\n")
