"""`make load` retries transient failures only, and derives no status from doubtful lists."""

import asyncio
from collections import deque
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from loader.__main__ import main
from loader.data import read_countries
from loader.errors import RefusedError, UnreachableError
from loader.loading import Options, load
from loader.progress import Bars
from loader.report import Report
from local.postgres.throwaway import find_free_port
from tests.fixtures.load import ScriptedApi, answers, hangs_up

COUNTRIES = 252


def loaded(api: ScriptedApi, **changes: Any) -> Report:
    """Load the countries and return the report."""
    reports: list[Report] = []
    defaults: dict[str, Any] = {"cities": 0, "connections": 2, "sample": 50, "ask_all": False}

    async def use(base_url: str) -> None:
        options = Options(base_url=base_url, **defaults | changes)
        with Bars(Console(file=StringIO())) as bars:
            reports.append(await load(options, bars))

    asyncio.run(api.serve(use))
    return reports[0]


def test_a_load_watches_a_sample_and_finds_the_others_in_lists() -> None:
    api = ScriptedApi()
    report = loaded(api)
    assert report.is_complete
    assert (report.accepted, report.applied, report.repeated) == (COUNTRIES, COUNTRIES, 0)
    assert report.watched == report.asked == len(set(api.asked)) >= 50
    assert report.visible_seconds.max is not None


def test_batches_have_the_requested_size() -> None:
    api = ScriptedApi()
    assert loaded(api, batch_items=100).is_complete
    assert sorted(len(keys) for keys in api.posts) == [52, 100, 100]


def test_no_list_is_requested_twice_because_the_second_answer_could_be_cached() -> None:
    api = ScriptedApi()
    loaded(api)
    loaded(api)
    targets = [target for target in api.lists if not target.endswith("?limit=1")]
    assert len(targets) == len(set(targets)) >= 4


def test_a_second_load_is_superseded_by_the_first() -> None:
    api = ScriptedApi()
    loaded(api)
    report = loaded(api)
    assert report.is_complete
    assert (report.applied, report.superseded) == (0, COUNTRIES)
    assert report.visible_seconds.max is None


def test_asking_for_all_believes_no_list() -> None:
    api = ScriptedApi(status=lambda key: "superseded" if key == "DE" else "applied")
    report = loaded(api, ask_all=True)
    assert (report.asked, report.superseded) == (COUNTRIES, 1)
    assert len(api.asked) == COUNTRIES


def test_only_the_items_that_were_answered_503_are_sent_again() -> None:
    refusals = {"DE": 2, "FR": 1}

    def refuse(key: str) -> tuple[int, str] | None:
        refusals[key] = refusals.get(key, 0) - 1
        return (503, "not_accepted") if refusals[key] >= 0 else None

    api = ScriptedApi(refuse=refuse)
    report = loaded(api)
    assert report.is_complete
    assert [sorted(keys) for keys in api.posts[1:]] == [["DE", "FR"], ["DE"]]
    assert {"DE", "FR"} <= set(api.asked), "a refused item may have been stored all the same"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_request_that_failed_for_now_is_sent_again(status: int) -> None:
    api = ScriptedApi(misbehaviours=deque([answers(status), answers(status)]))
    report = loaded(api)
    assert report.is_complete
    assert (report.accepted, report.repeated) == (COUNTRIES, 2)


def test_retry_after_is_waited_for() -> None:
    api = ScriptedApi(misbehaviours=deque([answers(429, Retry_After="1")]))
    assert loaded(api).is_complete
    first, second = api.times
    assert second - first >= 1


def test_after_a_broken_connection_lists_are_not_believed() -> None:
    """The first attempt may have made equal rows: then another command was the winner."""
    api = ScriptedApi(misbehaviours=deque([hangs_up]), status=lambda _: "superseded")
    report = loaded(api)
    assert report.is_complete
    assert (report.superseded, report.asked) == (COUNTRIES, COUNTRIES)
    assert report.visible_seconds.max is None, "the rows that were seen were not ours"


def test_a_throttled_request_was_certainly_not_accepted() -> None:
    api = ScriptedApi(misbehaviours=deque([answers(429)]))
    assert loaded(api).asked < COUNTRIES


def test_an_item_refused_for_good_is_not_sent_again_and_makes_the_load_incomplete() -> None:
    api = ScriptedApi(refuse=lambda key: (422, "validation_failed") if key == "DE" else None)
    report = loaded(api)
    assert not report.is_complete
    assert (report.accepted, report.refused, len(api.posts)) == (COUNTRIES - 1, 1, 1)
    assert report.complaint == "refused, for example countries 'DE': validation_failed: because"


def test_a_finally_refused_request_ends_the_load_with_the_message_of_the_api() -> None:
    api = ScriptedApi(misbehaviours=deque([answers(403)]))
    with pytest.raises(RefusedError, match=r"POST .*countries answers 403: as the test wants it"):
        loaded(api)
    assert api.posts == []


def test_a_rejected_command_makes_the_load_incomplete() -> None:
    api = ScriptedApi(status=lambda key: "rejected" if key == "DE" else "applied")
    report = loaded(api, ask_all=True)
    assert not report.is_complete
    assert report.rejected == 1
    assert report.complaint is not None
    assert "/v1/countries/DE/commands/" in report.complaint


def test_rows_that_stay_invisible_are_counted_as_missing_after_a_while() -> None:
    report = loaded(ScriptedApi(is_visible=False), visible_patience_seconds=0.2)
    assert not report.is_complete
    assert report.missing == COUNTRIES
    assert report.complaint is not None
    assert report.complaint.startswith("still pending, for example /v1/countries/")


def test_patience_with_an_api_that_only_fails_ends() -> None:
    api = ScriptedApi(misbehaviours=deque([answers(503)] * 100))
    with pytest.raises(UnreachableError, match=r"gave up after 0 s: .* answers 503: as the test"):
        loaded(api, patience_seconds=0.4)


def test_the_status_of_a_row_that_differs_is_requested() -> None:
    api = ScriptedApi(rows={"DE": {}}, is_visible=False)
    api.rows.clear()
    other = {
        **next(country.body for country in read_countries() if country.key == "DE"),
        "name": "X",
    }

    def refuse(key: str) -> None:
        api.is_visible = True
        if key == "DE":
            api.rows["DE"] = dict(other)

    api.refuse = refuse
    report = loaded(api, sample=1)
    assert report.is_complete
    assert "DE" in api.asked
    assert report.asked == 2, "it, and the one that was watched"


def test_without_an_api_the_command_names_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", str(find_free_port())]) == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert "start the stack with `make run`" in output.err


@pytest.mark.parametrize(
    "wrong", [["--port", "0"], ["--cities", "-1"], ["--sample", "0"], ["--batch", "501"], ["x"]]
)
def test_wrong_usage_has_an_exit_code_of_its_own(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
