"""The parameters and headers of a list request, and their limits.

Routes, cache keys, the read function's view and the documentation are derived from these names.
The read function does not see other parameters of a GET (law 5).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forebay.resource.relations import Relation, select_direct
from forebay.resource.spec import ResourceSpec

#: Logical operators. API Gateway caches by whole parameter names, so `not.and` is a parameter
#: and `not.` is not a prefix.
LOGIC: Final = ("and", "or", "not.and", "not.or")
#: Query parameters of a list, without its columns and relations.
LIST_PARAMETERS: Final = ("select", "order", "limit", "offset", "cursor", *LOGIC)
#: Parameters of any relation, without its columns, after the relation's name: `cities.or`.
RELATION_PARAMETERS: Final = LOGIC
#: Further parameters of a relation to many rows: `cities.limit`.
MANY_PARAMETERS: Final = ("order", "limit", "offset")
#: Headers that a list reads.
LIST_HEADERS: Final = ("Accept", "Prefer", "Range", "Range-Unit", "If-None-Match", "Read-After")
#: The media type of a query in a request body (WHATWG URL, "application/x-www-form-urlencoded
#: parsing").
FORM_TYPE: Final = "application/x-www-form-urlencoded"
#: Headers that a query in a body reads. `Range` is defined for GET only (RFC 9110 §14.2), and an
#: answer that is not cached needs no entity tag.
FORM_HEADERS: Final = ("Accept", "Prefer", "Read-After")
#: Parameters in the URL of a form; `Link` uses them to refer to other pages.
FORM_PAGES: Final = ("cursor", "offset")

DEFAULT_LIMIT: Final = 100  # rows
MAX_LIMIT: Final = 10_000  # rows; a greater limit is accepted and reduced to this
MAX_OFFSET: Final = 10**15  # rows; fits a bigint with any limit added
MAX_PARAMETER_LENGTH: Final = 10_000  # characters; API Gateway's URLs are shorter anyway
MAX_FORM_BYTES: Final = 256 * 1024  # of a query in a body; some 6,000 UUIDs
MAX_CONDITIONS: Final = 100  # in all parameters together
MAX_DEPTH: Final = 8  # groups in groups
MAX_MEMBERS: Final = 100  # of `select`, including those of embedded resources
MAX_LEVELS: Final = 3  # of embedded resources inside embedded resources
MAX_ORDER_TERMS: Final = 8  # a cursor's condition grows with their square
MAX_PATH: Final = 16  # arrows
MAX_NAME_BYTES: Final = 63  # of a member's name: Postgres truncates longer names


def list_parameters(spec: ResourceSpec, relations: Sequence[Relation]) -> tuple[str, ...]:
    """Return the names of all query parameters of a resource's list, without duplicates.

    Many-to-many relations have no parameters: nearly every resource with two references creates
    such a relation, and each parameter is a cache key.

    Args:
        spec: the resource.
        relations: the relations from it.
    """
    names = (
        *LIST_PARAMETERS,
        *(column.name for column in spec.columns),
        *(
            name
            for relation in select_direct(relations)
            for name in _list_relation_parameters(relation)
        ),
    )
    return tuple(dict.fromkeys(names))


def _list_relation_parameters(relation: Relation) -> Iterator[str]:
    words = (*RELATION_PARAMETERS, *(MANY_PARAMETERS if relation.many else ()))
    for name in relation.names:
        yield name
        yield from (f"{name}.{column.name}" for column in relation.target.columns)
        yield from (f"{name}.{word}" for word in words)
