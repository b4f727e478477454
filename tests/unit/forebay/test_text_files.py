"""Files that people write are read as their editors save them, or refused by their encoding."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

import pytest

import resources
from devtools.declarations import read_shapes
from forebay.errors import DeclarationError, SettingsError
from forebay.resource import shape
from forebay.text_files import read_text_file
from infra.settings import ENVIRONMENTS, Settings
from ops.rejections import rules
from tests.infra.templates import LOCAL_CONTEXT

RULES = """
[[rule]]
name = "länge"
match = { code = "missing_field" }
patch = [{ op = "null", path = "/body/area" }]
"""
OTHER_ENCODINGS = {
    "utf-16": "UTF-16 (little-endian)",
    "utf-16-be": "UTF-16 (big-endian)",
    "utf-32": "UTF-32 (little-endian)",
    "utf-32-be": "UTF-32 (big-endian)",
}
MARKS = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}


def read_rules(folder: Path, content: bytes) -> object:
    file = folder / "fix.toml"
    file.write_bytes(content)
    return rules.load(file)


def read_environment(folder: Path, content: bytes) -> object:
    (folder / "local.toml").write_bytes(content)
    return Settings.load("local", LOCAL_CONTEXT, folder=folder)


def read_recorded_shapes(folder: Path, content: bytes) -> object:
    (folder / "resources").mkdir(exist_ok=True)
    (folder / shape.FILE).write_bytes(content)
    return read_shapes(folder)


SHAPES = (Path(resources.__file__).parent / "shapes.json").read_text()
FILES = {
    "rules": (read_rules, RULES),
    "environment": (read_environment, (ENVIRONMENTS / "local.toml").read_text()),
    "shapes": (read_recorded_shapes, SHAPES),
}


@pytest.fixture(params=FILES)
def case(request: pytest.FixtureRequest) -> tuple[Callable[[Path, bytes], object], str]:
    return FILES[request.param]


def test_a_byte_order_mark_and_carriage_returns_change_nothing(
    case: tuple[Callable[[Path, bytes], object], str], tmp_path: Path
) -> None:
    read, text = case
    plain = read(tmp_path, text.encode())
    assert read(tmp_path, codecs.BOM_UTF8 + text.encode()) == plain
    assert read(tmp_path, codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode()) == plain


@pytest.mark.parametrize("encoding", OTHER_ENCODINGS)
def test_another_encoding_is_refused_by_its_name(
    case: tuple[Callable[[Path, bytes], object], str], encoding: str, tmp_path: Path
) -> None:
    read, text = case
    with pytest.raises((SettingsError, DeclarationError)) as refused:
        read(tmp_path, MARKS.get(encoding, b"") + text.encode(encoding))
    assert f"is in {OTHER_ENCODINGS[encoding]}; save it as UTF-8" in str(refused.value)


def test_the_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "fix.toml"
    file.write_bytes(b"a = 1\nb = '\xe4'\n")
    with pytest.raises(SettingsError, match=r"fix\.toml is not UTF-8: byte 0xe4 in line 2; save"):
        read_text_file(file)
    file.write_bytes("a = 1".encode("utf-16-le"))
    with pytest.raises(SettingsError, match="UTF-16 without a byte order mark"):
        read_text_file(file)
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        read_text_file(tmp_path / "none")
