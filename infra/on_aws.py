"""The environments on AWS; the others are replaced by `make run`."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from forebay.errors import SettingsError
from forebay.text_files import read_text_file
from infra.settings import ENVIRONMENTS, Settings, read_context


def load_settings_on_aws(name: str, folder: Path = ENVIRONMENTS) -> Settings:
    """Load the settings of an environment on AWS.

    Raises:
        SettingsError: as of `Settings.load`, or the environment is not on AWS.
    """
    # Before its settings are checked: those of the emulator are completed by `make run`.
    if (folder / f"{name}.toml").is_file() and not _is_on_aws(name, folder):
        raise SettingsError(f"{name} is not on AWS: `make run` replaces its stacks")
    return Settings.load(name, read_context(os.environ), folder)


def load_other_settings(settings: Settings, folder: Path = ENVIRONMENTS) -> list[Settings]:
    """Load the settings of all other environments on AWS.

    Raises:
        SettingsError: as of `Settings.load`.
    """
    names = sorted(file.stem for file in folder.glob("*.toml"))
    return [
        Settings.load(name, {}, folder)
        for name in names
        if name != settings.name and _is_on_aws(name, folder)
    ]


def _is_on_aws(name: str, folder: Path) -> bool:
    file = folder / f"{name}.toml"
    try:
        values = tomllib.loads(read_text_file(file))
    except tomllib.TOMLDecodeError as broken:
        raise SettingsError(f"{file} is not valid TOML: {broken}") from broken
    return values.get("target") != "emulator"
