r"""Filters: PostgREST's syntax, checked against the column before Postgres gets the query."""

from __future__ import annotations

import pytest

from forebay.query.grammar import MAX_CONDITIONS, MAX_DEPTH, MAX_PARAMETER_LENGTH
from forebay.query.operators import IS_STATES, OPERATORS, QUANTIFIABLE, list_operators
from tests.fixtures.queries import RESOURCES, only_filter, parsed, refused, spelled

BOOKS = RESOURCES["books"]
TICKET = "0199f0c2-0000-7000-8000-000000000000"
#: For each column, a value that its operators accept.
VALUES = {
    "isbn": "5",
    "title": "word",
    "pages": "-7",
    "weight": "1e3",
    "price": "9.99",
    "mass": "1",
    "sold_out": "true",
    "printed_on": "2026-02-28",
    "changed_at": "2026-02-28T10:00:00Z",
    "ticket": TICKET,
    "tags": '["a"]',
    "sizes": "[1]",
    "moods": '["a"]',
    "parts": '[{"a":1}]',
    "extra": '{"a":1}',
    "author_code": "x",
    "editor_code": "x",
}
COMPARE = {"eq", "neq", "gt", "gte", "lt", "lte", "isdistinct", "in", "is"}
EQUAL = {"eq", "neq", "isdistinct", "in", "is"}
TEXT = {"like", "ilike", "match", "imatch", "fts", "plfts", "phfts", "wfts"}
SEARCH = {"fts", "plfts", "phfts", "wfts"}
TAKEN = {
    **dict.fromkeys(VALUES, COMPARE),
    **dict.fromkeys(("title", "author_code", "editor_code"), COMPARE | TEXT),
    **dict.fromkeys(("tags", "sizes", "moods"), COMPARE | SEARCH | {"cs", "cd", "ov"}),
    "parts": EQUAL | SEARCH | {"cs", "cd", "ov"},
    "extra": EQUAL | SEARCH | {"cs", "cd"},
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("column", VALUES)
def test_a_column_takes_the_operators_of_its_kind_and_names_them_when_it_refuses(
    column: str, operator: str
) -> None:
    value = {"in": "()", "is": "null", **dict.fromkeys(SEARCH, "word")}.get(
        operator, VALUES[column]
    )
    query = {column: f"{operator}.{value}"}
    if operator in TAKEN[column]:
        assert only_filter(query).operator == operator
        return
    problem = refused(query)
    assert problem.code == "bad_filter"
    for word in (column, operator, *TAKEN[column]):
        assert word in problem.detail


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ({"pages": "eq.5"}, "pages eq '5'"),
        ({"pages": "not.eq.5"}, "not pages eq '5'"),
        # A parameter's value is the rest of its text, verbatim: no quotes, no escapes, no end.
        ({"title": 'eq."a,b)" \\ c'}, "title eq '\"a,b)\" \\\\ c'"),
        ({"title": "eq."}, "title eq ''"),
        ({"title": "eq.not.eq.x"}, "title eq 'not.eq.x'"),
        ({"title": "in.(a,b)"}, "title in ('a', 'b')"),
        ({"title": "in. ( a ,b) "}, "title in ('a ', 'b')"),
        ({"title": r'in.("a,b","c\"d","e\\f")'}, "title in ('a,b', 'c\"d', 'e\\\\f')"),
        # Quotes count only around the whole of a value.
        ({"title": 'in.("a"b,c"d")'}, "title in ('\"a\"b', 'c\"d\"')"),
        ({"title": 'in.("a)'}, "title in ('\"a',)"),
        ({"pages": "in.()"}, "pages in ()"),
        ({"title": 'in.("")'}, "title in ('',)"),
        ({"title": "in.(,)"}, "title in ('', '')"),
        ({"title": "like.a*"}, "title like 'a%'"),
        ({"title": r"ilike.a\*%"}, "title ilike 'a\\\\%%'"),
        ({"title": r"like.a\\"}, r"title like 'a\\\\'"),
        ({"title": "match.^a(b|c)*$"}, "title match '^a(b|c)*$'"),
        ({"title": 'like(any).{O*,"P,*"}'}, "title like(any) ('O%', 'P,%')"),
        ({"title": "imatch(all).{ a , b c }"}, "title imatch(all) ('a', 'b c')"),
        ({"pages": "gt(all).{1,2}"}, "pages gt(all) ('1', '2')"),
        ({"pages": "eq(any).{}"}, "pages eq(any) ()"),
        ({"title": r'eq(any).{"a\"b",c\,d,"NULL"}'}, "title eq(any) ('a\"b', 'c,d', 'NULL')"),
        ({"pages": "is.null"}, "pages is 'null'"),
        ({"pages": "is.NOT_null"}, "pages is 'not_null'"),
        ({"sold_out": "not.is.unknown"}, "not sold_out is 'unknown'"),
        ({"printed_on": "isdistinct.2026-01-01"}, "printed_on isdistinct '2026-01-01'"),
        ({"title": "fts.a & (b | !c:*) <-> 'd e'"}, "title fts \"a & (b | !c:*) <-> 'd e'\""),
        ({"title": "not.wfts(English).a -b"}, "not title wfts(english) 'a -b'"),
        ({"title": "plfts.a' b("}, "title plfts \"a' b(\""),
        ({"tags": 'cs.{a,"b c"}'}, "tags cs '[\"a\",\"b c\"]'"),
        ({"tags": 'cs. ["a", "b"]'}, "tags cs '[\"a\",\"b\"]'"),
        ({"tags": "cd.{}"}, "tags cd '[]'"),
        ({"tags": "ov.{a,1}"}, "tags ov ('\"a\"', '\"1\"')"),
        ({"moods": "ov.{a}"}, "moods ov ('\"a\"',)"),
        ({"sizes": "ov.{1,2.0}"}, "sizes ov ('1', '2')"),
        ({"parts": 'ov.[{"a": 1}]'}, "parts ov ('{\"a\":1}',)"),
        ({"extra": 'cs.{"a": {"b": [1]}}'}, "extra cs '{\"a\":{\"b\":[1]}}'"),
        ({"extra": "cs.{}"}, "extra cs '{}'"),
        ({"extra": 'in.("{\\"a\\":1}")'}, "extra in ('{\"a\":1}',)"),
    ],
)  # fmt: skip
def test_a_parameter_has_the_meaning_of_postgrest(query: dict[str, str], meaning: str) -> None:
    assert spelled(only_filter(query)) == meaning


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("(pages.gte.1,pages.lt.9)", "and[pages gte '1', pages lt '9']"),
        (
            " ( title.gt.5 , or( title.eq.a,not.and(pages.lt.1,title.not.in.(a,b)) ) ) ",
            "and[title gt '5 ', or[title eq 'a', not and[pages lt '1', not title in ('a', 'b')]]]",
        ),
        (r'(title.eq."a,b)\"",title.eq.a"b)', "and[title eq 'a,b)\"', title eq 'a\"b']"),
        ("(title.eq.,title.eq.)", "and[title eq '', title eq '']"),
        ('("title".eq.x)', "and[title eq 'x']"),
        ("(title.like(any).{a*,b*},isbn.eq.1)", "and[title like(any) ('a%', 'b%'), isbn eq '1']"),
        ("(tags.cs.{a,b},sizes.cd.{1,2})", "and[tags cs '[\"a\",\"b\"]', sizes cd '[1,2]']"),
        ('(tags.cs."[\\"a\\",\\"b\\"]")', "and[tags cs '[\"a\",\"b\"]']"),
        ("(tags->>0.eq.x,tags->-1.eq.1)", "and[tags->0 text eq 'x', tags->-1 eq '1']"),
        ("(extra->a->0->>b c.like.x*)", "and[extra->'a'->0->'b c' text like 'x%']"),
        ('(extra->"a.b"->"0".gt.20)', "and[extra->'a.b'->'0' gt '20']"),
        ("(extra->a-b->0x.is.null)", "and[extra->'a-b'->'0x' is 'null']"),
        ("(extra->a.cs.{x})", "and[extra->'a' cs '[\"x\"]']"),
        ("(extra->a.ov.{x})", "and[extra->'a' ov ('\"x\"',)]"),
    ],
)  # fmt: skip
def test_conditions_join_nest_and_quote(text: str, meaning: str) -> None:
    (group,) = parsed({"and": text}).where.members
    assert spelled(group) == meaning


def test_each_word_of_logic_is_a_parameter_and_all_of_them_hold() -> None:
    text = "(pages.gt.1,pages.lt.5)"
    query = parsed({"pages": "neq.3", **dict.fromkeys(("and", "or", "not.and", "not.or"), text)})
    inner = "[pages gt '1', pages lt '5']"
    assert spelled(query.where) == (
        f"and[pages neq '3', and{inner}, or{inner}, not and{inner}, not or{inner}]"
    )


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ({"pages": "5"}, "PGRST100", "eq.5"),
        ({"pages": ""}, "PGRST100", "eq, neq, gt"),
        ({"pages": "EQ.5"}, "PGRST100", "'EQ'"),
        ({"pages": "eq"}, "PGRST100", "'.'"),
        ({"pages": "not.not.eq.5"}, "PGRST100", "pages"),
        ({"pages": "adj.5"}, "PGRST100", "'adj'"),
        ({"pages": "neq(any).{1}"}, "PGRST100", "neq accepts no argument"),
        ({"pages": "eq(some).{1}"}, "PGRST100", "any or all"),
        ({"pages": "eq(any).1"}, "bad_filter", "braces"),
        ({"pages": "eq(any).{1,x}"}, "bad_filter", "'x'"),
        ({"pages": "eq(any).{1,NULL}"}, "bad_filter", "is.null"),
        ({"pages": "eq(any).{{1}}"}, "bad_filter", "braces"),
        ({"pages": "eq(any).{1,}"}, "bad_filter", "braces"),
        ({"title": "fts(klingon).a"}, "PGRST100", "english"),
        ({"title": "fts.a b"}, "bad_filter", "text search"),
        ({"title": "like.a\\"}, "bad_filter", "escapes no character"),
        ({"pages": "in.5"}, "PGRST100", "'('"),
        ({"pages": "in.(5"}, "PGRST100", "')'"),
        ({"pages": "in.(5)6"}, "PGRST100", "the end"),
        ({"pages": "in.(5,)"}, "bad_filter", "''"),
        ({"pages": "is.nil"}, "PGRST100", ", ".join(IS_STATES)),
        ({"pages": "is.nullx"}, "PGRST100", "null"),
        ({"pages": "is.true"}, "bad_filter", "only null, not_null"),
        ({"pages": "eq.5\x00"}, "PGRST100", "NUL"),
        ({"title": "eq.\ud800"}, "PGRST100", "\\ud800"),
        ({"title": f"eq.{'a' * MAX_PARAMETER_LENGTH}"}, "PGRST100", "longer"),
        ({"tags": "cs.a"}, "bad_filter", "JSON list"),
        ({"tags": "ov.5"}, "bad_filter", "not a list"),
        ({"parts": "cs.{a}"}, "bad_filter", "as JSON"),
        ({"sizes": "cs.{a}"}, "bad_filter", "not a 64-bit integer"),
        ({"extra": "ov.{}"}, "bad_filter", "JSON dict"),
        ({"extra": "cs.{a}"}, "bad_filter", "JSON"),
        ({"and": "pages.gte.5"}, "PGRST100", "'('"),
        ({"and": "()"}, "PGRST100", "a name"),
        ({"and": "(pages.gte.5"}, "PGRST100", "')'"),
        ({"and": "(pages.gte.5))"}, "PGRST100", "the end"),
        ({"and": "(pages.gte.5,)"}, "PGRST100", "a name"),
        ({"and": "(pages)"}, "PGRST100", "'.'"),
        ({"and": "(mayor.eq.5)"}, "bad_filter", "isbn, title, pages"),
        ({"and": "(not.pages.eq.5)"}, "PGRST108", "'not'"),
        ({"and": "(author.name.eq.5)"}, "PGRST108", "'author'"),
        ({"and": "(pages->a.eq.5)"}, "bad_filter", "only JSON supports ->"),
        ({"and": "(extra->>a->b.eq.5)"}, "PGRST100", "->>"),
        ({"and": "(extra->.eq.5)"}, "PGRST100", "member"),
        ({"and": "(extra->9999999999.eq.5)"}, "PGRST100", "element"),
        ({"and": "(extra->a.like.x)"}, "bad_filter", "json"),
        ({"and": f"(extra{'->a' * 17}.eq.1)"}, "bad_filter", "16"),
        ({"not.or": "(pages.gt.x)"}, "bad_filter", "not.or"),
    ],
)  # fmt: skip
def test_invalid_parameters_are_refused_by_name(
    query: dict[str, str], code: str, named: str
) -> None:
    problem = refused(query)
    assert problem.code == code
    assert named in problem.detail
    (parameter,) = query
    assert problem.detail.startswith(f"{parameter}: ")


def test_conditions_are_counted_across_all_parameters() -> None:
    half = f"({','.join(['pages.gt.5'] * (MAX_CONDITIONS // 2))})"
    assert parsed({"and": half, "or": half})
    assert refused({"and": half, "or": half, "pages": "eq.1"}).code == "bad_filter"


def test_groups_nest_to_a_documented_depth() -> None:
    def nested(depth: int) -> str:
        return "(and" * (depth - 1) + "(pages.eq.1" + ")" * depth

    assert parsed({"and": nested(MAX_DEPTH)})
    assert refused({"and": nested(MAX_DEPTH + 1)}).code == "PGRST100"
    assert refused({"and": "(and" * 2000}).code == "PGRST100"


def test_a_negated_condition_is_not_its_opposite() -> None:
    """`not.eq` excludes nulls, as SQL's NOT does; neq is another operator."""
    condition = only_filter({"pages": "not.eq.5"})
    assert (condition.operator, condition.negated) == ("eq", True)


def test_quantifiers_are_postgrests() -> None:
    for operator in list_operators(only_filter({"title": "eq.x"}).operand):
        text = f"{operator}(any).{{a}}"
        if operator in QUANTIFIABLE:
            assert only_filter({"title": text}).quantifier == "any"
        else:
            assert refused({"title": text}).code == "PGRST100"
    comparisons = {"eq", "gt", "gte", "lt", "lte"}
    assert set(QUANTIFIABLE) == {*comparisons, "like", "ilike", "match", "imatch"}
