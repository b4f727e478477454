"""Functions with which each process reads its environment once, at its start."""

from __future__ import annotations

from collections.abc import Mapping

from forebay.errors import SettingsError


def required(environment: Mapping[str, str], name: str) -> str:
    """The variable's text.

    Raises:
        SettingsError: it is missing or empty.
    """
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"the environment variable {name} is missing or empty")
    return value


def number(environment: Mapping[str, str], name: str, default: float) -> float:
    """The variable as a finite number from 0, or the default if it is missing or empty.

    Raises:
        SettingsError: it is not such a number.
    """
    text = environment.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SettingsError(f"{name}={text!r} must be a number of 0 or more")
    return value


def flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return whether the variable is `true` or `1`; the default if it is missing or empty.

    Raises:
        SettingsError: it is none of `true`, `1`, `false` and `0`.
    """
    text = environment.get(name, "")
    if not text:
        return default
    if text not in {"true", "false", "1", "0"}:
        raise SettingsError(f"{name}={text!r} must be true or false")
    return text in {"true", "1"}
