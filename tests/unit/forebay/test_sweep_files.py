"""The selection of missed files: bounded, and the oldest first in any order of the listing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from forebay import sweep
from forebay.sweep import is_explained_by_backlog, survey_files

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class File:
    """An object in a listing."""

    key: str
    modified: dt.datetime


@st.composite
def listings(draw: st.DrawFn) -> list[File]:
    """Files in the order of their keys, with ages in any order, some of them equal."""
    ages = draw(st.lists(st.integers(0, 20), max_size=30))
    return [
        File(f"uploads/{number:03}", NOW - dt.timedelta(minutes=age))
        for number, age in enumerate(ages)
    ]


@given(listings(), st.integers(1, 10), st.integers(0, 20))
def test_a_sweep_selects_the_oldest_missed_files_and_no_more_than_its_limit(
    files: list[File], limit: int, grace: int
) -> None:
    born_before = NOW - dt.timedelta(minutes=grace)
    survey = survey_files(files, born_before=born_before)
    with patch.object(sweep, "FILES_AT_ONCE", limit):
        keys = survey.select_oldest()

    by_key = {file.key: file.modified for file in files}
    missed = {key for key, modified in by_key.items() if modified <= born_before}
    others = missed - set(keys)
    assert len(keys) == len(set(keys)) == min(limit, len(missed))
    assert set(keys) <= missed
    assert [by_key[key] for key in keys] == sorted(by_key[key] for key in keys)
    assert all(by_key[key] <= by_key[other] for key in keys[-1:] for other in others)


@given(listings(), st.integers(1, 10))
def test_sweeps_select_each_missed_file_once_if_the_selected_files_are_read(
    files: list[File], limit: int
) -> None:
    remaining, selected = list(files), list[str]()
    with patch.object(sweep, "FILES_AT_ONCE", limit):
        while keys := survey_files(remaining).select_oldest():
            selected += keys
            remaining = [file for file in remaining if file.key not in keys]
    assert sorted(selected) == [file.key for file in files]


def test_a_backlog_of_one_sweep_s_size_explains_more_missed_files_than_it_holds() -> None:
    survey = survey_files([File(f"uploads/{number}", NOW - HOUR) for number in range(3)])
    with patch.object(sweep, "FILES_AT_ONCE", 2):
        explained = [
            is_explained_by_backlog(survey, waiting, now=NOW, patience=2 * HOUR)
            for waiting in (1, 2)
        ]
        late = is_explained_by_backlog(survey, 2, now=NOW, patience=HOUR)
    assert (explained, late) == ([False, True], False)
