"""Any text of a request gives a query or a documented problem, in bounded time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forebay.problem import Problem, ProblemError
from forebay.query.grammar import LIST_HEADERS, list_parameters
from forebay.query.representation import parse_representation
from tests.fixtures.queries import RELATIONS, RESOURCES, only_filter, parsed

WORDS = [
    *("eq.", "not.", "in.", "is.", "like(any).", "cs.", "ov.", "fts(english).", "and", "or", "->>"),
    *("->", "0", "a", ",", "(", ")", "{", "}", '"', "\\", "::", ":", ".", "!", "!inner", "*", " "),
    *("title", "pages", "extra", "tags", "author", "authors", "books", "name", "null", "text", "-"),
    *("desc", "nullsfirst", "count=exact", "handling=strict", ";q=0.5", "text/csv", "\x00", "ä"),
]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
PATHS = st.sampled_from(sorted(RESOURCES))


def _problem(parse: Callable[[], object]) -> Problem | None:
    try:
        parse()
    except ProblemError as exc:
        return exc.problem
    return None


# The last test checks the time; a busy machine must not fail the others.
UNHURRIED = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@UNHURRIED
@given(PATHS, st.data())
def test_any_parameters_are_a_query_or_a_problem(path: str, data: st.DataObject) -> None:
    names = st.sampled_from(list_parameters(RESOURCES[path], RELATIONS[path]))
    query = data.draw(st.dictionaries(names, TEXTS, max_size=4))
    if any("." in name for name in query) and data.draw(st.booleans()):
        query["select"] = "*,author(name)" if path == "books" else "books!author_code(title)"
    problem = _problem(lambda: parsed(query, path))
    if problem is not None:
        assert problem.status in {300, 400, 416}
        assert len(problem.detail) < 1000
        orjson.dumps(problem.document("/v1/books"))


@UNHURRIED
@given(st.dictionaries(st.sampled_from([name.lower() for name in LIST_HEADERS]), TEXTS))
@example({"accept": "a" * 20_000})
def test_any_headers_are_a_representation_or_a_problem(headers: dict[str, str]) -> None:
    problem = _problem(lambda: parse_representation(headers))
    if problem is not None:
        assert problem.status in {400, 406}
        assert len(problem.detail) < 1000
        orjson.dumps(problem.document("/v1/books"))


@UNHURRIED
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1))
def test_a_quoted_text_is_read_back_unchanged(values: list[str]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    listed = ",".join(map(quoted, values))
    assert only_filter({"title": f"in.({listed})"}).value == tuple(values)
    assert only_filter({"title": f"eq(any).{{{listed}}}"}).value == tuple(values)
    (group,) = parsed({"or": f"(title.eq.{quoted(values[0])},title.in.({listed}))"}).where.members
    assert [member.value for member in group.members] == [values[0], tuple(values)]  # type: ignore[union-attr]
    tags = only_filter({"tags": f"cs.{{{listed}}}"}).value
    assert orjson.loads(tags if isinstance(tags, str) else "") == values


NASTY: list[Callable[[int], dict[str, str]]] = [
    lambda n: {"and": "(" * n},
    lambda n: {"and": "(and" * (n // 4)},
    lambda n: {"and": '(title.in.("' + '\\"' * (n // 2)},
    lambda n: {"and": '(title.eq."' + '"x,title.eq."' * (n // 13)},
    lambda n: {"and": "(title.eq.{" + "{" * n},
    lambda n: {"and": "(title.like(any)." + "{a," * (n // 3)},
    lambda n: {"title": 'in.("' + '","' * (n // 3)},
    lambda n: {"title": "in.(" + '"\\",' * (n // 4)},
    lambda n: {"title": "eq(any).{" + "a " * (n // 2) + '"}'},
    lambda n: {"title": "eq(any).{" + " " * n + "}"},
    lambda n: {"title": "eq(any).{" + '"' * n + "}"},
    lambda n: {"title": "fts." + " " * n + "("},
    lambda n: {"title": "fts." + "!" * n},
    lambda n: {"title": "fts." + "'" * n},
    lambda n: {"title": "fts." + "a & " * (n // 4)},
    lambda n: {"title": "like." + "\\" * (n + 1)},
    lambda n: {"weight": "eq." + "0" * n},
    lambda n: {"price": "eq." + "9" * n + "e"},
    lambda n: {"pages": "eq." + "9" * n},
    lambda n: {"changed_at": "eq." + "2" * n},
    lambda n: {"extra": "eq." + "[" * n},
    lambda n: {"extra": "eq." + "9" * n},
    lambda n: {"select": "a-" * (n // 2)},
    lambda n: {"select": "a " * (n // 2) + "!"},
    lambda n: {"select": '"' * n},
    lambda n: {"select": "extra" + "->a" * (n // 3)},
    lambda n: {"select": "title," * (n // 6)},
    lambda n: {"select": ",".join(f"a{i}:title" for i in range(n // 8))},
    lambda n: {"order": "extra->a-" * (n // 9)},
    lambda n: {"order": ",".join(f"extra->a{i}" for i in range(n // 10))},
    lambda n: {"limit": "9" * n, "offset": "9" * n},
    lambda n: {"cursor": "A" * n},
]


@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: repr(nasty(12)))
def test_the_time_for_long_texts_is_linear(
    nasty: Callable[[int], dict[str, str]],
) -> None:
    """Twelve times the text may take 12 times as long, not 144 times; the bound is half-way."""

    def seconds(size: int) -> float:
        query = nasty(size)
        best = float("inf")
        for _ in range(5):
            started = time.process_time()
            with contextlib.suppress(ProblemError):
                parsed(query)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(9_600) < max(0.02, 45 * seconds(800))
