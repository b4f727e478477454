"""A caller's scopes bound every list: no answer depends on rows of other resources.

Each question is sent to two databases that differ in exactly the resources that the caller may
not read: other values, other keys, another number of rows. Different answers would leak them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import pytest
from pydantic import Field

from forebay.access import KINDS, Access, read_scope
from forebay.command import Command
from forebay.http import Response
from forebay.query.grammar import LOGIC, list_parameters
from forebay.resource import Key, References, Resource
from forebay.resource.relations import find_relations
from forebay.resource.spec import Kind
from local.postgres.config import OWNER
from tests.fixtures import model
from tests.fixtures.api import OPEN
from tests.fixtures.commands import command_id
from tests.fixtures.postgres import PostgresServer, cloned_database
from tests.fixtures.reading import Reader, close, reader_for
from tests.fixtures.tables import Database, create_tables, open_connection

QUESTIONS = 400
MANY_QUESTIONS = 20_000
ROLE = "arn:aws:iam::123456789012:role/reports"


class Visit(Resource, path="visits"):
    """A resource that refers to both others, and so connects them."""

    number: Annotated[int, Field(ge=0), Key()]
    note: str
    shelf: Annotated[str | None, Field(max_length=10), References("shelves", name="at")] = None
    specimen: Annotated[int | None, Field(ge=0), References("specimens")] = None


RESOURCES: Final = {**model.RESOURCES, "visits": Visit.spec_}
RELATIONS: Final = find_relations(RESOURCES)
#: For each resource, its rows, and its rows in a database in which it differs.
ROWS: Final[Mapping[str, tuple[list[tuple[Any, dict[str, Any]]], ...]]] = {
    "shelves": (
        [(code, {"label": f"kept {label}"}) for code, label in model.SHELVES],
        [(code, {"label": f"else {label}"}) for code, label in model.SHELVES[1:]],
    ),
    "specimens": tuple(
        [
            (command.key, dict(command.body or {}))
            for command in model.commands(model.random_rows(seed, count))
            if command.resource == "specimens"
        ]
        for seed, count in ((2, 60), (3, 50))
    ),
    "visits": tuple(
        [
            (n, {"note": f"{mark} {n}", "shelf": f"s{n % 5}", "specimen": n * step})
            for n in range(count)
        ]
        for mark, count, step in (("kept", 30, 2), ("else", 20, 3))
    ),
}


@dataclass(frozen=True)
class Question:
    """A request, and the resources that its caller may read."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    readable: frozenset[str]


@dataclass(frozen=True)
class Worlds:
    """Readers, by the resources in which their database differs and the kind of authorization."""

    readers: Mapping[tuple[frozenset[str], str], Reader]

    def ask(self, question: Question, differing: frozenset[str], kind: str) -> Response:
        """Return the answer of one database."""
        headers = {name.replace("-", "_"): value for name, value in question.headers.items()}
        return self.readers[differing, kind].get(
            question.path,
            query=question.query,
            caller=caller(kind, question.readable),
            **headers,
        )


def caller(kind: str, readable: frozenset[str]) -> Mapping[str, Any]:
    """Build API Gateway's context of a caller with the scopes to read these resources."""
    scope = " ".join(f"forebay/{read_scope(path)}" for path in sorted(readable))
    match kind:
        case "cognito":
            return {"authorizer": {"claims": {"scope": scope}}}
        case "lambda":
            return {"authorizer": {"scope": scope}}
        case _:
            return {"identity": {"userArn": f"{ROLE}-{'-'.join(sorted(readable))}"}}


def access(kind: str) -> Access:
    if kind != "iam":
        return Access(kind)
    granted = {
        caller("iam", subset)["identity"]["userArn"]: frozenset(map(read_scope, subset))
        for subset in subsets()
    }
    return Access("iam", granted)


def subsets() -> Iterator[frozenset[str]]:
    for size in range(len(RESOURCES) + 1):
        yield from map(frozenset, combinations(sorted(RESOURCES), size))


def fill(url: str, differing: frozenset[str]) -> None:
    with open_connection(url) as connection:
        create_tables(connection, RESOURCES)
        rows = [
            (path, key, body)
            for path in RESOURCES
            for key, body in ROWS[path][int(path in differing)]
        ]
        Database(url, connection).apply(
            [
                Command(command_id(number), "put", path, key, 1, "t", None, body)
                for number, (path, key, body) in enumerate(rows)
            ],
            resources=RESOURCES,
        )
        # Equal rows then have equal estimates.
        connection.execute("ANALYZE")


@pytest.fixture(scope="module")
def worlds(postgres_cluster: PostgresServer) -> Iterator[Worlds]:
    readers: dict[tuple[frozenset[str], str], Reader] = {}
    with ExitStack() as stack:
        for differing in subsets():
            url = postgres_cluster.url(
                OWNER, stack.enter_context(cloned_database(postgres_cluster))
            )
            fill(url, differing)
            for kind in KINDS:
                reader = readers[differing, kind] = reader_for(url, RESOURCES, access=access(kind))
                stack.callback(close, reader)
        yield Worlds(readers)


#: Values for comparisons, by the column's kind; each kind gets the operators that it supports.
VALUES: Final[Mapping[Kind, Sequence[str]]] = {
    Kind.TEXT: ("kept upper", "else upper", "kept 4", "s1", "a", "cat", "zz"),
    Kind.INTEGER: ("0", "4", "40", "-1"),
    Kind.FLOAT: ("0", "1.5", "-2.25"),
    Kind.DECIMAL: ("0.01", "10", "-1.5"),
    Kind.BOOLEAN: ("true", "false"),
    Kind.DATE: ("1999-12-31", "2026-02-28"),
    Kind.TIMESTAMP: ("2026-02-28T12:00:00Z",),
    Kind.UUID: ("00000000-0000-0000-0000-000000000001",),
    Kind.JSON: ('["a"]', '{"a":1}', "[1,2]"),
}
COMPARISONS: Final = (
    *("{c}.eq.{v}", "{c}.neq.{v}", "{c}.gt.{v}", "{c}.gte.{v}", "{c}.lt.{v}", "{c}.lte.{v}"),
    *("{c}.isdistinct.{v}", "{c}.not.eq.{v}", "{c}.in.({q})", "{c}.is.null", "{c}.not.is.null"),
    *("{c}.eq(any).{{{q}}}", "{c}.gt(all).{{{q}}}"),
)
PATTERNS: Final = (
    *(
        "{c}.like.*{v}*",
        "{c}.ilike.k*",
        "{c}.match.^e",
        "{c}.imatch.{v}",
        "{c}.like(any).{{k*,e*}}",
    ),
    *("{c}.fts.kept", "{c}.plfts.{v}", "{c}.phfts(english).{v}", "{c}.wfts.{v}"),
)
OPERATORS: Final[Mapping[Kind, Sequence[str]]] = {
    **dict.fromkeys(VALUES, COMPARISONS),
    Kind.BOOLEAN: ("{c}.is.true", "{c}.is.unknown", "{c}.eq.{v}", "{c}.not.is.false"),
    Kind.TEXT: (*COMPARISONS, *PATTERNS),
    Kind.JSON: ("{c}.cs.{v}", "{c}.cd.{v}", "{c}->a.eq.1", "{c}->>0.eq.a", "{c}.is.null"),
}


class Asking:
    """Draws questions of the whole grammar, including parts that lists refuse, by any caller."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def question(self) -> Question:
        """Draw a request to a list that the caller may read."""
        draw = self._random
        path = draw.choice(sorted(RESOURCES))
        members, query, reached = self._members(path)
        query |= {**self._conditions(path), "select": ",".join(members)}
        if draw.random() < 0.5:
            query["order"] = self._order(path) + draw.choice(["", ".desc", ".asc.nullsfirst"])
        query |= draw.choice([{}, {"limit": "2"}, {"limit": "5", "offset": "3"}])
        if draw.random() < 0.1:
            name = draw.choice(list_parameters(RESOURCES[path], RELATIONS[path]))
            query[name] = draw.choice(["eq.a", "1", "name", "(label.eq.a)", ""])
        headers = {
            "Accept": draw.choice(["text/csv", "application/json", "*/*"]),
            "Prefer": draw.choice(["", "count=exact", "count=planned", "count=estimated"]),
            **draw.choice([{}, {}, {"Range": "0-4"}, {"Range": "2-"}]),
        }
        # Prefer callers that may read all resources of the question, or all but one.
        exact = {path, *reached}
        lacking = exact - {draw.choice(sorted(exact))}
        readable = draw.choice([draw.choice([*subsets()]), exact, lacking])
        return Question(path, query, headers, frozenset({path, *readable}))

    def _order(self, path: str) -> str:
        draw = self._random
        if draw.random() < 0.1:
            return f"{draw.choice(draw.choice(RELATIONS[path]).names)}(label)"
        column = draw.choice(RESOURCES[path].columns)
        return f"{column.name}->a" if column.kind is Kind.JSON else column.name

    def _condition(self, path: str) -> str:
        draw = self._random
        column = draw.choice(RESOURCES[path].columns)
        values = VALUES[column.kind]
        several = ",".join(draw.sample(values, min(2, len(values))))
        operator = draw.choice(OPERATORS[column.kind])
        return operator.format(c=column.name, v=draw.choice(values), q=several)

    def _conditions(self, path: str) -> dict[str, str]:
        """Draw filters on a resource's columns, alone and in parentheses."""
        draw = self._random
        alone = [self._condition(path) for _ in range(draw.choice([0, 0, 1]))]
        conditions = dict(text.split(".", 1) for text in alone if "->" not in text)
        if draw.random() < 0.3:
            inside = ",".join(self._condition(path) for _ in range(draw.choice([1, 2, 3])))
            conditions[draw.choice(LOGIC)] = f"({inside})"
        return conditions

    def _members(self, path: str, depth: int = 0) -> tuple[list[str], dict[str, str], set[str]]:
        """Draw members of `select`, the parameters of its relations, and the related resources."""
        draw = self._random
        columns = [column.name for column in RESOURCES[path].columns]
        members = draw.sample(columns, draw.choice([0, 1, 2]))
        parameters: dict[str, str] = {}
        reached: set[str] = set()
        for number in range(draw.choice([0, 1, 1, 2]) if depth == 0 else draw.random() < 0.05):
            spelled, more, others = self._embedded(path, depth, f"m{number}")
            members.append(spelled)
            parameters |= more
            reached |= others
        if depth == 0 and not any(member in columns for member in members):
            members.append("*")
        return members, parameters, reached

    def _embedded(self, path: str, depth: int, alias: str) -> tuple[str, dict[str, str], set[str]]:
        draw = self._random
        relation = draw.choice(RELATIONS[path])
        name, target = draw.choice(relation.names), relation.target.path
        inside, more, reached = self._members(target, depth + 1)
        parameters = {**self._conditions(target), **more}
        if relation.many and draw.random() < 0.5:
            parameters |= {"order": self._order(target), "limit": draw.choice(["1", "3"])}
        spread = draw.choice([f"{alias}:"] * 9 + ["..."])
        join = draw.choice(["", "!inner", "!left"])
        spelled = f"{spread}{name}!{relation.hint}{join}({','.join(inside)})"
        return spelled, {f"{name}.{n}": v for n, v in parameters.items()}, {target, *reached}


def told(response: Response) -> tuple[int, str, Mapping[str, str]]:
    return response.status, response.body, response.headers


def check_many(worlds: Worlds, seeds: range) -> None:
    seen: Counter[str] = Counter()
    nothing: frozenset[str] = frozenset()
    for seed in seeds:
        question = Asking(seed).question()
        kind = KINDS[1 + seed % 3]
        hidden = frozenset(RESOURCES) - question.readable
        here, there = (worlds.ask(question, which, kind) for which in (nothing, hidden))
        assert told(here) == told(there), (seed, kind, question)
        seen[str(here.status)] += 1
        seen["related"] += here.status in {200, 206} and "(" in question.query["select"]
        if here.status == 403:
            everyone = [worlds.ask(question, which, "none") for which in (nothing, hidden)]
            seen["would tell"] += told(everyone[0]) != told(everyone[1])
    # Without the check, many of the questions would have leaked data; with it, many are still
    # answered, with relations among them.
    assert seen["would tell"] > len(seeds) / 20, seen
    assert seen["200"] + seen["206"] > len(seeds) / 4, seen
    assert seen["related"] > len(seeds) / 20, seen


def test_no_answer_depends_on_a_resource_that_the_caller_may_not_read(worlds: Worlds) -> None:
    check_many(worlds, range(QUESTIONS))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_answer_of_many_more_depends_on_rows_that_the_caller_may_not_read(
    worlds: Worlds,
) -> None:
    check_many(worlds, range(QUESTIONS, MANY_QUESTIONS))


#: Every use of a reference, in both directions: shown, tested for existence, filtered, ordered by.
BYPASSES: Final = [
    ("specimens", {"select": "number,place(*)"}, "shelves"),
    ("specimens", {"select": "number,place!inner()", "place.label": "like.kept*"}, "shelves"),
    ("shelves", {"select": "code,specimens(*)"}, "specimens"),
    ("shelves", {"select": "code,specimens!inner()", "specimens.label": "eq.a"}, "specimens"),
    ("shelves", {"select": "code,x:visits(number)", "visits.order": "note.desc"}, "visits"),
    ("visits", {"select": "number,at()", "at.label": "eq.kept upper"}, "shelves"),
]


@pytest.mark.parametrize("kind", ["cognito", "lambda", "iam"])
@pytest.mark.parametrize(("path", "query", "other"), BYPASSES, ids=str)
def test_a_relation_requires_the_scope_of_its_target(
    worlds: Worlds, kind: str, path: str, query: Mapping[str, str], other: str
) -> None:
    def statuses(*readable: str) -> set[int]:
        reader = worlds.readers[frozenset(), kind]
        who = caller(kind, frozenset(readable))
        form = reader.ask(path, urlencode(query), caller=who)
        return {form.status} | {
            reader.get(path, query=query, method=method, caller=who).status
            for method in ("GET", "HEAD")
        }

    assert statuses(path) == {403}
    assert statuses(path, other) == {200}


@pytest.mark.parametrize(("path", "query", "other"), BYPASSES, ids=str)
def test_a_refusal_names_the_resource_without_a_query(
    postgres_cluster: PostgresServer, path: str, query: Mapping[str, str], other: str
) -> None:
    reader = reader_for("postgresql://nobody@127.0.0.1:1/none", RESOURCES, access=access("cognito"))
    response = reader.get(path, query=query, caller=caller("cognito", frozenset({path})))
    assert response.status == 403
    assert f"forebay/{other}.read" in response.body


def test_without_authorization_relations_are_open_to_all(worlds: Worlds) -> None:
    reader = worlds.readers[frozenset(), OPEN.kind]
    assert {reader.get(path, query=query).status for path, query, _ in BYPASSES} == {200}


def test_a_refusal_is_not_remembered_for_the_next_caller(worlds: Worlds) -> None:
    """The parsed query and its statement are cached between requests; the decision is not."""
    path, query, other = BYPASSES[0]
    reader = worlds.readers[frozenset(), "cognito"]
    callers = [frozenset({path}), frozenset({path, other}), frozenset({path})]
    answers = [
        reader.get(path, query=query, caller=caller("cognito", readable)).status
        for readable in callers
    ]
    assert answers == [403, 200, 403]
