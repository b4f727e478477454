"""Keyset cursors: opaque to clients, bound to one query.

A cursor is not a secret and grants no access: it is a condition on the sort values, which any
client can also send as a filter. A cursor that is damaged or belongs to another query is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from forebay.problem import ProblemError
from forebay.query.ast import (
    Condition,
    Embedded,
    Group,
    Operand,
    OrderTerm,
    Position,
    Presence,
    Selected,
)
from forebay.query.faults import fault
from forebay.query.values import checked
from forebay.resource.spec import ResourceSpec

_VERSION: Final = 2
_DIGEST_BYTES: Final = 8
#: Characters; a longer cursor would not fit a URL. Only sort values of extreme length exceed it.
MAX_CURSOR_LENGTH: Final = 6000


def make_cursor(
    fingerprint: str, values: Sequence[str | None], *, backward: bool = False
) -> str | None:
    """Create the cursor for the rows after, or before, the row with these sort values.

    Returns:
        The cursor; None if the values are too long for a cursor.
    """
    content = orjson.dumps([_VERSION, fingerprint, int(backward), list(values)])
    text = base64.urlsafe_b64encode(_compute_digest(content) + content).rstrip(b"=").decode()
    return text if len(text) <= MAX_CURSOR_LENGTH else None


def read_cursor(text: str, fingerprint: str, order: Sequence[OrderTerm]) -> Position:
    """Decode a cursor.

    Raises:
        ProblemError: bad_cursor, the text is not a cursor, is damaged, or belongs to another query.
    """
    try:
        backward, values = _decode(text, fingerprint, len(order))
        return Position(
            tuple(
                None if value is None else checked(term.operand, value)
                for term, value in zip(order, values, strict=True)
            ),
            backward,
        )
    except ValueError as exc:
        raise build_cursor_error(str(exc)) from None


def build_cursor_error(reason: str) -> ProblemError:
    """Create the problem `bad_cursor`."""
    return fault(
        "bad_cursor", "cursor", f"{reason}; use a cursor from Link, with the same order and filters"
    )


def fingerprint(
    spec: ResourceSpec,
    where: Group,
    order: Sequence[OrderTerm],
    select: Sequence[Selected | Embedded],
) -> str:
    """Return a digest of the resource, filters and order, which a cursor and its query share.

    Args:
        spec: the resource.
        where: the filters.
        order: a total order.
        select: the members; inner relations filter rows, so they are part of the digest.
    """
    description = [
        spec.path,
        _describe(where),
        [_describe_term(term) for term in order],
        _describe_inner(select),
    ]
    return hashlib.sha256(orjson.dumps(description)).hexdigest()[:16]


def _describe_inner(members: Sequence[Selected | Embedded]) -> list[list[object]]:
    relations = [_describe_related(m) for m in members if isinstance(m, Embedded) and m.inner]
    return sorted(relations, key=orjson.dumps)


def _describe_related(embedded: Embedded) -> list[object]:
    """Return everything that determines which related rows exist."""
    relation, inner_relations = embedded.relation, _describe_inner(embedded.members)
    through = relation.through
    return [
        *(relation.target.path, relation.hint),
        *(relation.many, embedded.limit, embedded.offset),
        _describe(embedded.where),
        *([] if through is None else [[through.near.name, through.far.name]]),
        *([inner_relations] if inner_relations else []),
    ]


def _describe_term(term: OrderTerm) -> list[object]:
    description = [*_describe_operand(term.operand), term.descending, term.nulls_first]
    return (
        description if term.embedded is None else [*description, _describe_related(term.embedded)]
    )


def _describe(condition: Condition) -> list[object]:
    if isinstance(condition, Group):
        members = [_describe(member) for member in condition.members]
        return [condition.joined_by, condition.negated, members]
    if isinstance(condition, Presence):
        return ["is there", condition.negated, _describe_related(condition.embedded)]
    return [
        *_describe_operand(condition.operand),
        condition.operator,
        condition.value,
        condition.quantifier,
        condition.language,
        condition.negated,
    ]


def _describe_operand(operand: Operand) -> list[object]:
    return [operand.column.name, operand.path, operand.as_text]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\x00" not in value


def _compute_digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_DIGEST_BYTES]


def _decode(text: str, fingerprint: str, length: int) -> tuple[bool, list[str | None]]:
    if len(text) > MAX_CURSOR_LENGTH:
        raise ValueError("is too long")
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("is not a cursor") from None
    # The unused bits of the last letter must be zero, so that each cursor has one spelling.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("is not a cursor, or is damaged")
    digest, content = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _compute_digest(content):
        raise ValueError("is not a cursor, or is damaged")
    return _read_content(content, fingerprint, length)


def _read_content(content: bytes, fingerprint: str, length: int) -> tuple[bool, list[str | None]]:
    match orjson.loads(content):
        case [version, owner, int(backward), list(values)] if version == _VERSION:
            if owner != fingerprint or len(values) != length:
                raise ValueError("belongs to another query")
            if not all(value is None or _is_text(value) for value in values):
                raise ValueError("is not a cursor")
            return bool(backward), values
        case _:
            raise ValueError("was created by another release")
