"""Apply compared with the limit: a plain COPY of the same rows into the same indexed table.

Apply does the same work as in production. It reads and inflates the objects, decodes and checks
each line, queries rejections and tombstones (the tables contain some), folds, changes the table,
and commits each chunk with its ledger row; `fsync` is on. The COPY's text is made beforehand, and
the COPY is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench import orders
from bench.consumers import Consumers, running
from bench.harness import Aim, Contender, Findings, Ratio, Series, measure, speed
from bench.orders import Objects
from bench.postgres import Database, copy_rows
from bench.stage import Stage
from forebay.apply import Counts

COMMANDS = 100_000
ROUNDS = 5
POISON_SHARE = 0.01

COPY = "COPY"


@dataclass(frozen=True, slots=True)
class _Case:
    """The commands to apply, and the initial state of the table."""

    name: str
    objects: Objects
    #: The initial rows, in COPY's text format.
    before: bytes
    expected: Counts
    replay: bool = False


def compare(stage: Stage) -> Findings:
    """Compare new rows, updates, replay, patches and poison, with one consumer and with two."""
    count = stage.size(COMMANDS)
    first = list(orders.commands(count))
    changes = list(orders.commands(count, generation=1))
    lines = orders.encode_lines(first)
    rows, later_rows = orders.copy_text(first), orders.copy_text(changes)
    objects = orders.write_objects(stage.folder, lines, name="new")
    updates = orders.write_objects(stage.folder, orders.encode_lines(changes), name="updates")
    patches, decided = (
        orders.write_objects(
            stage.folder,
            orders.encode_lines(list(orders.patches(count, decided=is_decided))),
            name=name,
        )
        for is_decided, name in ((False, "patches"), (True, "decided"))
    )
    poisoned, poison_count = poison(lines)
    poison_objects = orders.write_objects(stage.folder, poisoned, name="poison")
    cases = (
        _Case("new rows", objects, b"", Counts(applied=count)),
        _Case("updates", updates, rows, Counts(applied=count)),
        _Case(
            "replay of what is there", updates, later_rows, Counts(duplicates=count), replay=True
        ),
        _Case("patches", patches, rows, Counts(applied=count)),
        _Case("decided patches", decided, rows, Counts(applied=count)),
        _Case(
            "1 % poison",
            poison_objects,
            b"",
            Counts(applied=count - poison_count, rejected=poison_count),
        ),
    )
    findings = Findings()
    with ExitStack() as resources:
        database = resources.enter_context(stage.database())
        one_consumer, two_consumers = (
            resources.enter_context(running(number, url=database.url, folder=stage.folder))
            for number in (1, 2)
        )
        connection = resources.enter_context(database.connect())
        contenders = [Contender(COPY, lambda: copy_rows(connection, rows), count, database.empty)]
        contenders += [_apply(database, case, one_consumer, "one consumer") for case in cases]
        contenders += [_apply(database, case, two_consumers, "two consumers") for case in cases[:3]]
        findings.series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=not stage.quick)
        findings.facts = {
            "commands": count,
            "objects": len(objects.keys),
            "line_bytes": objects.line_bytes,
            "peak_mebibytes_of_a_consumer": round(
                max(one_consumer.peak_mebibytes, two_consumers.peak_mebibytes)
            ),
            "postgres": stage.postgres_settings(),
        }
    findings.ratios = list(_compute_ratios(findings.series))
    return findings


def poison(lines: Sequence[bytes]) -> tuple[list[bytes], int]:
    """Damage every hundredth line; return all lines and the number of damaged ones.

    The damage alternates: a truncated line, a value that is too long for its column, a null in a
    column that is not nullable, and a body without a required field. Only such faults reach a
    table's constraints, because the API refuses clients' mistakes.
    """
    step = round(1 / POISON_SHARE)
    count, damaged = 0, list(lines)
    for index in range(step // 2, len(lines), step):
        damaged[index] = _SPOILT[count % len(_SPOILT)](damaged[index])
        count += 1
    return damaged, count


_SPOILT: Sequence[Callable[[bytes], bytes]] = (
    lambda line: line[: len(line) // 2] + b"\n",
    lambda line: line.replace(b'"customer":"', b'"customer":"' + b"x" * 30),
    lambda line: line.replace(b'"paid":true', b'"paid":null').replace(
        b'"paid":false', b'"paid":null'
    ),
    lambda line: line.replace(b'"sku"', b'"sukk"'),
)


def _apply(database: Database, case: _Case, consumers: Consumers, label: str) -> Contender:
    keys = list(case.objects.keys)

    def prepare() -> None:
        if case.before:
            database.fill(case.before)
        else:
            database.empty()

    def run() -> None:
        counts = consumers.apply(keys, replay=case.replay)
        if counts != case.expected:
            raise AssertionError(f"{case.name}, {label}: {counts} instead of {case.expected}")

    return Contender(f"{case.name}, {label}", run, case.objects.commands, prepare)


def _compute_ratios(series: Sequence[Series]) -> list[Ratio]:
    aims = {
        "new rows, one consumer": Aim(at_least=0.70),
        "new rows, two consumers": Aim(at_least=0.90),
        "updates, one consumer": Aim(at_least=0.50),
        "updates, two consumers": None,
        "replay of what is there, one consumer": Aim(at_least=1.0),
        "replay of what is there, two consumers": None,
    }
    ratios = [speed(name, series, name, COPY, aim) for name, aim in aims.items()]
    poison_ratio = speed(
        "1 % poison",
        series,
        "1 % poison, one consumer",
        "new rows, one consumer",
        Aim(at_least=0.7),
    )
    updates = "updates, one consumer"
    patch_ratios = [
        speed(name, series, f"{name}, one consumer", updates, Aim(at_least=aim))
        for name, aim in (("patches", 0.7), ("decided patches", 0.4))
    ]
    return [*ratios, poison_ratio, *patch_ratios]
