"""The requests that a server of this machine answers, by the headers that browsers send."""

import pytest

from local.origins import Policy

OWN = "127.0.0.1:8080"


def refused(
    host: str = OWN,
    *,
    origin: str | None = None,
    site: str | None = None,
    hosts: frozenset[str] = frozenset(),
    declared: str | None = None,
) -> bool:
    policy = Policy(hosts=hosts, declared_origin=declared)
    reason = policy.find_refusal(
        hosts=[host],
        origins=[] if origin is None else [origin],
        sites=[] if site is None else [site],
    )
    return reason is not None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", OWN, "127.8.9.1:1", "localhost", "LOCALHOST:8080", "a.localhost", "[::1]:8080"],
)
def test_every_loopback_name_is_answered(host: str) -> None:
    assert not refused(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evillocalhost", "10.0.0.1:8080", "0.0.0.0:8080", "[::]:8080", "[::1", "::1"),
        *("", " ", "127.0.0.1:8080@evil.example", "evil@127.0.0.1", "127.0.0.1/evil.example"),
        *("127.0.0.1 evil", "127.0.0.1:80:80", "127.0.0.1,evil.example", "2130706433", "127.1"),
    ],
)
def test_a_name_that_may_mean_another_machine_is_refused(host: str) -> None:
    """The owner of such a name can make it resolve to 127.0.0.1 (DNS rebinding)."""
    assert refused(host)


def test_a_request_without_or_with_a_foreign_second_host_is_refused() -> None:
    for hosts in ([], [OWN, "evil.example"], ["evil.example", OWN]):
        assert Policy().find_refusal(hosts=hosts, origins=[], sites=[]) is not None


def test_a_setting_adds_names_and_their_pages() -> None:
    assert not refused("devbox:8080", hosts=frozenset({"devbox"}))
    assert not refused("DEVBOX:8080", origin="http://devbox:8080", hosts=frozenset({"devbox"}))
    assert refused("devbox.evil.example", hosts=frozenset({"devbox"}))


def test_a_page_of_the_server_itself_is_answered() -> None:
    assert not refused(origin=f"http://{OWN}", site="same-origin")


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "http://evil.example:8080", "null", "", "http://127.0.0.1:8081"),
        *("http://localhost:8080", "http://127.0.0.1:8080.evil.example", "file://", "http://["),
        f"chrome-extension://{OWN}",
    ],
)
@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "same-origin"])
def test_a_page_of_another_origin_is_refused(origin: str, site: str | None) -> None:
    assert refused(origin=origin, site=site)


def test_one_foreign_origin_among_several_is_refused() -> None:
    origins = [f"http://{OWN}", "https://evil.example"]
    assert Policy().find_refusal(hosts=[OWN], origins=origins, sites=[]) is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "what-comes-next"])
def test_loads_of_foreign_pages_without_an_origin_are_refused(site: str) -> None:
    """Images, scripts, frames and links."""
    assert refused(site=site)
    assert refused(site=site, declared="*")


@pytest.mark.parametrize("site", [None, "none", "same-origin"])
def test_requests_of_programs_and_of_the_user_are_answered(site: str | None) -> None:
    assert not refused(site=site)


def test_the_origin_that_the_api_declares_is_answered_and_no_other() -> None:
    declared = "https://app.example"
    assert not refused(origin=declared, site="cross-site", declared=declared)
    assert refused(origin="https://app.example.evil.example", declared=declared)
    assert refused(origin="http://app.example", declared=declared)
    assert refused(origin="http://localhost:3000", declared=declared)


def test_every_declared_origin_means_every_origin_of_this_machine() -> None:
    """Pages of the internet must not reach a developer's machine."""
    assert not refused(origin="http://localhost:3000", site="cross-site", declared="*")
    assert not refused(origin="http://127.0.0.1:3000", site="same-site", declared="*")
    assert refused(origin="https://evil.example", site="cross-site", declared="*")
    assert refused(origin="null", declared="*")


def test_a_declared_origin_opens_no_foreign_host() -> None:
    assert refused("evil.example:8080", origin="http://evil.example:8080", declared="*")
