"""`select=`: members, aliases, casts, places in JSON, and related rows."""

from __future__ import annotations

import pytest

from forebay.query.ast import Embedded, Selected
from forebay.query.grammar import DEFAULT_LIMIT, MAX_LIMIT, MAX_MEMBERS
from tests.fixtures.queries import RESOURCES, parsed, refused, spelled

BOOKS = RESOURCES["books"]


def shown(select: str, path: str = "books", **filters: str) -> list[str]:
    """Return the members in a normalised spelling."""
    query = {name.replace("__", "."): value for name, value in filters.items()}
    return [_member(member) for member in parsed({"select": select, **query}, path).select]


def _member(member: Selected | Embedded) -> str:
    if isinstance(member, Selected):
        arrows = "".join(f"->{step!r}" for step in member.operand.path)
        text = " text" if member.operand.as_text else ""
        cast = f" as {member.cast}" if member.cast else ""
        return f"{member.name}={member.operand.column.name}{arrows}{text}{cast}"
    inner = ",".join(_member(child) for child in member.members)
    way = f"{member.relation.hint}{'<' if member.relation.many else '>'}"
    return f"{member.name}={way}{member.relation.target.path}{'!' if member.inner else ''}({inner})"


def embedded(query: dict[str, str], path: str = "books") -> Embedded:
    (relation,) = [m for m in parsed(query, path).select if isinstance(m, Embedded)]
    return relation


def test_without_a_selection_every_column_is_shown() -> None:
    names = [column.name for column in BOOKS.columns]
    assert [member.name for member in parsed({}).select] == names
    assert parsed({"select": "*"}).select == parsed({}).select == parsed({"select": ""}).select
    assert shown("*,author(*)", "books")[-1].startswith("author=author_code>authors(code=code")


@pytest.mark.parametrize(
    ("select", "members"),
    [
        ("title,pages", ["title=title", "pages=pages"]),
        (" title , pages ", ["title=title", "pages=pages"]),
        ('"title"', ["title=title"]),
        ("fullName:title", ["fullName=title"]),
        ('"a, (b)":title', ["a, (b)=title"]),
        ("title,title2:title", ["title=title", "title2=title"]),
        ("pages::text", ["pages=pages as text"]),
        ("n:pages::numeric,m:pages::float8", ["n=pages as numeric", "m=pages as double precision"]),
        ("pages::double precision", ["pages=pages as double precision"]),
        ("sold_out::int", ["sold_out=sold_out as integer"]),
        ("tags->0", ["tags=tags->0"]),
        ("tags->>-1", ["tags=tags->-1 text"]),
        ("extra->a->0->>b", ["b=extra->'a'->0->'b' text"]),
        ("extra->a->0", ["a=extra->'a'->0"]),
        ("x:extra->>a::text", ["x=extra->'a' text as text"]),
        ('extra->"a,b"', ["a,b=extra->'a,b'"]),
    ],
)
def test_members_are_postgrests(select: str, members: list[str]) -> None:
    assert shown(select) == members


@pytest.mark.parametrize(
    ("path", "select", "members"),
    [
        ("books", "author(name)", ["author=author_code>authors(name=name)"]),
        ("books", "a:author!inner( n:name , code )", ["a=author_code>authors!(n=name,code=code)"]),
        ("books", "authors!editor_code(name)", ["authors=editor_code>authors(name=name)"]),
        ("books", "e:authors!inner!editor_code(name)", ["e=editor_code>authors!(name=name)"]),
        ("books", "author!left(name)", ["author=author_code>authors(name=name)"]),
        ("books", "title,author!inner()", ["title=title", "author=author_code>authors!()"]),
        ("authors", "books!author_code(title)", ["books=author_code<books(title=title)"]),
        # In a resource that refers to itself, the column's name leads up, the path down.
        ("authors", "m:mentor(name)", ["m=mentor>authors(name=name)"]),
        ("authors", "pupils:authors(name)", ["pupils=mentor<authors(name=name)"]),
    ],
)  # fmt: skip
def test_relations_lead_both_ways(path: str, select: str, members: list[str]) -> None:
    assert shown(select, path) == members


def test_filters_on_a_relation_go_by_the_name_that_it_is_selected_by() -> None:
    query = {"select": "title,a:author(name)", "author.name": "eq.x"}
    relation = embedded({**query, "author.or": "(code.eq.a,code.eq.b)"})
    assert spelled(relation.where) == "and[name eq 'x', or[code eq 'a', code eq 'b']]"


def test_related_rows_have_their_own_order_and_limit() -> None:
    query = {"select": "books!author_code(title)", "books.order": "pages.desc", "books.limit": "3"}
    relation = embedded({**query, "books.offset": "6"}, "authors")
    assert [(t.operand.column.name, t.descending) for t in relation.order] == [
        ("pages", True),
        ("isbn", False),
    ]
    assert (relation.limit, relation.offset) == (3, 6)
    assert embedded({"select": "books!author_code(title)"}, "authors").limit == DEFAULT_LIMIT
    assert embedded({**query, "books.limit": "99999"}, "authors").limit == MAX_LIMIT


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ({"select": "title,"}, "PGRST100", "a name"),
        ({"select": "title pages:"}, "PGRST100", "a name"),
        ({"select": "title)"}, "PGRST100", "the end"),
        ({"select": "*x"}, "PGRST100", "a comma"),
        ({"select": "x:*"}, "PGRST100", "a name"),
        ({"select": "mayor"}, "bad_select", "isbn, title"),
        ({"select": "*,title"}, "bad_select", "'title'"),
        ({"select": "title,title:pages"}, "bad_select", "'title'"),
        ({"select": "author(name),author:title"}, "bad_select", "'author'"),
        ({"select": "title::int"}, "bad_select", "to text"),
        ({"select": "pages::int"}, "bad_select", "bigint"),
        ({"select": "mass::float"}, "bad_select", "text, numeric"),
        ({"select": "extra->a::int"}, "bad_select", "json"),
        ({"select": "title::"}, "bad_select", "''"),
        ({"select": "title::text; DROP TABLE"}, "PGRST100", "a comma"),
        ({"select": "title->a"}, "bad_select", "only JSON"),
        ({"select": f'"{"x" * 64}":title'}, "bad_select", "63"),
        ({"select": f"extra->{'x' * 64}"}, "bad_select", "alias"),
        ({"select": '"":title'}, "bad_select", "1 to 63"),
        ({"select": ",".join(f"a{n}:title" for n in range(MAX_MEMBERS + 1))}, "bad_select", "100"),
        ({"select": "author!inner()"}, "bad_select", "to return"),
        ({"select": "author(name"}, "PGRST100", "')'"),
        ({"select": "author(mayor)"}, "bad_select", "authors has no column"),
        ({"select": "author(name)x"}, "PGRST100", "a comma"),
        ({"select": "author!inner"}, "PGRST100", "'('"),
        ({"select": "mayor(name)"}, "PGRST200", "author!author_code"),
        ({"select": "author!editor_code(name)"}, "PGRST200", "author!author_code"),
        ({"select": "authors(name)"}, "PGRST201", "authors!editor_code"),
        ({"select": "author(books!author_code(author(books!author_code(title))))"}, "PGRST127",
         "3 relations"),
        ({"select": "...author(name)"}, "PGRST127", "..."),
        ({"select": "count()"}, "PGRST123", "aggregate"),
        ({"select": "pages.sum()"}, "PGRST123", "aggregate"),
        ({"author.name": "eq.x"}, "PGRST108", "author"),
        ({"select": "authors!author_code(name)", "author.name": "eq.x"}, "PGRST108", "author"),
        ({"select": "author(name)", "author.name": "eq"}, "PGRST100", "author.name"),
        ({"select": "author(name)", "author.and": "(pages.eq.1)"}, "bad_filter", "code, name"),
    ],
)  # fmt: skip
def test_members_that_can_not_be_selected_are_refused_by_name(
    query: dict[str, str], code: str, named: str
) -> None:
    problem = refused(query)
    assert problem.code == code
    assert named in problem.detail


def test_the_message_about_an_ambiguous_relation_names_the_choices() -> None:
    problem = refused({"select": "authors(name)"})
    assert problem.status == 300
    assert "authors!author_code, authors!editor_code" in (problem.hint or "")
    assert problem.details == [
        {
            "cardinality": "many-to-one",
            "relationship": f"{column} using books({column}) and authors(code)",
            "embedding": "books with authors",
        }
        for column in ("author_code", "editor_code")
    ]
