"""The API's documentation and status, as seen by a client, an operator and a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from devtools.openapi import render_file
from forebay.codec import encode
from tests.fixtures.emulator import wait_until
from tests.fixtures.hand import hand_made
from tests.fixtures.stack import RunningStack, gzipped, new_city

PAGE_SECONDS = 30


def status(stack: RunningStack) -> dict[str, Any]:
    reply = stack.send("GET", "/status")
    assert (reply.status, reply["Cache-Control"], reply["X-Cache"]) == (200, "no-store", None)
    document: dict[str, Any] = reply.json()
    return document


def unreachable(stack: RunningStack) -> set[str]:
    """The codes of unreachable parts. The overall status depends on rejections of other tests."""
    codes = {reason["code"] for reason in status(stack)["reasons"]}
    return codes & {"database_unreachable", "archive_unreachable", "dead_letters_unknown"}


def test_the_served_description_is_that_of_make_openapi(stack: RunningStack) -> None:
    reply = stack.send("GET", "/openapi.json")
    assert reply.status == 200
    assert reply.json() == json.loads(render_file())
    again = stack.send("GET", "/openapi.json", If_None_Match=reply["ETag"] or "")
    assert (again.status, again.body) == (304, b"")


def test_the_root_leads_to_the_rest(stack: RunningStack) -> None:
    for path in ("", "/"):
        links = stack.send("GET", path).json()["links"]
        for link in links.values():
            assert stack.client.get(link).status == 200, link


def test_the_status_shows_how_long_commands_took(stack: RunningStack) -> None:
    for _ in range(3):
        city = new_city()
        stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    assert unreachable(stack) == set()
    report = status(stack)
    assert report["database"]["role"] == "replica"
    assert report["database"]["streaming"] is True
    wait_until(lambda: status(stack)["applied"]["commands"] >= 3, "the status counts the commands")
    applied = status(stack)["applied"]
    assert 0 < applied["p50_seconds"] <= applied["p99_seconds"] < 300


@contextmanager
def left_open(stack: RunningStack, key: str) -> Iterator[None]:
    """Mark an object as partly applied in the ledger while the block runs."""
    ((finished,),) = stack.rows("SELECT completed_at FROM forebay.ledger WHERE object = %s", key)
    change = "UPDATE forebay.ledger SET completed_at = %s WHERE object = %s"
    stack.rows(change, None, key)
    try:
        yield
    finally:
        stack.rows(change, finished, key)


def test_the_status_shows_the_oldest_object_that_is_not_applied(stack: RunningStack) -> None:
    city = new_city()
    stack.wait_for_status(stack.accepted("PUT", f"/cities/{city['geonameid']}", city))
    newest = max(key for key in stack.keys("commands/") if "/forebay-" in key)
    stack.wait_until_applied(newest)
    with left_open(stack, newest):
        wait_until(
            lambda: (status(stack)["archive"]["oldest_unapplied"] or {}).get("object") == newest,
            "the status names the object",
        )
    wait_until(lambda: status(stack)["archive"]["oldest_unapplied"] is None, "and takes it back")


def test_while_the_replica_is_down_the_status_shows_it_and_writes_go_on(
    stack: RunningStack,
) -> None:
    with stack.replica_away():
        wait_until(
            lambda: unreachable(stack) == {"database_unreachable"}, "the status says what is away"
        )
        report = status(stack)
        assert report["status"] == "attention"
        assert report["database"]["state"] == "unreachable"
        assert report["applied"] is None
        stack.accepted("POST", "/cities", new_city())
    wait_until(lambda: unreachable(stack) == set(), "the status is well again")


def test_the_status_calls_for_an_operator_while_a_rejection_is_open(stack: RunningStack) -> None:
    bad = hand_made(new_city(), name="x" * 300)
    stack.wait_until_applied(stack.archive(f"bad-{bad.id}", gzipped([encode(bad)])))
    wait_until(lambda: status(stack)["rejections"]["open"] >= 1, "the replica has the rejection")
    report = status(stack)
    assert report["status"] == "attention"
    assert "rejections_open" in {reason["code"] for reason in report["reasons"]}


class Page:
    """The documentation page in a browser."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        browser.get("about:blank")
        self.complaints()  # discards those of an earlier page
        browser.get(address)

    def find(self, selector: str) -> WebElement:
        return WebDriverWait(self.browser, PAGE_SECONDS).until(
            lambda driver: driver.find_element(By.CSS_SELECTOR, selector)
        )

    def click(self, selector: str) -> None:
        element = self.find(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        WebDriverWait(self.browser, PAGE_SECONDS).until(
            lambda _: element.is_displayed() and element.is_enabled()
        )
        element.click()

    def complaints(self) -> list[str]:
        """The browser console's messages: missing files, policy violations, errors."""
        log: list[dict[str, Any]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log]


@pytest.fixture
def page(stack: RunningStack, browser: Chrome) -> Page:
    return Page(browser, f"http://127.0.0.1:{stack.settings.ports.gateway}/v1/docs")


def test_the_page_shows_every_operation_without_a_complaint(
    stack: RunningStack, page: Page
) -> None:
    page.find(".opblock")
    described = stack.send("GET", "/openapi.json").json()["paths"]
    wanted = sum(len(item) for item in described.values())
    shown = page.browser.find_elements(By.CSS_SELECTOR, ".opblock")
    assert len(shown) == wanted
    assert page.complaints() == []
    loaded = page.browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    own = f"http://127.0.0.1:{stack.settings.ports.gateway}/v1/"
    assert len(loaded) >= 4
    assert [name for name in loaded if not name.startswith((own, "data:"))] == []


def test_a_write_that_is_tried_out_on_the_page_is_accepted_and_applied(
    stack: RunningStack, page: Page
) -> None:
    block = "#operations-announcements-announcements_post"
    page.click(f"{block} .opblock-summary-control")
    page.click(f"{block} .try-out__btn")
    page.find(f"{block} textarea")
    page.click(f"{block} .execute")
    answer = f"{block} .live-responses-table .response"
    assert page.find(f"{answer} .response-col_status").text.split()[0] == "202"
    text = page.find(f"{answer} .highlight-code code").text
    document = json.loads(text)
    assert document["status"] == "pending"
    assert document["resource"] == "announcements"
    assert stack.wait_for_status(document["links"]["status"])["status"] == "applied"
    assert page.complaints() == []
