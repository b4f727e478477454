"""The workflows of GitHub Actions: pinned, with few permissions, and calling targets that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.settings import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
BOOTSTRAP = ROOT / "infra" / "bootstrap"


def read(file: Path) -> Mapping[Any, Any]:
    document: Mapping[Any, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return document


def list_jobs(file: Path) -> list[Mapping[str, Any]]:
    return list(read(file)["jobs"].values())


def list_steps(file: Path) -> Iterator[Mapping[str, Any]]:
    for job in list_jobs(file):
        yield from job.get("steps", ())


def list_commands(file: Path) -> list[str]:
    return [step["run"] for step in list_steps(file) if "run" in step]


def read_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))


def test_there_are_workflows() -> None:
    names = {file.stem for file in WORKFLOWS}
    assert names >= {"check", "deploy", "deploy-environment", "diff", "nightly"}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_command_is_a_target_of_the_makefile(file: Path) -> None:
    commands = list_commands(file)
    targets = [re.fullmatch(r"make ([a-z0-9-]+)(?: .*)?", command) for command in commands]
    assert all(targets), commands
    assert {target[1] for target in targets if target} <= read_targets()


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_each_action_is_pinned_to_a_commit_and_names_its_version(file: Path) -> None:
    lines = re.findall(r"uses: (.*)", file.read_text(encoding="utf-8"))
    assert lines
    for line in lines:
        own = re.fullmatch(r"\./\.github/workflows/[a-z-]+\.yml", line)
        assert own or re.fullmatch(r"[a-z-]+/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
        assert not own or (ROOT / line).is_file(), line


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_and_only_deploying_jobs_get_a_token(file: Path) -> None:
    assert read(file)["permissions"] == {"contents": "read"}
    for job in list_jobs(file):
        permissions = job.get("permissions", {})
        assert set(permissions.items()) <= {("contents", "read"), ("id-token", "write")}
        takes_role = any("role-to-assume" in step.get("with", {}) for step in job.get("steps", ()))
        calls_deployment = "deploy-environment" in job.get("uses", "")
        assert ("id-token" in permissions) == (takes_role or calls_deployment)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_no_expression_is_part_of_a_command(file: Path) -> None:
    """A value in a command would be run by the shell; a value in a variable is text."""
    assert [command for command in list_commands(file) if "${{" in command] == []


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_job_with_steps_ends_and_leaves_no_credentials_in_the_checkout(file: Path) -> None:
    for job in list_jobs(file):
        assert "uses" in job or job["timeout-minutes"] > 0
        for step in job.get("steps", ()):
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_environments_are_deployed_one_after_the_other() -> None:
    """Whatever environments the user deploys; further ones may be deployed by hand only."""
    jobs = read(FOLDER / "deploy.yml")["jobs"]
    names = list(jobs)
    assert names[0] == "check"
    assert [job.get("needs") for job in jobs.values()] == [None, *names[:-1]]
    files = {file.stem for file in (ROOT / "infra" / "environments").glob("*.toml")}
    assert {jobs[name]["with"]["environment"] for name in names[1:]} <= files - {"local"}


def test_an_environment_is_checked_before_it_is_deployed_and_tested_after() -> None:
    (job,) = list_jobs(FOLDER / "deploy-environment.yml")
    targets = [command.split()[1] for command in list_commands(FOLDER / "deploy-environment.yml")]
    assert targets == ["setup", "preflight", "changes", "deploy", "smoke"]
    assert job["environment"] == "${{ inputs.environment }}"
    assert job["concurrency"]["cancel-in-progress"] is False


def test_the_test_of_a_deployment_has_the_credentials_of_every_kind_of_callers() -> None:
    (smoke,) = (
        step
        for step in list_steps(FOLDER / "deploy-environment.yml")
        if "make smoke" in step.get("run", "")
    )
    assert {"KEY", "TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"} <= set(smoke["env"])
    called = read(FOLDER / "deploy-environment.yml")[True]["workflow_call"]["secrets"]
    for job in list_jobs(FOLDER / "deploy.yml"):
        assert "secrets" not in job or set(job["secrets"]) == set(called)


def test_the_role_of_a_deployment_lasts_as_long_as_its_job() -> None:
    file = FOLDER / "deploy-environment.yml"
    (job,) = list_jobs(file)
    (login,) = (step for step in list_steps(file) if "role-to-assume" in step.get("with", {}))
    assert login["with"]["role-duration-seconds"] == 60 * job["timeout-minutes"]


def test_a_role_is_given_to_one_environment_of_one_repository_only() -> None:
    (statement,) = json.loads((BOOTSTRAP / "github-trust-policy.json").read_bytes())["Statement"]
    conditions = statement["Condition"]["StringEquals"]
    issuer = "token.actions.githubusercontent.com"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert conditions == {
        f"{issuer}:aud": "sts.amazonaws.com",
        f"{issuer}:sub": "repo:OWNER/REPOSITORY:environment:ENVIRONMENT",
    }


@pytest.mark.parametrize("name", ["deploy", "diff"])
def test_github_s_roles_may_only_take_the_bootstrap_s_roles(name: str) -> None:
    policy = json.loads((BOOTSTRAP / f"github-{name}-policy.json").read_bytes())
    (statement,) = policy["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    assert ":role/cdk-hnb659fds-" in statement["Resource"]
