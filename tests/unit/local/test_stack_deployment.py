"""When a kept deployment is equal to a new deployment."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from infra.settings import ENVIRONMENTS, FunctionName
from local.credentials import make_secret
from local.deployment import Deployed, Deployment
from local.postgres.config import locate_primary, locate_replica
from local.settings import LocalSettings, Ports

OUTPUTS = {
    "forebay-local-data": {
        "ArchiveBucketName": "archive",
        "QueueUrl": "http://queue",
        "DeadLetterQueueUrl": "http://dead",
        "ImportQueueUrl": "http://imports",
        "AttachmentsBucketName": "attachments",
        "UploadQueueUrl": "http://uploads",
    },
    "forebay-local-service": {
        "ApiId": "api",
        "StageName": "v1",
        "WriteFunctionName": "write",
        "ReadFunctionName": "read",
        "StatusFunctionName": "status",
        "AboutFunctionName": "about",
        "ImportsFunctionName": "imports",
        "ConsumerFunctionName": "consumer",
        "MigrateFunctionName": "migrate",
        "SweepFunctionName": "sweep",
    },
}
SOURCES = ("infra/app.py", "lambdas/read/handler.py", "forebay/ids.py", "migrations/env.py")


def deployment(folder: Path, base_port: int = 9000) -> Deployment:
    settings = LocalSettings(folder / "state", Ports.from_base(base_port), folder / "checkout")
    settings.state.mkdir(exist_ok=True)
    make_secret(settings.secret)
    return Deployment(
        settings,
        locate_primary(settings),
        locate_replica(settings),
        settings.root / "infra" / "environments",
    )


@pytest.fixture
def kept(tmp_path: Path) -> Deployment:
    """A deployment made from the unchanged checkout."""
    for name in (*SOURCES, "uv.lock", "cdk.json"):
        file = tmp_path / "checkout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    new_deployment = deployment(tmp_path)
    folder = tmp_path / "state" / "emulator" / "deployed"
    folder.mkdir(parents=True)
    (folder / "outputs.json").write_text(json.dumps(OUTPUTS))
    (folder / "state").mkdir()
    (folder / "state" / "lambda.json").write_text("{}")
    (folder / "fingerprint").write_text(new_deployment.fingerprint())
    return new_deployment


def test_before_the_first_deployment_none_is_kept(tmp_path: Path) -> None:
    assert deployment(tmp_path).find_kept() is None


def test_a_deployment_of_the_same_sources_is_used_again(kept: Deployment) -> None:
    found_again = kept.find_kept()

    assert found_again is not None
    assert (found_again.api_id, found_again.archive_bucket) == ("api", "archive")
    assert (found_again.attachments_bucket, found_again.upload_queue_url) == (
        *("attachments", "http://uploads"),
    )
    assert found_again.functions["firehose_consumer"] == "consumer"
    # Every function may be reloaded after a saved change.
    assert set(found_again.functions) == set(get_args(FunctionName))


def test_a_deployment_without_attachments_has_neither_their_bucket_nor_their_queue() -> None:
    optional = {"AttachmentsBucketName", "UploadQueueUrl"}
    data = OUTPUTS["forebay-local-data"]
    assert optional <= set(data)
    required = {name: value for name, value in data.items() if name not in optional}
    deployed = Deployed.from_outputs({**OUTPUTS, "forebay-local-data": required})

    assert (deployed.attachments_bucket, deployed.upload_queue_url) == (None, None)


def change_a_source(checkout: Path) -> None:
    (checkout / "forebay" / "ids.py").write_text("changed")


def add_a_source(checkout: Path) -> None:
    (checkout / "lambdas" / "read" / "new.py").touch()


def remove_a_source(checkout: Path) -> None:
    (checkout / "migrations" / "env.py").unlink()


def move_a_source(checkout: Path) -> None:
    (checkout / "infra" / "app.py").rename(checkout / "infra" / "application.py")


def change_the_lock_file(checkout: Path) -> None:
    (checkout / "uv.lock").write_text("changed")


@pytest.mark.parametrize(
    "change", [change_a_source, add_a_source, remove_a_source, move_a_source, change_the_lock_file]
)
def test_a_changed_checkout_is_deployed_again(
    kept: Deployment, change: Callable[[Path], None]
) -> None:
    change(kept.settings.root)

    assert kept.find_kept() is None


def test_other_ports_need_another_deployment(kept: Deployment, tmp_path: Path) -> None:
    assert deployment(tmp_path, 9100).find_kept() is None


def test_files_that_python_adds_to_the_sources_change_nothing(kept: Deployment) -> None:
    cache = kept.settings.root / "forebay" / "__pycache__"
    cache.mkdir()
    (cache / "ids.cpython-311.pyc").touch()

    assert kept.find_kept() is not None


@pytest.mark.parametrize("outputs", ["", "{}", '{"forebay-local-data": {}}'])
def test_unreadable_outputs_need_another_deployment(kept: Deployment, outputs: str) -> None:
    (kept.settings.emulator / "deployed" / "outputs.json").write_text(outputs)

    assert kept.find_kept() is None


COGNITO = """
[api.authorization]
kind = "cognito"
"""


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda text: text, False),
        (lambda text: text.replace("require_api_key = false", "require_api_key = true"), True),
        (lambda text: text + COGNITO, True),
    ],
)
def test_the_environment_determines_whether_callers_need_credentials(
    tmp_path: Path, change: Callable[[str], str], *, wanted: bool
) -> None:
    """Then the start asks nothing of its own, and prints no requests that would be refused."""
    file = tmp_path / "checkout" / "infra" / "environments" / "local.toml"
    file.parent.mkdir(parents=True)
    file.write_text(change((ENVIRONMENTS / "local.toml").read_text()))
    assert deployment(tmp_path).requires_credentials() is wanted
