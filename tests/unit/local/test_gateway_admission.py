"""A cache hit counts only for callers whom the emulator has recently authorized."""

from local.gateway.admission import ADMITTED_SECONDS, Admissions
from local.gateway.deployed import Method
from local.gateway.messages import Incoming


def method(authorization: str = "NONE", *, api_key: bool = False, resource: str = "r") -> Method:
    return Method(
        resource_id=resource,
        resource_path="/items",
        http_method="GET",
        is_function=True,
        declared=frozenset(),
        timeout_seconds=29,
        authorization=authorization,
        needs_api_key=api_key,
        cache=None,
    )


def request(**headers: str) -> Incoming:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Incoming.parse("GET", "/v1/items", named, peer="")


KEYED = method(api_key=True)
SIGNED = method("COGNITO_USER_POOLS")


def test_an_open_method_is_for_everybody() -> None:
    assert Admissions().covers(method(), request(), now=0)


def test_a_caller_is_known_by_all_of_its_credentials_and_for_a_while() -> None:
    known = Admissions()
    caller = request(x_api_key="a", Authorization="b", Accept="c")
    assert not known.covers(KEYED, caller, now=0)
    known.record(KEYED, caller, now=0)
    assert known.covers(KEYED, request(x_api_key="a", authorization="b"), now=1)
    for other in (
        request(x_api_key="a"),
        request(authorization="b"),
        request(x_api_key="a", authorization="c"),
        request(x_api_key="b", authorization="a"),
        request(x_api_key="", authorization="ab"),
        request(),
    ):
        assert not known.covers(KEYED, other, now=1)
    assert not known.covers(KEYED, caller, now=ADMITTED_SECONDS)


def test_an_empty_header_is_not_a_missing_one() -> None:
    known = Admissions()
    known.record(KEYED, request(x_api_key=""), now=0)
    assert not known.covers(KEYED, request(), now=1)


def test_each_method_judges_for_itself() -> None:
    known = Admissions()
    known.record(SIGNED, request(authorization="a"), now=0)
    other = method("COGNITO_USER_POOLS", resource="other")
    assert known.covers(SIGNED, request(authorization="a"), now=1)
    assert not known.covers(other, request(authorization="a"), now=1)


def test_authorizers_that_may_look_at_anything_are_asked_every_time() -> None:
    known = Admissions()
    for authorization in ("CUSTOM", "AWS_IAM"):
        known.record(method(authorization), request(authorization="a"), now=0)
        assert not known.covers(method(authorization), request(authorization="a"), now=1)
