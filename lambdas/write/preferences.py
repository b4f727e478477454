"""Reads the `Prefer` headers of a write (RFC 7240) and honours or refuses each preference.

RFC 7240 lets a server ignore a preference. Some of PostgREST's preferences would change the rows
that a write produces, so they are honoured or refused, even with `handling=lenient`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX

Method = Literal["POST", "PUT", "DELETE"]

#: Characters of a preference that an answer quotes.
_QUOTED: Final = 80
# One preference with its parameters; a comma inside a quoted string does not separate.
_PREFERENCE = re.compile(r'(?:[^,"]++|"(?:[^"\\]|\\.)*+"?)++')

_TRIAL: Final = "tx=rollback"
_UPSERT: Final = "resolution=merge-duplicates"
_IGNORE: Final = "resolution=ignore-duplicates"
#: Preferences that describe the behaviour of every write.
_ALWAYS: Final = frozenset({"handling=strict", "handling=lenient", "tx=commit", "respond-async"})


class _Preference(NamedTuple):
    #: `name=value`, or the name alone; the name in lower case.
    text: str
    name: str


def honoured_preferences(
    headers: Sequence[str], spec: ResourceSpec, method: Method, *, must_not_exist: bool
) -> tuple[str, ...]:
    """The preferences that the write honours, for `Preference-Applied`.

    Args:
        headers: the values of all `Prefer` headers.
        spec: the resource.
        method: the method of the write.
        must_not_exist: whether a PUT has `If-None-Match: *`.

    Raises:
        ProblemError: PGRST122: a preference contradicts the write's result, or is unknown
            while `handling=strict` is given.
    """
    if not headers:
        return ()
    asked = list(_parsed(headers))
    refused = _refused(spec, method, must_not_exist=must_not_exist)
    for preference in asked:
        if preference.text in refused:
            detail = f"Prefer: {preference.text} can't be honoured by a {method}"
            raise ProblemError(_problem(detail, preference.text, refused[preference.text]))
    known = _known(method, must_not_exist=must_not_exist)
    unknown = [preference.text for preference in asked if preference.text not in known]
    handling = next((found.text for found in asked if found.name == "handling"), None)
    if unknown and handling == "handling=strict":
        names = ascii(", ".join(unknown)[:_QUOTED])[1:-1]
        detail = f"Prefer: handling=strict, and a write does not know {names}"
        raise ProblemError(_problem(detail, names, f"known: {', '.join(sorted(known))}"))
    # The first of several values counts (RFC 7240 §2).
    first = {found.name: found.text for found in reversed(asked) if found.text in known}
    return tuple(dict.fromkeys(first[found.name] for found in asked if found.name in first))


def _parsed(headers: Sequence[str]) -> Iterator[_Preference]:
    for item in _PREFERENCE.findall(",".join(headers)):
        name, equals, value = item.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name:
            yield _Preference(f"{name}={value}" if equals and value else name, name)


def _refused(spec: ResourceSpec, method: Method, *, must_not_exist: bool) -> Mapping[str, str]:
    """The preferences refused under any handling, each with a hint."""
    address = f"{API_PREFIX}/{spec.path}/{{{spec.key.name}}}"
    refused = {
        _TRIAL: "a write that is accepted is applied, so there is no trial; leave the request out"
    }
    if method == "POST":
        refused[_UPSERT] = f"a POST never overwrites an item; PUT {address} does"
    elif method == "PUT" and must_not_exist:
        refused[_UPSERT] = "If-None-Match: * never overwrites an item; leave out one of the two"
    elif method == "PUT":
        refused[_IGNORE] = "a PUT overwrites an item, unless it has If-None-Match: *"
    return refused


def _known(method: Method, *, must_not_exist: bool) -> frozenset[str]:
    if method == "DELETE":
        return _ALWAYS
    overwrites = method == "PUT" and not must_not_exist
    # Omitted fields get their defaults.
    return _ALWAYS | {"missing=default", _UPSERT if overwrites else _IGNORE}


def _problem(detail: str, details: str, hint: str) -> Problem:
    return Problem("PGRST122", detail, details=details, hint=hint)
