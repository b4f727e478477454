"""`forebay revert`: commands are undone by new commands, without any other change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.command import Command
from tests.fixtures.commands import CITY, city, command_id
from tests.fixtures.emulator import REGION, Emulator
from tests.fixtures.operating import Operator
from tests.fixtures.site import Site

BAD = "client:loader"


@pytest.fixture
def operator(site: Site, emulator: Emulator, tmp_path: Path) -> Operator:
    return Operator(
        tmp_path,
        site.database.url,
        {
            "FOREBAY_DATABASE_URL": site.database.url,
            "FOREBAY_ARCHIVE_BUCKET": site.bucket,
            "AWS_ENDPOINT_URL": emulator.url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": REGION,
        },
    )


def bad(number: int, op: Any = "put", key: int = 5, **changes: Any) -> Command:
    return city(number, op, key, **changes)._replace(by=BAD)


def names(site: Site) -> dict[int, str]:
    return dict(site.database.rows("SELECT geonameid, name FROM cities ORDER BY 1"))


def revert(site: Site, operator: Operator, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the command, and apply the objects that it stored."""
    before = set(site.keys("commands/"))
    told = operator.done("revert", *arguments, "--yes", "--operator", "anna", code=code)
    for key in sorted(set(site.keys("commands/")) - before):
        site.apply(key)
    return told


def test_each_key_gets_its_state_of_before(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=5), city(2, key=6), city(3, key=7), city(4, "create", 8))
    before = names(site)
    site.put_and_apply(
        bad(11, key=5),
        bad(12, key=5),
        bad(13, "delete", 6),
        bad(14, "put", 8),
        bad(15, "create", 9),
        bad(16, "delete", 10),
    )
    assert names(site) != before

    told = revert(site, operator, "--by", BAD)

    assert names(site) == before
    assert (told["undone"], told["put"], told["delete"], told["unchanged"]) == (6, 3, 1, 1)
    assert told["sent"] == 4
    assert site.database.rows("SELECT FROM forebay.rejections") == []


def test_the_new_commands_name_the_operator_and_the_old_ones_stay(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(city(1, key=5), bad(2, key=5))
    revert(site, operator, "--by", BAD)
    told = operator.done("history", "cities", "5")
    assert [(entry["by"], entry["outcome"]) for entry in told["commands"]] == [
        ("test", "superseded"),
        (BAD, "superseded"),
        ("operator:anna", "applied"),
    ]


def test_a_second_call_has_nothing_to_do(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=5), bad(2, key=5), bad(3, "create", 6))
    assert revert(site, operator, "--by", BAD)["sent"] == 2
    again = revert(site, operator, "--by", BAD)
    assert (again["sent"], again["unchanged"]) == (0, 2)


def test_commands_are_named_by_ids_and_by_conditions_too(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    site.put_and_apply(*[city(number, key=number) for number in range(1, 5)])
    before = names(site)
    site.put_and_apply(*[bad(10 + key, key=key, name=f"bad {key}") for key in range(1, 5)])
    ids = tmp_path / "ids"
    ids.write_text(f"{command_id(11)}\n{command_id(12)}\n")
    assert revert(site, operator, "--id-file", str(ids))["undone"] == 2
    assert names(site) == {1: before[1], 2: before[2], 3: "bad 3", 4: "bad 4"}
    assert revert(site, operator, "--by", BAD, "--key", "3")["undone"] == 1
    assert names(site) == {**before, 4: "bad 4"}


def test_an_id_that_the_archive_lacks_stops_the_command_before_it_sends_anything(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    site.put_and_apply(city(1, key=1), bad(11, key=1))
    ids = tmp_path / "ids"
    ids.write_text(f"{command_id(11)}\n{command_id(12)}\n")
    stored = site.keys("commands/")
    for mode in ("--yes", "--dry-run"):
        result = operator.run("revert", "--id-file", str(ids), mode)
        assert result.code == 5
        assert f"1 of the 2 ids of --id-file are in no object of the archive: {command_id(12)}" in (
            result.err
        )
        assert "nothing was sent" in result.err
    assert site.keys("commands/") == stored


def test_a_later_change_is_lost_or_kept_as_the_operator_chooses(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(city(1, key=5), bad(2, key=5), city(3, key=5))
    site.put_and_apply(city(4, key=6), bad(5, key=6))
    kept = operator.done("revert", "--by", BAD, "--keep-later", "--dry-run")
    assert (kept["put"], kept["unchanged"], kept["losing_later_changes"]) == (1, 1, 0)
    lost = operator.done("revert", "--by", BAD, "--dry-run")
    assert (lost["put"], lost["losing_later_changes"]) == (2, 1)
    assert [key["loses_change_of"] for key in lost["keys"]] == ["test", None]
    assert names(site) == {5: "version 3", 6: "version 5"}, "a dry run sends nothing"

    revert(site, operator, "--by", BAD, "--keep-later")
    assert names(site) == {5: "version 3", 6: "version 4"}
    revert(site, operator, "--by", BAD)
    assert names(site) == {5: "version 1", 6: "version 4"}


def test_a_create_that_took_a_place_gives_it_back(site: Site, operator: Operator) -> None:
    """Of two creates the smaller id wins, so a bad create can take the place of a later one."""
    site.put_and_apply(bad(1, "create", 5), city(2, "create", 5))
    assert names(site) == {5: "version 1"}
    revert(site, operator, "--by", BAD, "--keep-later")
    assert names(site) == {5: "version 2"}


def test_commands_that_were_rejected_count_neither_as_states_nor_as_changes(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(city(1, key=5), city(2, key=5, name="x" * 201))
    site.put_and_apply(bad(3, key=5), city(4, key=5, name="x" * 201))
    told = revert(site, operator, "--by", BAD)
    assert (told["put"], told["losing_later_changes"]) == (1, 0)
    assert names(site) == {5: "version 1"}


def test_a_state_that_no_longer_fits_the_declaration_is_named_and_the_others_are_restored(
    site: Site, operator: Operator
) -> None:
    body = {**CITY, "timezone": 5}
    site.put(city(1, key=5)._replace(body=body))  # never applied, as of an older declaration
    site.put_and_apply(bad(2, key=5), city(3, key=6), bad(4, key=6))
    told = revert(site, operator, "--by", BAD, code=5)
    assert (told["impossible"], told["put"]) == (1, 1)
    (impossible,) = (key for key in told["keys"] if key["verdict"] == "impossible")
    assert (impossible["key"], "timezone" in impossible["reason"]) == (5, True)
    assert names(site)[6] == "version 3"


def test_a_revert_to_a_doubtful_state_is_refused(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    everything = operator.run("revert", "--yes")
    assert (everything.code, "--by" in everything.err) == (2, True)
    nothing = operator.run("revert", "--by", BAD, "--yes")
    assert nothing.code == 5
    assert "no command" in nothing.err
    site.put_and_apply(city(1, key=5), bad(2, key=5))
    unconfirmed = operator.run("revert", "--by", BAD)
    assert unconfirmed.code == 2
    assert "Undo 1 commands by 1 puts and 0 deletes?" in unconfirmed.err
    damaged = site.put(raw=b"\x1f\x8b\x08broken")
    refused = operator.run("revert", "--by", BAD, "--yes")
    assert (refused.code, damaged in refused.err) == (5, True)
    site.s3.delete_object(Bucket=site.bucket, Key=damaged)
    lacking = site.put_and_apply(city(3, key=7))
    site.s3.delete_object(Bucket=site.bucket, Key=lacking)
    refused = operator.run("revert", "--by", BAD, "--yes")
    assert (refused.code, "is incomplete" in refused.err) == (5, True)
    assert names(site)[5] == "version 2"


def test_a_copy_of_the_archive_can_show_the_plan_only(
    site: Site, operator: Operator, tmp_path: Path
) -> None:
    key = site.put_and_apply(city(1, key=5), bad(2, key=5))
    file = tmp_path / "copy" / key
    file.parent.mkdir(parents=True)
    file.write_bytes(b"".join(site.archive.read(key)))
    source = ("--source", f"file://{tmp_path}/copy")
    assert operator.done("revert", "--by", BAD, "--dry-run", *source)["put"] == 1
    refused = operator.run("revert", "--by", BAD, "--yes", *source)
    assert (refused.code, "--dry-run" in refused.err) == (2, True)


def patch(number: int, key: int = 5, by: str = "test", **fields: Any) -> Command:
    return city(number, "put", key)._replace(op="patch", body=fields, by=by)


def items(site: Site) -> list[tuple[Any, ...]]:
    return site.database.rows("SELECT geonameid, name, population FROM cities ORDER BY 1")


def test_a_state_with_patches_is_restored_by_one_put(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, population=10), patch(2, 1, name="two"), city(4, key=6))
    site.put_and_apply(patch(3, 1, population={"$increment": 5}))
    before = items(site)
    site.put_and_apply(
        patch(11, 1, BAD, name="bad", timezone="UTC"),
        bad(12, "delete", 6),
        patch(13, 1, BAD, population={"$increment": 1}),
    )
    assert items(site) != before

    told = revert(site, operator, "--by", BAD)

    assert (told["undone"], told["put"], told["delete"]) == (3, 2, 0)
    assert items(site) == before
    assert site.database.rows("TABLE forebay.edits") == []
    assert revert(site, operator, "--by", BAD)["unchanged"] == 2


def test_later_patches_are_lost_or_kept_as_the_operator_chooses(
    site: Site, operator: Operator
) -> None:
    site.put_and_apply(city(1, key=5, population=1), patch(2, 5, BAD, name="bad", population=2))
    site.put_and_apply(patch(3, 5, population=3), patch(4, 5, "user:x", timezone="UTC"))
    lost = operator.done("revert", "--by", BAD, "--dry-run")
    assert [key["loses_change_of"] for key in lost["keys"]] == ["user:x"]
    told = revert(site, operator, "--by", BAD, "--keep-later")
    assert told["losing_later_changes"] == 0
    assert site.database.rows("SELECT name, population, timezone FROM cities") == [
        ("version 1", 3, "UTC")
    ]


def test_the_place_of_a_decided_command_decides_which_state_was_before_it(
    site: Site, operator: Operator
) -> None:
    """Its id is smaller than that of a command that was applied before it."""
    site.put_and_apply(city(1, key=5, population=1), city(7, key=5, population=7))
    site.put_and_apply(patch(3, 5, BAD, population={"$increment": 5}))
    assert items(site) == [(5, "version 7", 12)]
    told = revert(site, operator, "--by", BAD)
    assert (told["put"], told["losing_later_changes"]) == (1, 0)
    assert items(site) == [(5, "version 7", 7)]


def test_a_command_without_a_decision_is_not_undone(site: Site, operator: Operator) -> None:
    site.put_and_apply(city(1, key=5))
    site.put(patch(2, 5, BAD, population={"$increment": 5}))
    refused = operator.run("revert", "--by", BAD, "--yes")
    assert (refused.code, "no decision yet" in refused.err) == (5, True)


def test_the_end_of_a_patchs_wait_is_named(site: Site, operator: Operator) -> None:
    site.put_and_apply(patch(2, 5, name="waits"), bad(1, "create", 5))
    told = revert(site, operator, "--by", BAD, "--keep-later")
    assert [key["reason"] for key in told["keys"]] == ["ends the wait of 1 patches"]
    assert items(site) == []
