"""The declaration's limit for an index entry matches that of Postgres."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

import psycopg
import pytest
from pydantic import Field

from forebay.errors import DeclarationError
from forebay.resource import Index, Indexed, Key, References, Resource, Unique
from forebay.resource.fields import (
    _CHARACTER_BYTES,
    _MAX_ENTRY_BYTES,
    _TEXT_HEADER_BYTES,
)
from tests.fixtures.tables import Database

LONGEST = (_MAX_ENTRY_BYTES - _TEXT_HEADER_BYTES) // _CHARACTER_BYTES


def large(length: int) -> str:
    """Build an incompressible text of four-byte characters."""
    source = random.Random(7)
    return "".join(chr(source.randrange(0x10000, 0x10FFFF)) for _ in range(length))


def insert(database: Database, columns: str, *values: object) -> None:
    database.connection.execute("DROP TABLE IF EXISTS public.entries")
    database.connection.execute(f"CREATE TABLE public.entries ({columns})".encode())
    names = ", ".join(part.split()[0] for part in columns.split(", "))
    database.connection.execute(f"CREATE INDEX ON public.entries ({names})".encode())
    marks = ", ".join(["%s"] * len(values))
    database.connection.execute(f"INSERT INTO public.entries VALUES ({marks})".encode(), values)


def test_declarable_indexed_values_fit_an_entry_of_postgres(database: Database) -> None:
    insert(database, "a varchar", large(LONGEST))
    insert(database, "a varchar, b int, c uuid", large(LONGEST - 9), 1, "0" * 32)
    half = (_MAX_ENTRY_BYTES // 2 - _TEXT_HEADER_BYTES) // _CHARACTER_BYTES
    insert(database, "a varchar, b varchar", large(half), large(half))


def test_much_longer_values_do_not_fit_an_entry_of_postgres(database: Database) -> None:
    with pytest.raises(psycopg.errors.ProgramLimitExceeded):
        insert(database, "a varchar", large(LONGEST + 4))


def declare(field: Any, *, indexes: Any = ()) -> None:
    members = {"__annotations__": {"text": field, "number": int}, "__module__": __name__}
    metaclass: Any = type(Resource)
    metaclass("Note", (Resource,), members, path="notes", indexes=indexes)


@pytest.mark.parametrize("mark", [Indexed(), Unique()])
def test_a_longer_text_is_not_part_of_an_index(mark: object) -> None:
    declare(Annotated[str, Field(max_length=LONGEST), mark])
    with pytest.raises(DeclarationError, match=rf"Note\.text: .* max_length can be {LONGEST}"):
        declare(Annotated[str, Field(max_length=LONGEST + 1), mark])


def test_an_index_of_several_columns_counts_them_all() -> None:
    text = Annotated[str, Field(max_length=LONGEST - 1)]
    declare(text)
    with pytest.raises(DeclarationError, match=f"Note: .* max_length can be {LONGEST - 4}"):
        declare(text, indexes=[Index("text", "number")])
    with pytest.raises(DeclarationError, match=r"Note\.text: a str in an index requires"):
        declare(str, indexes=[Index("text", "number")])


def test_a_choice_is_as_long_as_its_longest() -> None:
    declare(Annotated[Literal["a", "b"], Indexed()])


def test_a_key_that_refers_is_refused_with_the_reason() -> None:
    with pytest.raises(DeclarationError, match="a key can't be a reference"):
        declare(Annotated[int, Key(), References("countries")])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Annotated[str, Indexed("words")], "'words'"),  # type: ignore[arg-type]
        (Annotated[int, Indexed("search")], "is for a str"),
        (Annotated[str, Indexed("contains")], "is for a list or dict"),
        (Annotated[list[str], Indexed("trigram")], "is for a str"),
        (Annotated[str, Indexed("search", "english'; --")], "the language must be"),
        (Annotated[list[str], Indexed()], r'Indexed\("contains"\) supports containment'),
    ],
)
def test_an_index_for_something_else_is_refused(field: object, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declare(field)
