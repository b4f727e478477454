"""Plans a replay: reads all selected objects, counts, and estimates the time; makes no change."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay.apply import Source, rehearse
from forebay.apply.prepare import make_current
from forebay.archive.lines import Entry, InvalidLine, read_chunks
from forebay.command import Body, Command, Op
from forebay.decisions.decision_log import DecisionLog
from forebay.errors import BodyError
from forebay.ids import accepted_ms
from forebay.replay.selection import Selection
from forebay.resource.fitting import misfit, value_reason
from forebay.resource.partial import INCREMENT, is_increment
from forebay.resource.spec import NUMBERS, ResourceSpec, find_retired
from ops.archive.listing import count_objects
from ops.archive.store import COLD_CLASSES
from ops.console import Console, format_duration
from ops.context import Context
from ops.replay.replay import list_objects

_REHEARSED_COMMANDS = 20_000
_SAMPLE_FLOOR_SECONDS = 1e-3
_MAX_REASONS = 50
_OTHERS = "for other reasons"
_VALUES = re.compile(r"\(.*\)", re.DOTALL)


@dataclass(slots=True)
class Plan:
    """The counts of a replay's plan."""

    objects: int = 0
    bytes: int = 0
    commands: int = 0
    selected: int = 0
    invalid_lines: int = 0
    first_id: str | None = None
    last_id: str | None = None
    by_resource: Counter[str] = field(default_factory=Counter)
    #: Commands of retired resources, which a replay skips.
    skipped: int = 0
    #: Commands that this release can't upcast, by resource and schema version.
    without_upcaster: Counter[str] = field(default_factory=Counter)
    #: Commands with bodies that fit no row of this release, by resource, schema version and reason.
    misfits: Counter[str] = field(default_factory=Counter)
    storage_classes: Counter[str] = field(default_factory=Counter)
    #: The ids of the commands that were selected by their ids.
    found_ids: set[str] = field(default_factory=set)
    rehearsed: int = 0
    rehearsal_seconds: float = 0.0

    def add(self, chunk: Sequence[Entry], resources: Mapping[str, ResourceSpec]) -> None:
        """Count the selected commands of a chunk."""
        retired = find_retired(resources)
        for entry in chunk:
            if isinstance(entry, InvalidLine):
                self.invalid_lines += 1
                continue
            self.by_resource[entry.resource] += 1
            spec = resources.get(entry.resource)
            if entry.resource in retired:
                self.skipped += 1
            elif spec is None:
                self.without_upcaster[f"{entry.resource} (no such resource)"] += 1
            elif not _can_upcast(entry, spec):
                self.without_upcaster[f"{entry.resource} version {entry.schema}"] += 1
            else:
                self._check_body(entry, spec)
            if self.first_id is None or entry.id < self.first_id:
                self.first_id = entry.id
            if self.last_id is None or entry.id > self.last_id:
                self.last_id = entry.id
        self.selected += len(chunk)

    def _check_body(self, command: Command, spec: ResourceSpec) -> None:
        try:
            body = make_current(command, spec).body
        except BodyError as exc:
            # An upcaster's error may contain values of the body; without them, reasons are few.
            reason: str | None = (
                _VALUES.sub("", str(exc)) if exc.code == "upcast_failed" else exc.code
            )
        else:
            reason = None if body is None else _find_misfit(spec, command.op, body)
        if reason is not None:
            name = f"{command.resource} version {command.schema}: {reason}"
            self.misfits[name if len(self.misfits) < _MAX_REASONS else _OTHERS] += 1

    def facts(self, *, workers: int, rate_per_second: float | None) -> dict[str, Any]:
        """Return the members for a JSON result.

        Args:
            workers: the number of workers, for the estimate.
            rate_per_second: the maximum number of commands per second, for the estimate.
        """
        cold = {name: n for name, n in self.storage_classes.items() if name in COLD_CLASSES}
        speed = self._estimate_speed(workers, rate_per_second)
        seconds = self.selected / speed if speed else None
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "commands": self.selected,
            "commands_by_resource": dict(self.by_resource),
            "unreadable_lines": self.invalid_lines,
            "of_retired_resources": self.skipped,
            "first_accepted": _format_acceptance(self.first_id),
            "last_accepted": _format_acceptance(self.last_id),
            "schema_versions_without_upcaster": dict(self.without_upcaster),
            "bodies_that_do_not_fit": dict(self.misfits),
            "storage_classes": dict(self.storage_classes),
            "objects_to_restore": cold,
            "commands_per_second": round(speed) if speed else None,
            "estimated_seconds": None if seconds is None else round(seconds, 3),
            "estimated_duration": None if seconds is None else format_duration(seconds),
        }

    def _estimate_speed(self, workers: int, rate_per_second: float | None) -> float | None:
        if not self.rehearsed:
            return rate_per_second
        # Python prepares one chunk at a time, so a second worker only uses the time of Postgres.
        measured = self.rehearsed / max(self.rehearsal_seconds, _SAMPLE_FLOOR_SECONDS)
        measured *= math.sqrt(min(workers, 2))
        return min(measured, rate_per_second) if rate_per_second else measured


def make_plan(context: Context, console: Console, selection: Selection) -> Plan:
    """Read the selected objects, and rehearse the first commands on the database."""
    result = Plan()
    total, _ = count_objects(list_objects(context.archive, selection))
    with (
        context.connect(purpose="replay-plan", statement_timeout_ms=60_000) as connection,
        console.progress("plan", unit="objects", total=total) as meter,
    ):
        decision_log = DecisionLog(connection, context.archive, context.resources)
        for archive_object in list_objects(context.archive, selection):
            result.objects += 1
            result.bytes += archive_object.size_bytes
            result.storage_classes[archive_object.storage_class] += 1
            if archive_object.storage_class not in COLD_CLASSES:
                for chunk in selection.chunks(
                    read_chunks(context.archive.read(archive_object.key))
                ):
                    result.add(chunk, context.resources)
                    if selection.ids:
                        result.found_ids.update(
                            entry.id for entry in chunk if not isinstance(entry, InvalidLine)
                        )
                    if chunk and result.rehearsed < _REHEARSED_COMMANDS:
                        started = time.monotonic()
                        rehearse(
                            connection,
                            [chunk],
                            Source(archive_object.key, replay=True, partial=True),
                            resources=context.resources,
                            decision_log=decision_log,
                        )
                        result.rehearsal_seconds += time.monotonic() - started
                        result.rehearsed += len(chunk)
            meter.advance(1, note=f"{result.selected:,} commands")
    return result


def _can_upcast(command: Command, spec: ResourceSpec) -> bool:
    upcasters = spec.patch_upcasters if command.op == "patch" else spec.upcasters
    return command.schema <= spec.schema_version and all(
        version in upcasters for version in range(command.schema, spec.schema_version)
    )


def _find_misfit(spec: ResourceSpec, op: Op, body: Body) -> str | None:
    """Return the reason why a current body fits no row; of a patch, only its fields count."""
    if op != "patch":
        return misfit(spec, body)
    for name, value in body.items():
        column = spec.column(name)
        if column is None or column is spec.key:
            return f"the resource has no field {name}"
        number = value[INCREMENT] if is_increment(value) and column.kind in NUMBERS else value
        reason = value_reason(column, number)
        if reason is not None:
            return f"{name} {reason}"
    return None


def _format_acceptance(command_id: str | None) -> str | None:
    if command_id is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(accepted_ms(command_id) / 1000))
