"""`make preflight` as a process, against the emulator in the place of an account."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from devtools import node
from tests.fixtures.emulator import Emulator, running_emulator
from tests.fixtures.gateway import ROOT


def run(emulator: Emulator, name: str, *options: str) -> tuple[int, list[dict[str, Any]]]:
    env = {
        **node.build_environment(os.environ),
        "AWS_ENDPOINT_URL": emulator.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    command = [sys.executable, "-m", "infra.preflight", name, "--json", *options]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def states(findings: list[dict[str, Any]], check: str) -> dict[str, str]:
    return {one["object"]: one["state"] for one in findings if one["check"] == check}


def test_an_account_with_leftovers_of_an_environment_is_described(tmp_path: Path) -> None:
    with running_emulator(tmp_path) as emulator:
        emulator.client("ssm").put_parameter(
            Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String"
        )
        emulator.client("sqs").create_queue(QueueName="forebay-dev-replay")
        emulator.client("logs").create_log_group(logGroupName="/aws/lambda/forebay-dev-read")

        code, findings = run(emulator, "dev", "--trial")
        apis = emulator.client("apigateway").get_rest_apis()["items"]

    assert code == 1
    assert states(findings, "definition") == {"forebay-dev-trial": "ok"}
    assert apis == []
    assert states(findings, "bootstrap") == {"us-east-1": "ok"}
    assert states(findings, "stack") == {"forebay-dev": "ok"}
    names = states(findings, "names")
    taken = {name for name, state in names.items() if state == "will fail"}
    assert taken == {"forebay-dev-replay", "/aws/lambda/forebay-dev-read"}
    assert names["AWS::S3::Bucket in us-east-1"] == "ok"
    # The emulator lacks these calls: a check without an answer is never `ok`.
    assert set(states(findings, "account plan").values()) == {"unknown"}
    assert set(states(findings, "vpcs").values()) == {"unknown"}
