"""Reads the `Prefer` headers of a write (RFC 7240) and honours or refuses each preference.

RFC 7240 lets a server ignore a preference. Some of PostgREST's preferences would change the rows
that a write produces, so they are honoured or refused, even with `handling=lenient`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from forebay.problem import Problem, ProblemError

#: `operations` is a POST to /commands.
Method = Literal["POST", "PUT", "PATCH", "DELETE", "operations"]

#: Characters of a preference that an answer quotes.
_QUOTED: Final = 80
# One preference with its parameters; a comma inside a quoted string does not separate.
_PREFERENCE = re.compile(r'(?:[^,"]++|"(?:[^"\\]|\\.)*+"?)++')

_TRIAL: Final = "tx=rollback"
_UPSERT: Final = "resolution=merge-duplicates"
_IGNORE: Final = "resolution=ignore-duplicates"
_MINIMAL: Final = "return=minimal"
_REPRESENTATION: Final = "return=representation"
#: Preferences that every write honours.
_ALWAYS: Final = frozenset(
    {"handling=strict", "handling=lenient", "tx=commit", "respond-async", _MINIMAL}
)

#: The content of an answer: the usual document, an empty body, a list with a document for each
#: command, or the document of the only command. The last two take the place of PostgREST's rows.
Returns = Literal["outcome", "minimal", "representation", "object"]


_RETURNS: Final[Mapping[str, Returns]] = {
    _MINIMAL: "minimal",
    _REPRESENTATION: "representation",
}


class _Preference(NamedTuple):
    #: `name=value`, or the name alone; the name in lower case.
    text: str
    name: str


@dataclass(frozen=True, slots=True)
class Preferences:
    """The preferences of one write."""

    #: For `Preference-Applied`.
    applied: tuple[str, ...] = ()
    returns: Returns = "outcome"
    #: A POST replaces the items that exist.
    upserts: bool = False


def read_preferences(
    headers: Sequence[str], method: Method, *, must_not_exist: bool
) -> Preferences:
    """Read the preferences of a write.

    Args:
        headers: the values of all `Prefer` headers.
        method: the method of the write.
        must_not_exist: whether a PUT or a POST has `If-None-Match: *`.

    Raises:
        ProblemError: PGRST122: a preference contradicts the write's result, or is unknown
            while `handling=strict` is given.
    """
    if not headers:
        return Preferences()
    preferences = list(_parse(headers))
    refused_hints = _list_refused(method, must_not_exist=must_not_exist)
    for preference in preferences:
        if preference.text in refused_hints:
            writer = "operations" if method == "operations" else f"a {method}"
            detail = f"Prefer: {preference.text} can't be honoured by {writer}"
            raise ProblemError(
                _describe_problem(detail, preference.text, refused_hints[preference.text])
            )
    honoured_texts = _list_honoured(method, must_not_exist=must_not_exist)
    known_texts = honoured_texts | {_REPRESENTATION}
    unknown = [preference.text for preference in preferences if preference.text not in known_texts]
    handling = next((item.text for item in preferences if item.name == "handling"), None)
    if unknown and handling == "handling=strict":
        names = ascii(", ".join(unknown)[:_QUOTED])[1:-1]
        detail = f"Prefer: handling=strict, and a write does not know {names}"
        raise ProblemError(
            _describe_problem(detail, names, f"known: {', '.join(sorted(known_texts))}")
        )
    # The first of several values counts (RFC 7240 §2).
    first_by_name = {
        item.name: item.text for item in reversed(preferences) if item.text in known_texts
    }
    texts = dict.fromkeys(
        first_by_name[item.name] for item in preferences if item.name in first_by_name
    )
    return Preferences(
        applied=tuple(text for text in texts if text in honoured_texts),
        returns=_RETURNS.get(first_by_name.get("return", ""), "outcome"),
        upserts=method == "POST" and _UPSERT in texts,
    )


def _parse(headers: Sequence[str]) -> Iterator[_Preference]:
    for item in _PREFERENCE.findall(",".join(headers)):
        name, equals, value = item.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name:
            yield _Preference(f"{name}={value}" if equals and value else name, name)


def _list_refused(method: Method, *, must_not_exist: bool) -> Mapping[str, str]:
    """The preferences refused under any handling, each with a hint."""
    hints = {
        _TRIAL: "a write that is accepted is applied, so there is no trial; leave the request out"
    }
    if method == "operations":
        hints |= dict.fromkeys(
            (_UPSERT, _IGNORE), "the `op` of each operation decides: `put` or `create`"
        )
    elif must_not_exist:
        hints[_UPSERT] = "If-None-Match: * never overwrites an item; leave out one of the two"
    elif method == "PUT":
        hints[_IGNORE] = "a PUT overwrites an item, unless it has If-None-Match: *"
    return hints


def _list_honoured(method: Method, *, must_not_exist: bool) -> frozenset[str]:
    if method in {"PATCH", "DELETE"}:
        return _ALWAYS
    # Omitted fields get their defaults.
    with_body = _ALWAYS | {"missing=default"}
    if method == "operations":
        return with_body
    if method == "POST":
        return with_body | {_UPSERT, _IGNORE}
    return with_body | {_IGNORE if must_not_exist else _UPSERT}


def _describe_problem(detail: str, details: str, hint: str) -> Problem:
    return Problem("PGRST122", detail, details=details, hint=hint)
