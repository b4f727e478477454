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
    preferences = list(_parse(headers))
    refused_hints = _list_refused(spec, method, must_not_exist=must_not_exist)
    for preference in preferences:
        if preference.text in refused_hints:
            detail = f"Prefer: {preference.text} can't be honoured by a {method}"
            raise ProblemError(
                _describe_problem(detail, preference.text, refused_hints[preference.text])
            )
    known_texts = _list_known(method, must_not_exist=must_not_exist)
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
    return tuple(
        dict.fromkeys(
            first_by_name[item.name] for item in preferences if item.name in first_by_name
        )
    )


def _parse(headers: Sequence[str]) -> Iterator[_Preference]:
    for item in _PREFERENCE.findall(",".join(headers)):
        name, equals, value = item.partition(";")[0].partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name:
            yield _Preference(f"{name}={value}" if equals and value else name, name)


def _list_refused(spec: ResourceSpec, method: Method, *, must_not_exist: bool) -> Mapping[str, str]:
    """The preferences refused under any handling, each with a hint."""
    address = f"{API_PREFIX}/{spec.path}/{{{spec.key.name}}}"
    hints = {
        _TRIAL: "a write that is accepted is applied, so there is no trial; leave the request out"
    }
    if method == "POST":
        hints[_UPSERT] = f"a POST never overwrites an item; PUT {address} does"
    elif method == "PUT" and must_not_exist:
        hints[_UPSERT] = "If-None-Match: * never overwrites an item; leave out one of the two"
    elif method == "PUT":
        hints[_IGNORE] = "a PUT overwrites an item, unless it has If-None-Match: *"
    return hints


def _list_known(method: Method, *, must_not_exist: bool) -> frozenset[str]:
    if method == "DELETE":
        return _ALWAYS
    overwrites = method == "PUT" and not must_not_exist
    # Omitted fields get their defaults.
    return _ALWAYS | {"missing=default", _UPSERT if overwrites else _IGNORE}


def _describe_problem(detail: str, details: str, hint: str) -> Problem:
    return Problem("PGRST122", detail, details=details, hint=hint)
