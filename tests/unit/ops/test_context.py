"""Where a setting's value comes from, and in which form."""

from __future__ import annotations

from ops.context import ARCHIVE, DATABASE, Context


def test_blanks_around_a_value_do_not_count() -> None:
    """A file of variables that an editor has saved with carriage returns leaves one behind."""
    variables = {"FOREBAY_ARCHIVE_BUCKET": "bucket\r", "FOREBAY_DATABASE_URL": " \r"}
    context = Context({DATABASE: "postgresql://host/db \n"}, environment=variables)

    assert context.get(ARCHIVE) == "bucket"
    assert context.get(DATABASE) == "postgresql://host/db"
    assert Context({}, environment=variables).find(DATABASE) is None
