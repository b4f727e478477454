"""Each file in `infra/environments/` has valid settings; `make templates` synthesises them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import Settings
from local.settings import ROOT
from ops.cost.settings import load
from ops.errors import UsageError

#: The values that `make run` adds.
_CONTEXT = {
    "database_url": "postgresql://forebay@127.0.0.1:8083/forebay",
    "replica_url": "postgresql://forebay@127.0.0.1:8084/forebay",
    "firehose_endpoint": "http://127.0.0.1:8082",
    "read_cache": "valkey://127.0.0.1:8085",
}
_FILES = sorted((ROOT / "infra" / "environments").glob("*.toml"))


def read(file: Path) -> Settings:
    """The settings."""
    return Settings.load(file.stem, _CONTEXT if file.stem == "local" else {}, file.parent)


def test_there_is_the_environment_of_make_run() -> None:
    local = next(file for file in _FILES if file.stem == "local")
    assert read(local).emulated


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_an_environment_s_file_has_valid_settings(file: Path) -> None:
    assert read(file).name == file.stem


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.stem)
def test_the_monthly_estimate_reads_the_same_file(file: Path) -> None:
    if read(file).emulated:
        with pytest.raises(UsageError, match="costs nothing"):
            load(file.stem, file.parent)
    else:
        assert load(file.stem, file.parent).region == read(file).region
