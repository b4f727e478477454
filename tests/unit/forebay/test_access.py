"""Scopes for the resources that a request names besides its path."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from forebay.access import KINDS, Access, principal, read_scope, write_scope
from forebay.errors import SettingsError
from forebay.problem import ProblemError
from forebay.query.named import find_named_resources
from tests.fixtures.queries import RELATIONS, RESOURCES, parsed

ROLE = "arn:aws:iam::123456789012:role/team/reports"
SESSION = "arn:aws:sts::123456789012:assumed-role/reports/session"
USER = "arn:aws:iam::123456789012:user/team/ann"
#: By kind of authorizer: a caller with the scopes `authors.read` and `books.write`.
GRANTED = "forebay/authors.read forebay/books.write"
CALLERS: Mapping[str, Mapping[str, Any]] = {
    "cognito": {"authorizer": {"claims": {"sub": "x", "scope": GRANTED}}},
    "lambda": {"authorizer": {"principalId": "x", "scope": GRANTED}},
    "iam": {"identity": {"userArn": SESSION}},
}
PRINCIPALS = json.dumps({ROLE: ["authors.read", "books.write"], USER: ["books.read"]})


def access(kind: str) -> Access:
    return Access.parse(kind, PRINCIPALS if kind == "iam" else "")


@pytest.mark.parametrize("kind", CALLERS)
def test_a_caller_has_the_scopes_that_the_authorizer_shows_and_no_other(kind: str) -> None:
    allowed = {
        scope
        for resource in ("authors", "books", "author", "s", "")
        for scope in (read_scope(resource), write_scope(resource))
        if access(kind).allows(CALLERS[kind], scope)
    }
    assert allowed == {"authors.read", "books.write"}


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(
    "caller",
    [
        {},
        {"authorizer": None, "identity": None},
        {"authorizer": {"claims": None, "scope": None}},
        {"authorizer": {"claims": {"scope": ["forebay/authors.read"]}, "scope": 5}},
        {"authorizer": {"claims": {"scope": "authors.read"}, "scope": "authors.read"}},
        {"authorizer": {"claims": {"scope": "x forebay/authors.reader"}, "scope": "forebay/"}},
        {"identity": {"userArn": None}},
        {"identity": {"userArn": "arn:aws:sts::999999999999:assumed-role/reports/session"}},
        {"identity": {"userArn": "arn:aws:sts::123456789012:federated-user/reports"}},
        {"identity": {"userArn": "arn:aws:iam::123456789012:user/reports"}},
    ],
    ids=str,
)
def test_a_scope_that_is_not_shown_is_not_there(kind: str, caller: Mapping[str, Any]) -> None:
    assert not access(kind).allows(caller, "authors.read")


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("other", CALLERS)
def test_claims_of_another_kind_of_authorizer_are_ignored(kind: str, other: str) -> None:
    assert access(kind).allows(CALLERS[other], "authors.read") is (kind == other)


def test_without_authorization_everything_is_allowed() -> None:
    access("none").require({}, {"authors": "authors.read", "books": "books.write"})


@pytest.mark.parametrize(
    ("arn", "found"),
    [
        (SESSION, "arn:aws:iam::123456789012:role/reports"),
        (ROLE, "arn:aws:iam::123456789012:role/reports"),
        (USER, USER),
        (SESSION.replace("aws:sts", "aws-cn:sts"), "arn:aws-cn:iam::123456789012:role/reports"),
    ],
)
def test_a_session_stands_for_its_role_wherever_the_role_is_filed(arn: str, found: str) -> None:
    assert principal(arn) == found


def test_a_refusal_names_the_first_missing_scope_and_its_resource() -> None:
    with pytest.raises(ProblemError) as caught:
        access("cognito").require(
            CALLERS["cognito"], {"books": "library.read", "authors": "authors.read"}
        )
    problem = caught.value.problem
    assert (problem.status, problem.code) == (403, "forbidden")
    assert (
        problem.detail
        == "the request also reads books, which requires the scope forebay/library.read"
    )
    assert "books" in str(problem.hint)


@pytest.mark.parametrize(
    ("kind", "principals"),
    [("", ""), ("open", ""), ("iam", "["), ("iam", "[]"), ("iam", "5"), ("iam", '{"a":5}')],
)
def test_settings_that_mean_nothing_stop_the_function(kind: str, principals: str) -> None:
    with pytest.raises(SettingsError, match=r"authorization|principals"):
        Access.parse(kind, principals)
    assert kind == "iam" or kind not in KINDS


@pytest.mark.parametrize(
    ("path", "query", "names"),
    [
        ("books", {}, set()),
        ("books", {"title": "eq.x", "order": "author_code"}, set()),
        ("books", {"select": "isbn,author(name)"}, {"authors"}),
        ("books", {"select": "isbn,author!inner()", "author.name": "like.S*"}, {"authors"}),
        ("authors", {"select": "code,books!author_code()", "books.order": "title"}, {"books"}),
        ("authors", {"select": "code,mentor(name)"}, {"authors"}),
    ],
    ids=str,
)
def test_a_query_names_the_resources_of_its_relations(
    path: str, query: dict[str, str], names: set[str]
) -> None:
    assert find_named_resources(parsed(query, path)) == names


@dataclass(frozen=True)
class Later:
    """A kind of member that the grammar does not have yet."""

    inside: object


def test_a_resource_is_found_at_any_depth_and_in_any_kind_of_member() -> None:
    author, *_ = RELATIONS["books"]
    assert find_named_resources(Later(({"a": [Later(author)]},))) == {"authors"}
    assert find_named_resources(Later(frozenset({5}))) == set()
    assert find_named_resources((RESOURCES["books"], Later(author.target))) == {"authors", "books"}
