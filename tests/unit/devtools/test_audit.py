"""The results of `make audit`, for answers of its sources and for missing answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from devtools.audit import INCOMPLETE, Answer, audit, conclude, read_npm_audit, read_pip_audit
from local.settings import ROOT

CLEAR = Answer("PyPI", asked_about=95)
HOLE = Answer("npm", asked_about=40, holes=("tar: high",))
SILENT = Answer("npm", not_asked=("everything (connection refused)",))


def test_packages_without_known_holes_are_counted() -> None:
    report = {"dependencies": [{"name": "a", "version": "1", "vulns": []}], "fixes": []}

    assert read_pip_audit(json.dumps(report), "") == Answer("PyPI", asked_about=1)


def test_a_hole_is_named_with_the_version_that_mends_it() -> None:
    holes = [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}, {"id": "PYSEC-2"}]
    report = {"dependencies": [{"name": "a", "version": "2.0", "vulns": holes}]}

    assert read_pip_audit(json.dumps(report), "").holes == (
        "a 2.0: PYSEC-1, fixed in 2.1, 3.0",
        "a 2.0: PYSEC-2, not fixed yet",
    )


def test_a_package_that_pypi_does_not_know_is_named() -> None:
    skipped = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
    report = {"dependencies": [{"name": "a", "version": "1", "vulns": []}, skipped]}

    answer = read_pip_audit(json.dumps(report), "")
    assert (answer.asked_about, answer.holes) == (1, ())
    assert answer.not_asked == ("b (Dependency not found on PyPI)",)


@pytest.mark.parametrize("said", ["", "{", "[]", '{"dependencies": 1}', "null"])
def test_without_a_report_pip_audit_has_not_checked_anything(said: str) -> None:
    answer = read_pip_audit(said, "WARNING: x\nERROR: Could not connect to PyPI\n")

    assert answer == Answer("PyPI", not_asked=("everything (ERROR: Could not connect to PyPI)",))


def test_npm_s_holes_are_those_of_its_report() -> None:
    report = {
        "auditReportVersion": 2,
        "vulnerabilities": {
            "tar": {"severity": "high", "range": "<7", "fixAvailable": True},
            "cdk": {"severity": "low", "range": "*", "fixAvailable": False},
        },
        "metadata": {"dependencies": {"total": 40}},
    }

    assert read_npm_audit(json.dumps(report), "") == Answer(
        "npm",
        asked_about=40,
        holes=("cdk *: low, not fixed yet", "tar <7: high, fixed by `npm audit fix`"),
    )


@pytest.mark.parametrize(
    "report",
    [
        {"message": "request to https://registry.npmjs.org failed", "error": {"summary": ""}},
        {"error": {"code": "ENOAUDIT", "summary": "request to https://registry.npmjs.org failed"}},
    ],
)
def test_an_error_of_npm_does_not_count_as_a_clean_report(report: object) -> None:
    answer = read_npm_audit(json.dumps(report), "npm error audit endpoint returned an error")

    assert answer.holes == ()
    assert answer.not_asked == ("everything (request to https://registry.npmjs.org failed)",)


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([CLEAR], 0, "audit: no known vulnerabilities"),
        ([CLEAR, HOLE], 1, "audit: known vulnerabilities: npm"),
        (
            [CLEAR, SILENT],
            INCOMPLETE,
            "audit: incomplete, so this is not a result; not queried: npm",
        ),
        ([HOLE, SILENT], 1, "audit: incomplete, so this is not a result; not queried: npm"),
    ],
)
def test_an_incomplete_audit_is_not_a_result(
    capsys: pytest.CaptureFixture[str], answers: list[Answer], code: int, said: str
) -> None:
    assert conclude(answers) == code
    assert said in capsys.readouterr().out


def test_without_the_internet_both_sources_are_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Run the real tools; all of their requests go to a closed port."""
    nowhere = "http://127.0.0.1:9"
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "npm_config_registry"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("PIP_AUDIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    assert audit(ROOT) == INCOMPLETE
    output = capfd.readouterr().out
    assert "PyPI: could not be queried for everything" in output
    assert "npm: could not be queried for everything" in output
    assert "not queried: PyPI, npm" in output
