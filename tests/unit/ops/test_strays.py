"""Names that are plainly no archive objects' are told from those that may be."""

from __future__ import annotations

import pytest

from forebay.archive.decisions import build_entry_key
from ops.archive.strays import Strays, is_stray

HOUR = "commands/2026/01/01/00"
STRAYS = [
    *("desktop.ini", "Desktop.ini", "Thumbs.db", "ehthumbs.db", "Icon\r"),
    *(".DS_Store", "._x", "._forebay-1.gz", ".directory", ".nfs0001", ".x.gz.Qm3Zk1", ".keep"),
    *("x.tmp", "x.gz.TMP", "x.bak", "x.gz~", ".x.swp", "x.orig", "~$x.gz", "x.lnk", "x.part"),
    "x.gz.6eF4a1B2",  # the AWS CLI
    *("x.gz.b3f1a2c4.partial", "x.partial"),  # rclone
    *("x.filepart", "x.crdownload", "x.gz_.gstmp", ".azDownload-1-x.gz", "x.gz.part.minio"),
    *("x.gz.md5", "x.gz.sha256", "00_$folder$"),
]
OBJECTS = [
    "forebay-dev-commands-1-2026-01-01-00-00-00-00000000-0000-0000-0000-000000000001",
    "forebay-dev-commands-1-2026-01-01-00-00-00-00000000-0000-0000-0000-000000000001.gz",
    *("direct-0199f0c2-0000-7000-8000-000000000001.gz", "amend-a-0123456789abcdef.gz"),
    *("part-00000.gz", "plain.ndjson", "no-extension", "-rf.gz", "x (1).gz", "desktop.ini.gz"),
    *("tmp", "x.db", "temporary.gz", "a" * 200 + ".gz", "x.0123456"),
]


@pytest.mark.parametrize("name", STRAYS)
def test_a_leftover_of_a_tool_of_any_size_is_a_stray(name: str) -> None:
    assert is_stray(f"{HOUR}/{name}", 0)
    assert is_stray(f"{HOUR}/{name}", 500)
    assert is_stray(f"decisions/{name}", 500)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_possible_archive_object_is_not_a_stray(name: str) -> None:
    assert not is_stray(f"{HOUR}/{name}", 0)
    assert not is_stray(f"{HOUR}/{name}", 500)


def test_the_archives_own_objects_are_none() -> None:
    for key in (
        build_entry_key(42),
        "audit/2026/11/21/12/run-1.ndjson",
        "rejections/2026/x/y.ndjson",
    ):
        assert not is_stray(key, 500)


@pytest.mark.parametrize("folder", [".git", "__MACOSX", "$RECYCLE.BIN", "@eaDir", "lost+found"])
def test_all_that_is_in_a_folder_of_a_tool_is_a_stray(folder: str) -> None:
    assert is_stray(f"commands/{folder}/2026/x.gz", 500)


def test_a_folders_marker_is_a_stray_and_one_with_content_is_not() -> None:
    assert is_stray(f"{HOUR}/", 0)
    assert not is_stray(f"{HOUR}/", 500)


def test_objects_below_imports_are_not_strays() -> None:
    """The import reports about every file there."""
    for name in STRAYS:
        assert not is_stray(f"imports/cities/{name}", 500)


def test_each_stray_counts_once_and_the_first_ones_are_named() -> None:
    strays = Strays()
    for number in range(30):
        strays.add(f"{number:02}.tmp")
        strays.add("00.tmp")

    facts = strays.facts()
    assert (facts["objects"], len(facts["named"])) == (30, 20)
    assert str(strays).endswith("18.tmp, 19.tmp and 10 more")
