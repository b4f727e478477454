"""Prepares a chunk in memory: upcasts its commands, and folds them to winners (law 2).

Needs no database; the read-ahead thread runs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import deepcopy
from dataclasses import dataclass, field, replace
from operator import attrgetter

from forebay.apply.results import Counts
from forebay.apply.rows.encoding import are_storable, check_text
from forebay.archive.lines import Entry, InvalidLine
from forebay.command import Command, KeyValue, Target
from forebay.decisions.refusals import Refusal
from forebay.errors import BodyError
from forebay.resource.spec import Kind, ResourceSpec, find_retired

#: The order of a resource's commands in every transaction, which prevents deadlocks between
#: consumers.
key_order = attrgetter("key")


@dataclass(frozen=True, slots=True)
class Folded:
    """The winners among some commands, and the losers of keys with more than one command."""

    #: By resource, in the order of their keys.
    winners: Mapping[str, list[Command]]
    losers: Mapping[Target, list[Command]]
    #: Of the commands that lost or occurred before; all others are winners or in `edits`.
    counts: Counts
    #: All commands of the edited keys, by resource and key: these are merged and not folded, as
    #: each of them changes the state that the commands before it lead to.
    edits: Mapping[str, Mapping[KeyValue, Sequence[Command]]]
    #: Resources that are to be locked exclusively: with a delete or an edited key.
    exclusive_paths: frozenset[str]

    @property
    def paths(self) -> frozenset[str]:
        """The resources of the commands."""
        return frozenset([*self.winners, *self.edits])

    def find_runners_up(
        self, refusals: Sequence[Refusal], refused_ids: Collection[str]
    ) -> list[Command]:
        """The best loser that is not refused, of each refused command's key; in the keys' order.

        Args:
            refusals: of winners, or of runners-up in their place.
            refused_ids: the ids of all refused commands.
        """
        best: dict[Target, Command] = {}
        for target in [(refusal.command.resource, refusal.command.key) for refusal in refusals]:
            for loser in self.losers.get(target, ()):
                if loser.id not in refused_ids and (
                    target not in best or loser.beats(best[target])
                ):
                    best[target] = loser
        return sorted(best.values(), key=key_order)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that is ready to be applied, or the part of a chunk that is not applied yet.

    It is prepared once and may be applied several times, so callers must not change it.
    """

    entries: Sequence[Entry]
    #: Ids of all commands in the chunk, ascending.
    ids: Sequence[str]
    #: Commands that may apply, under the current schema versions.
    commands: Sequence[Command]
    folded: Folded
    #: Commands that this release can't apply, each once, as they were archived.
    unfit: Sequence[Refusal] = ()
    invalid_lines: Sequence[Refusal] = ()
    #: Upcast commands, and commands with an effect, in their archived form, for rejections.
    archived: Mapping[str, Command] = field(default_factory=dict)
    #: Keys that are edited although the chunk has no patch or condition of them: they have patches
    #: in the database, or their commands have to be tried in one order with those of an edited key.
    edited: frozenset[Target] = frozenset()
    #: Why commands are held for newer code, if any are.
    held_reason: str | None = None
    #: Of the lines that no other field but `entries` and `ids` contains: commands of retired
    #: resources, repeated lines, and lines that were rejected before.
    dropped: Counts = Counts()  # noqa: RUF009 - immutable

    def as_archived(self, entry: Entry) -> Entry:
        """The entry with the body that the archive has."""
        return entry if isinstance(entry, InvalidLine) else self.archived.get(entry.id, entry)

    def list_commands(self) -> Sequence[Command]:
        """Every command, also those that only a decision of the database makes applicable."""
        return [*self.commands, *(refusal.command for refusal in self.unfit)]

    def _archived_id(self, command: Command) -> str:
        """The command's own id; that of a command with an effect may differ."""
        archived = self.archived.get(command.id)
        return command.id if archived is None else archived.id

    def with_edited(self, targets: Collection[Target]) -> Chunk:
        """The chunk in which the commands of these keys, too, are merged and not folded."""
        edited = self.edited.union(targets)
        return replace(self, edited=edited, folded=fold(self.commands, edited))

    def _fold_part(self, commands: Sequence[Command]) -> Folded:
        """Fold a part of the commands; keys that were not folded before are not folded now."""
        edited = set(self.edited)
        edited |= {(path, key) for path, by_key in self.folded.edits.items() for key in by_key}
        return fold(commands, edited)

    def replace_commands(self, plain: Mapping[str, Command], unfit: Sequence[Refusal]) -> Chunk:
        """The chunk with plain commands in place of decided commands that have an effect.

        Args:
            plain: by the decided command's id; without a command that this release can't apply.
            unfit: the refusals of those.
        """
        unfit_ids = {refusal.command.id for refusal in unfit}
        fit_again = [r.command for r in self.unfit if r.command.id in plain]
        commands = [
            plain.get(command.id, command)
            for command in (*self.commands, *fit_again)
            if command.id not in unfit_ids
        ]
        archived = dict(self.archived)
        for command in (*self.commands, *fit_again):
            if command.id in plain:
                archived[plain[command.id].id] = self.archived.get(command.id, command)
        still_unfit = [r for r in self.unfit if r.command.id not in {*plain, *unfit_ids}]
        return replace(
            self,
            commands=commands,
            folded=self._fold_part(commands),
            unfit=[*still_unfit, *unfit],
            archived=archived,
        )

    def without_rejected(self, rejected_ids: AbstractSet[str], lines: Sequence[Refusal]) -> Chunk:
        """The chunk without commands that were rejected before, and with these invalid lines.

        A command with an effect may have been rejected under either id: its own, or that of its
        place if its values were refused when it had to wait for another item.
        """
        commands = [
            command
            for command in self.commands
            if rejected_ids.isdisjoint({command.id, self._archived_id(command)})
        ]
        unfit = [refusal for refusal in self.unfit if refusal.command.id not in rejected_ids]
        dropped = len(self.commands) + len(self.unfit) + len(self.invalid_lines)
        dropped -= len(commands) + len(unfit) + len(lines)
        return replace(
            self,
            commands=commands,
            folded=self._fold_part(commands),
            unfit=unfit,
            invalid_lines=lines,
            dropped=self.dropped + Counts(duplicates=dropped),
        )

    def select_refused_keys(self, refused: Sequence[Refusal], unfit: Sequence[Refusal]) -> Chunk:
        """The part that awaits decisions: all commands of refused keys, and all invalid lines.

        Args:
            refused: winners that could not be applied.
            unfit: the unfit commands that need a decision.
        """
        keys = {(refusal.command.resource, refusal.command.key) for refusal in refused}
        commands = [command for command in self.commands if (command.resource, command.key) in keys]
        unfit_commands = [refusal.command for refusal in unfit]
        ids = sorted(map(self._archived_id, [*commands, *unfit_commands]))
        is_all = len(commands) == len(self.commands)  # as in a chunk of decided commands only
        return Chunk(
            (),
            ids,
            commands,
            self.folded if is_all else self._fold_part(commands),
            unfit,
            self.invalid_lines,
            self.archived,
            self.edited,
        )

    def explain(self, refused: Sequence[Refusal]) -> Iterator[Refusal]:
        """Every line of the selected part, with the reason why it is not applied."""
        causes = {(cause.command.resource, cause.command.key): cause for cause in refused}
        for command in self.commands:
            cause = causes[command.resource, command.key]
            detail = cause.detail
            if cause.command.id != command.id:
                detail = f"depends on {cause.command.id}: {detail}"
            yield Refusal(self.as_archived(command), cause.code, detail, cause.sqlstate)
        yield from self.unfit
        yield from self.invalid_lines


def prepare(entries: Sequence[Entry], resources: Mapping[str, ResourceSpec]) -> Chunk:
    """Classify a chunk's entries, upcast its commands, and fold them."""
    commands = [entry for entry in entries if isinstance(entry, Command)]
    invalid_lines: Sequence[Refusal] = ()
    if len(commands) < len(entries):
        invalid_lines = [Refusal.of_line(e) for e in entries if isinstance(e, InvalidLine)]
    ids = sorted([command.id for command in commands])
    commands, dropped = _drop_retired(commands, resources)
    if len(set(ids)) < len(ids):
        commands, repeated = _drop_repeated(commands)
        dropped += repeated
    if are_all_current(commands, resources):
        folded = fold(commands)
        return Chunk(entries, ids, commands, folded, (), invalid_lines, dropped=dropped)
    held_reason = next(
        filter(None, [_explain_held(command, resources) for command in commands]), None
    )
    if held_reason is not None:
        commands = [command for command in commands if not _explain_held(command, resources)]
    current, unfit, archived = _make_all_current(commands, resources)
    return Chunk(
        entries,
        ids,
        current,
        fold(current),
        unfit,
        invalid_lines,
        archived,
        held_reason=held_reason,
        dropped=dropped,
    )


def _explain_held(command: Command, resources: Mapping[str, ResourceSpec]) -> str | None:
    """Return why a command needs newer code; None if it does not."""
    spec = resources.get(command.resource)
    if spec is None or command.schema <= spec.schema_version or not spec.fits_key(command.key):
        return None
    return (
        f"command {command.id} has schema version {command.schema} of {spec.path}, this "
        f"release knows {spec.schema_version}; deploy the newer release"
    )


def _make_all_current(
    commands: Sequence[Command], resources: Mapping[str, ResourceSpec]
) -> tuple[list[Command], list[Refusal], dict[str, Command]]:
    """Upcast commands; return them, the refusals, and the archived forms by id."""
    current: list[Command] = []
    unfit: list[Refusal] = []
    archived: dict[str, Command] = {}
    for command in commands:
        try:
            converted = make_current(command, resources.get(command.resource))
        except BodyError as exc:
            unfit.append(Refusal.of_body(command, exc))
            continue
        if converted is not command:
            archived[command.id] = command
        current.append(converted)
    return current, unfit, archived


def fold(commands: Sequence[Command], edited: Collection[Target] = ()) -> Folded:
    """Fold commands of the current schema versions to one winner per key of every resource.

    Args:
        commands: the commands.
        edited: further keys with commands that are not folded; see `Chunk.edited`.
    """
    edits: dict[str, dict[KeyValue, list[Command]]] = {}
    targets = {(c.resource, c.key) for c in commands if c.op == "patch" or c.condition is not None}
    if edited or targets:
        targets.update(edited)
        for command in commands:
            if (command.resource, command.key) in targets:
                by_key = edits.setdefault(command.resource, {})
                by_key.setdefault(command.key, []).append(command)
        commands = [c for c in commands if (c.resource, c.key) not in targets]
    deleting = {command.resource for command in commands if command.op == "delete"}
    winners = {
        path: {command.key: command for command in of_resource}
        for path, of_resource in group_by_resource(commands).items()
    }
    losers: dict[Target, list[Command]] = {}
    duplicates = 0
    # In the common case, no key and no id occurs twice.
    if not sum(map(len, winners.values())) == len(commands) == len({c.id for c in commands}):
        winners, losers, duplicates = _fold_contested(commands)
    return Folded(
        {path: sorted(by_key.values(), key=key_order) for path, by_key in winners.items()},
        losers,
        Counts(superseded=sum(map(len, losers.values())), duplicates=duplicates),
        edits,
        frozenset({*deleting, *edits}),
    )


def _fold_contested(
    commands: Iterable[Command],
) -> tuple[dict[str, dict[KeyValue, Command]], dict[Target, list[Command]], int]:
    """The winners by resource and key, the losers, and the number of repeated commands."""
    winners: dict[str, dict[KeyValue, Command]] = {}
    losers: dict[Target, list[Command]] = {}
    ids: set[str] = set()
    duplicates = 0
    for command in commands:
        if command.id in ids:
            duplicates += 1
            continue
        ids.add(command.id)
        of_resource = winners.setdefault(command.resource, {})
        best = of_resource.setdefault(command.key, command)
        if best is command:
            continue
        loser = command
        if command.beats(best):
            of_resource[command.key], loser = command, best
        losers.setdefault((loser.resource, loser.key), []).append(loser)
    return winners, losers, duplicates


def group_by_resource(commands: Sequence[Command]) -> Mapping[str, Sequence[Command]]:
    """The commands of each resource, in their order."""
    paths = {command.resource for command in commands}
    if len(paths) == 1:  # the common case
        return dict.fromkeys(paths, commands)
    grouped: dict[str, list[Command]] = {path: [] for path in paths}
    for command in commands:
        grouped[command.resource].append(command)
    return grouped


def _drop_repeated(commands: Sequence[Command]) -> tuple[list[Command], Counts]:
    """The first command of each id, whatever its key, and the counts of the others."""
    first: dict[str, Command] = {}
    for command in commands:
        first.setdefault(command.id, command)
    return list(first.values()), Counts(duplicates=len(commands) - len(first))


def _drop_retired(
    commands: list[Command], resources: Mapping[str, ResourceSpec]
) -> tuple[list[Command], Counts]:
    """The commands of resources that are not retired, and the counts of the others."""
    retired_paths = find_retired(resources)
    if not retired_paths:
        return commands, Counts()
    remaining = [command for command in commands if command.resource not in retired_paths]
    return remaining, Counts(skipped=len(commands) - len(remaining))


def are_all_current(commands: Sequence[Command], resources: Mapping[str, ResourceSpec]) -> bool:
    """Return whether `make_current` would return each command unchanged.

    The common case; one check per chunk is ten times faster than a check per command.
    """
    for path, of_resource in group_by_resource(commands).items():
        spec = resources.get(path)
        if spec is None or {command.schema for command in of_resource} != {spec.schema_version}:
            return False
        keys = [command.key for command in of_resource]
        is_text = spec.key.kind is Kind.TEXT
        if not spec.fit_keys(keys) or (is_text and not are_storable(map(str, keys))):
            return False
    return True


def make_current(command: Command, spec: ResourceSpec | None) -> Command:
    """The command under its resource's current schema version.

    Args:
        command: of a schema version that is not newer than the current version.
        spec: its resource; None if the resource is not declared.

    Raises:
        BodyError: this release can't apply the command.
    """
    if spec is None:
        raise BodyError("unknown_resource", f"no resource {command.resource!r}")
    if not spec.fits_key(command.key):
        raise BodyError("key_invalid", f"{command.key!r} is not a key of {spec.path}")
    check_text(spec.key.name, str(command.key))
    return upcast(command, spec)


def upcast(command: Command, spec: ResourceSpec) -> Command:
    """The command with its body in the resource's current schema version.

    Raises:
        BodyError: an upcaster failed on this body.
    """
    if command.body is None or command.schema == spec.schema_version:
        return command
    upcasters = spec.patch_upcasters if command.op == "patch" else spec.upcasters
    # A deep copy: an upcaster may change nested values, and a rejection contains the archived body.
    body = deepcopy(command.body)
    for version in range(command.schema, spec.schema_version):
        if version not in upcasters:
            raise BodyError("upcast_failed", f"version {version} has no upcaster for patches")
        try:
            body = upcasters[version](body)
        except Exception as exc:  # user code: any exception is its refusal of the body
            raise BodyError(
                "upcast_failed", f"the upcaster from version {version} raised {exc!r}"
            ) from exc
        if not isinstance(body, dict):
            raise BodyError(
                "upcast_failed", f"the upcaster from version {version} returned no object"
            )
    return command._replace(body=body, schema=spec.schema_version)
