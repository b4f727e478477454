"""The operators' tool finds a one-machine stack by the file that the stack writes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from local.credentials import make_secret
from local.outputs import locate_deployment, write_addresses
from local.settings import LocalSettings, Ports
from ops.context import ARCHIVE, DATABASE, Context
from ops.errors import UsageError


@pytest.fixture
def settings(tmp_path: Path) -> LocalSettings:
    """The settings of a stack on unusual ports, after its deployment."""
    new_settings = LocalSettings(tmp_path / "state", Ports.from_base(9100))
    locate_deployment(new_settings).mkdir(parents=True)
    outputs = {"forebay-local-data": {"ArchiveBucketName": "archive"}}
    (locate_deployment(new_settings) / "outputs.json").write_text(json.dumps(outputs))
    make_secret(new_settings.secret)
    return new_settings


def context(settings: LocalSettings) -> Context:
    return Context(env="local", environment={"FOREBAY_STATE": str(settings.state)})


def test_a_started_stack_is_found_with_its_ports_and_keys(settings: LocalSettings) -> None:
    write_addresses(settings)

    stack_context = context(settings)

    assert stack_context.get(ARCHIVE) == "archive"
    assert f":{settings.ports.primary}/" in stack_context.get(DATABASE)
    assert stack_context.s3.meta.endpoint_url == settings.emulator_url
    assert stack_context.firehose.meta.endpoint_url == settings.firehose_url


def test_only_the_owner_may_read_the_keys(settings: LocalSettings) -> None:
    write_addresses(settings)
    write_addresses(settings)

    mode = settings.addresses.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_folder_without_a_stack_is_named_with_the_next_step(tmp_path: Path) -> None:
    empty = LocalSettings(tmp_path, Ports.from_base(9100))
    with pytest.raises(UsageError, match=f"no local stack in {tmp_path}; start it with"):
        context(empty).get(ARCHIVE)
