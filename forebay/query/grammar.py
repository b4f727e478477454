"""The words of the grammar: which parts of a request a list looks at, and how much of each.

Routes, cache keys, the read function's view and the documentation are made from these, so a word
that is not here is not looked at (law 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forebay.resource.relations import Relation, direct
from forebay.resource.spec import ResourceSpec

#: Conditions joined by a word. API Gateway can key on a parameter only by its whole name, so
#: these are parameters of their own and not prefixes.
LOGIC: Final = ("and", "or", "not.and", "not.or")
#: Query parameters of a list besides its columns and relations.
LIST_PARAMETERS: Final = ("select", "order", "limit", "offset", "cursor", *LOGIC)
#: Parameters of a relation besides its columns, behind the relation's name: `cities.limit`.
RELATION_PARAMETERS: Final = LOGIC
#: Those of a relation to many rows.
MANY_PARAMETERS: Final = ("order", "limit", "offset")
#: Headers that a list looks at.
LIST_HEADERS: Final = ("Accept", "Prefer", "Range", "Range-Unit", "If-None-Match")
#: The media type of a query that is sent as a body (WHATWG URL, "application/x-www-form-urlencoded
#: parsing").
FORM_TYPE: Final = "application/x-www-form-urlencoded"
#: Headers that a query sent as a form looks at. `Range` means something to GET alone (RFC 9110
#: §14.2), and what is kept nowhere needs no entity tag.
FORM_HEADERS: Final = ("Accept", "Prefer")
#: Parameters in the address that a form is sent to: the page, as `Link` gives it.
FORM_PAGES: Final = ("cursor", "offset")

DEFAULT_LIMIT: Final = 100  # rows
MAX_LIMIT: Final = 10_000  # rows; more are not refused, the page ends there
MAX_OFFSET: Final = 10**15  # rows; fits a bigint with any limit added
MAX_PARAMETER_LENGTH: Final = 10_000  # characters; API Gateway's URLs are shorter anyway
MAX_FORM_BYTES: Final = 256 * 1024  # of a query that is sent as a body; some 6,000 UUIDs
MAX_CONDITIONS: Final = 100  # in all parameters together
MAX_DEPTH: Final = 8  # groups in groups
MAX_MEMBERS: Final = 100  # of `select`, those of embedded resources included
MAX_LEVELS: Final = 3  # of embedded resources inside embedded resources
MAX_ORDER_TERMS: Final = 8  # a cursor's condition grows with their square
MAX_PATH: Final = 16  # arrows
MAX_NAME_BYTES: Final = 63  # of a member's name: Postgres cuts longer ones off


def list_parameters(spec: ResourceSpec, relations: Sequence[Relation]) -> tuple[str, ...]:
    """The names of every query parameter of a resource's list, each once.

    Those of many to many rows have none: nearly every resource with two references makes one, and
    each parameter is a cache key.

    Args:
        spec: of the resource.
        relations: those that start from it.
    """
    names = (
        *LIST_PARAMETERS,
        *(column.name for column in spec.columns),
        *(name for relation in direct(relations) for name in _relation_parameters(relation)),
    )
    return tuple(dict.fromkeys(names))


def _relation_parameters(relation: Relation) -> Iterator[str]:
    words = (*RELATION_PARAMETERS, *(MANY_PARAMETERS if relation.many else ()))
    for name in relation.names:
        yield name
        yield from (f"{name}.{column.name}" for column in relation.target.columns)
        yield from (f"{name}.{word}" for word in words)
