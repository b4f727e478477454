"""Parses the query parameters of a list; every fault names the parameter and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forebay.query.ast import ListQuery
from forebay.query.representation import RowRange
from forebay.resource.relations import Relation
from forebay.resource.spec import ResourceSpec


def parse_list(
    spec: ResourceSpec,
    relations: Sequence[Relation],
    query: Mapping[str, str],
    rows: RowRange | None = None,
) -> ListQuery:
    """The query of a list request.

    Args:
        spec: of the resource.
        relations: those that start from it.
        query: the route's declared parameters that the request has.
        rows: what `Range` asks for; `limit` and `offset` narrow it further.

    Raises:
        ProblemError: a parameter can't be understood.
    """
    raise NotImplementedError
