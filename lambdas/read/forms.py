"""The body of `POST /query/{resource}`: the query of a list as a form."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from forebay.edge import HINT_REPEATED
from forebay.problem import Problem, ProblemError
from forebay.query.faults import fault, listed, shown
from forebay.query.grammar import FORM_PAGES, FORM_TYPE, MAX_FORM_BYTES

#: A query can use at most: a select, an order, and one parameter for each condition.
_MAX_PARAMETERS: Final = 1000

# AWS: "Enable payload compression for an API in API Gateway".
_INFLATED_BY_GATEWAY: Final = frozenset({"gzip", "deflate"})
# The beginning of gzip or zlib data as text; U+FFFD is in the place of bytes that are not UTF-8.
_PACKED: Final = re.compile("\x1f|x[\x01^\x9c\xda\ufffd]")


def read_form(event: Mapping[str, Any]) -> dict[str, str]:
    """Read the parameters in a proxy event's body; page parameters in the address override it.

    They are encoded as in a URL's query (WHATWG URL, "application/x-www-form-urlencoded").

    Raises:
        ProblemError: unsupported_media_type, payload_too_large, malformed_form, unknown_parameter
            (in the address) or repeated_parameter.
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    text = _read_body(event)
    if text or headers.get("content-type"):  # a request without a body needs no type
        _check_media(headers)
        _check_coding(headers, event)
    pairs = _read_pairs(text)
    _refuse_repeated(pairs)
    page = event.get("queryStringParameters") or {}
    unknown = page.keys() - set(FORM_PAGES)
    if unknown:
        raise fault(
            "unknown_parameter",
            min(unknown),
            f"stands in the address, which takes {listed(FORM_PAGES)} only; everything else goes "
            "into the body",
        )
    parameters = {name: text for name, text in pairs if not page or name not in FORM_PAGES}
    return {**parameters, **page}


def _refuse_repeated(pairs: Sequence[tuple[str, str]]) -> None:
    counts = Counter(name for name, _ in pairs)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        names = listed(shown(name) for name in repeated)
        raise ProblemError(
            Problem(
                "repeated_parameter",
                f"{names}: is given more than once; give each one once",
                hint=HINT_REPEATED,
            )
        )


def _check_media(headers: Mapping[str, str]) -> None:
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != FORM_TYPE:
        description = (
            f"Content-Type {shown(media)} is not supported here" if media else "no Content-Type"
        )
        raise ProblemError(
            Problem(
                "unsupported_media_type",
                f"{description}; send the list's query as {FORM_TYPE}",
                headers={"Accept-Post": FORM_TYPE},
            )
        )


def _check_coding(headers: Mapping[str, str], event: Mapping[str, Any]) -> None:
    """Refuse a compressed body that API Gateway has not inflated.

    API Gateway inflates gzip and deflate, and never changes `Content-Encoding`. An inflated body is
    text, which begins neither like gzip nor like zlib data.
    """
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return
    is_text = not event.get("isBase64Encoded")
    is_packed = _PACKED.match(str(event.get("body") or ""))
    if coding not in _INFLATED_BY_GATEWAY or not is_text or is_packed:
        raise ProblemError(
            Problem(
                "unsupported_media_type",
                f"Content-Encoding {shown(coding)} is not supported here; send the body in gzip or "
                "deflate, or as it is",
                headers={"Accept-Encoding": "gzip, deflate, identity"},
            )
        )


def _read_body(event: Mapping[str, Any]) -> str:
    text = str(event.get("body") or "")
    if event.get("isBase64Encoded"):
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise _describe_malformed("it is not UTF-8") from None
    size = len(text.encode(errors="replace"))
    if size > MAX_FORM_BYTES:
        raise ProblemError(
            Problem(
                "payload_too_large",
                f"the query has {size:,} bytes, {MAX_FORM_BYTES:,} is most; ask in several",
            )
        )
    return text.strip()


def _read_pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except UnicodeDecodeError:
        raise _describe_malformed("an encoded text in it is not UTF-8") from None
    except ValueError:
        raise _describe_malformed(f"it has more than {_MAX_PARAMETERS} parameters") from None


def _describe_malformed(reason: str) -> ProblemError:
    return ProblemError(Problem("malformed_form", f"the body: {reason}"))
