"""Keys and listings of the archive: prefixes, the hour in a key, and an object in a listing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from forebay.ids import accepted_ms

#: Every object below it is applied.
COMMANDS_PREFIX: Final = "commands/"
#: The decision log.
DECISIONS_PREFIX: Final = "decisions/"
#: Rejections of releases before the decision log; read, but never written.
LEGACY_REJECTIONS_PREFIX: Final = "rejections/"
#: Decisions of operators.
AUDIT_PREFIX: Final = "audit/"
#: Files to import, which users store; the suffix is that of the keys of their reports.
IMPORTS_PREFIX: Final = "imports/"
REPORT_SUFFIX: Final = ".report.json"
#: Data that Firehose could not deliver as intended.
DELIVERY_ERRORS_PREFIX: Final = "delivery-errors/"
STANDARD: Final = "STANDARD"
_HOUR: Final = "%Y/%m/%d/%H"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the archive, as a listing describes it."""

    key: str
    size_bytes: int
    #: When it was stored.
    modified: dt.datetime
    storage_class: str = STANDARD


def format_hour(moment: dt.datetime, prefix: str = COMMANDS_PREFIX) -> str:
    """The beginning of the keys of that hour (UTC), without the slash after the hour.

    It sorts before the keys of all objects of that hour and of later hours.
    """
    return f"{prefix}{moment.astimezone(dt.UTC).strftime(_HOUR)}"


def parse_hour(key: str) -> dt.datetime:
    """The hour in a key of the form `commands/2026/11/21/09/…`."""
    hour = "/".join(key.split("/")[1:5])
    return dt.datetime.strptime(hour, _HOUR).replace(tzinfo=dt.UTC)


def build_object_key(source: str, name_id: str) -> str:
    """The key of an object of commands, in the hour of the id in its name."""
    hour = dt.datetime.fromtimestamp(accepted_ms(name_id) / 1000, dt.UTC)
    return f"{format_hour(hour)}/{source}-{name_id}.gz"


def holds_amendments(key: str) -> bool:
    """Return whether an object has amendments: their ids don't show how long apply took.

    An amendment's id has the time of the command that it amends.
    """
    return key.rpartition("/")[2].startswith("amend-")
