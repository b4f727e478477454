"""Decides on write requests: from a request to its commands and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from forebay.access import Access
from forebay.command import Command, KeyValue
from forebay.conditions import MAX_COMPARISONS, Condition
from forebay.http import MERGE_TYPE
from forebay.ids import IdSource, is_decided_command_id
from forebay.intake.attachments import AttachmentCheck
from forebay.intake.commands import CommandMaker, ItemNames, Line, Origin, read_patch
from forebay.intake.json_text import JsonText, dump
from forebay.keys import read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.body import ValidItem, format_pointer
from forebay.resource.partial import is_increment
from forebay.resource.spec import ResourceSpec
from forebay.routes import Route
from lambdas.write.answers import Answers
from lambdas.write.items import ParsedItem, parse_item, parse_item_or_array, parse_lines
from lambdas.write.operations import OperationMaker
from lambdas.write.parameters import (
    COLUMNS,
    ON_CONFLICT,
    SELECT,
    check_on_conflict,
    read_columns,
    refuse_unknown,
)
from lambdas.write.plan import Plan, add_header
from lambdas.write.preferences import Method, Preferences, read_preferences
from lambdas.write.requests import (
    JSON_TYPES,
    NDJSON_TYPES,
    OBJECT_TYPE,
    PATCH_TYPES,
    WriteRequest,
    check_media,
)

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded

#: An item's encoded command, or the reason for the item's refusal.
_Result = Line | Problem
#: Converts an item to the current schema version.
_Upgrade = Callable[[JsonText], JsonText]


@dataclass(frozen=True, slots=True)
class _Write:
    """A request to a resource, and how it is to be carried out."""

    spec: ResourceSpec
    request: WriteRequest
    origin: Origin
    preferences: Preferences
    #: The members of items that count; None for all.
    columns: frozenset[str] | None = None
    condition: Condition | None = None

    def for_next_item(self, result: _Result) -> _Write:
        """The write of the next item."""
        origin = _advance_origin(self.origin, result)
        return self if origin is self.origin else replace(self, origin=origin)


_Writer = Callable[[_Write], Plan]


class Planner:
    """Decides on requests: makes their commands and their answers, and sends no command."""

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        ids: IdSource,
        answers: Answers,
        access: Access,
        shapes: Callable[[], Mapping[str, Recorded]],
        attachments: AttachmentCheck,
    ) -> None:
        """Create the planner.

        Args:
            resources: the declarations.
            ids: creates command ids.
            answers: builds responses.
            access: the callers' scopes.
            shapes: returns the recorded earlier schema versions; called only when a request names
                one of them.
            attachments: checks the attachments in bodies.
        """
        self._resources = resources
        self._writers: Mapping[str, _Writer] = {
            "post": self._plan_post,
            "put": self._plan_put,
            "patch": self._plan_patch,
            "patch_many": self._plan_patches,
            "delete": self._plan_delete,
            "delete_many": self._plan_deletes,
        }
        self._ids = ids
        self._commands = CommandMaker(ids, attachments)
        self._operations = OperationMaker(resources, self._commands, access)
        self._answers = answers
        self._shapes = shapes

    def plan(self, route: Route, request: WriteRequest, origin: Origin) -> Plan:
        """Decide on a request.

        Raises:
            ProblemError: the request is refused.
        """
        preferences = read_preferences(
            request.prefer,
            "operations" if route.action == "commands" else cast("Method", route.method),
            must_not_exist=_read_if_none_match(route, request),
        )
        if preferences.returns == "representation" and request.accepts_object():
            preferences = replace(preferences, returns="object")
        if route.method == "POST" and request.if_match:
            detail = "a POST has no If-Match; Read-After makes its commands newer than a version"
            raise ProblemError(Problem("bad_header", detail))
        if request.read_after or request.if_match:
            # Few requests need it.
            from lambdas.write.dependencies import read_dependencies  # noqa: PLC0415

            dependencies = read_dependencies(self._resources, request)
            origin = replace(origin, dependencies=dependencies)
        if route.action == "commands":
            plan = self._plan_operations(request, origin, preferences)
        else:
            spec = self._resources[route.resource]
            query = request.query
            columns = _read_query(spec, route, query, preferences) if query else None
            condition = _read_request_condition(spec, route, request)
            write = _Write(spec, request, origin, preferences, columns, condition)
            plan = self._writers[route.action](write)
        if not preferences.applied:
            return plan
        applied = ", ".join(preferences.applied)
        return replace(plan, response=add_header(plan.response, "Preference-Applied", applied))

    def _plan_post(self, write: _Write) -> Plan:
        item_or_array = _parse_items(write.request)
        if isinstance(item_or_array, list):
            return self._plan_batch(write, item_or_array)
        item = self._choose_upgrade(write)(_keep_columns(item_or_array, write.columns))
        return self._plan_one(write, self._make_post_line(write, item))

    def _plan_put(self, write: _Write) -> Plan:
        key = _read_path_key(write)
        check_media(write.request, JSON_TYPES)
        item = self._choose_upgrade(write)(parse_item(write.request.read_body()))
        create = write.request.must_not_exist()
        line = self._commands.put(
            write.spec, key, item, write.origin, create=create, condition=write.condition
        )
        return self._plan_one(write, line)

    def _plan_patch(self, write: _Write) -> Plan:
        key = _read_path_key(write)
        patch = self._read_sent_patch(write)
        return self._plan_one(write, self._make_patch(patch, write, key))

    def _plan_patches(self, write: _Write) -> Plan:
        return self._plan_targets(write, partial(self._make_patch, self._read_sent_patch(write)))

    def _plan_delete(self, write: _Write) -> Plan:
        return self._plan_one(write, self._make_delete(write, _read_path_key(write)))

    def _plan_deletes(self, write: _Write) -> Plan:
        return self._plan_targets(write, self._make_delete)

    def _read_sent_patch(self, write: _Write) -> ValidItem:
        media = check_media(write.request, PATCH_TYPES)
        patch = parse_item(write.request.read_body())
        if media == MERGE_TYPE:
            _refuse_merges(patch)
        return read_patch(write.spec, self._choose_upgrade(write)(patch))

    def _make_patch(self, patch: ValidItem, write: _Write, key: KeyValue) -> Line:
        return self._commands.patch(write.spec, key, patch, write.origin, condition=write.condition)

    def _make_delete(self, write: _Write, key: KeyValue) -> Line:
        return self._commands.delete(write.spec, key, write.origin, condition=write.condition)

    def _plan_targets(self, write: _Write, make: Callable[[_Write, KeyValue], Line]) -> Plan:
        """Plan a command for each key that the query names."""
        from lambdas.write.targets import read_targets  # noqa: PLC0415 - few requests need it

        targets = read_targets(write.spec, write.request.query)
        if not targets.is_list:
            return self._plan_one(write, make(write, targets.keys[0]))
        results: list[_Result] = []
        for key in targets.keys:
            try:
                results.append(make(write, key))
            except ProblemError as exc:
                results.append(exc.problem)
            write = write.for_next_item(results[-1])
        return self._plan_results(results, write.request, write.preferences)

    def _plan_one(self, write: _Write, line: Line) -> Plan:
        return Plan(self._answers.answer_one(line.command, write.preferences.returns), (line,))

    def _plan_batch(self, write: _Write, items: Sequence[ParsedItem]) -> Plan:
        results: list[_Result] = []
        names, upgrade = ItemNames(), self._choose_upgrade(write)
        for item in items:
            results.append(self._try_make_post_line(write, item, names, upgrade))
            write = write.for_next_item(results[-1])
        is_whole = write.columns is not None
        return self._plan_results(results, write.request, write.preferences, is_whole=is_whole)

    def _plan_operations(
        self, request: WriteRequest, origin: Origin, preferences: Preferences
    ) -> Plan:
        """Plan operations on any resources."""
        if request.query:
            refuse_unknown(request.query, ())
        if request.read_schema_version() is not None:
            raise ProblemError(
                Problem("unsupported_media_type", "schema versions are those of one resource")
            )
        operations = _parse_items(request)
        if not isinstance(operations, list):
            detail = "send an array of operations, or lines with an operation each"
            raise ProblemError(Problem("validation_failed", detail))
        names, context = ItemNames(), request.event.get("requestContext") or {}
        sent = dict(origin.dependencies)
        results: list[_Result] = []
        for operation in operations:
            if isinstance(operation, Problem):
                results.append(operation)
                continue
            try:
                name = names.next_for(operation) if origin.idempotency_key is not None else ""
                line = self._operations.make(
                    operation,
                    replace(origin, dependencies=sent),
                    context,
                    name=name,
                    now_ms=self._ids.now_ms(),
                )
                results.append(line)
                _add_dependency(sent, line.command)
            except ProblemError as exc:
                results.append(exc.problem)
            origin = _advance_origin(origin, results[-1])
        return self._plan_results(results, request, preferences)

    def _plan_results(
        self,
        results: Sequence[_Result],
        request: WriteRequest,
        preferences: Preferences,
        *,
        is_whole: bool = False,
    ) -> Plan:
        """Plan the commands, and an answer with a result for each item.

        Args:
            results: the items' commands or problems, in their order.
            request: the request.
            preferences: of the request.
            is_whole: accept all items or none. So are requests that request another answer than
                usual: clients of PostgREST don't look for refused items in an answer.
        """
        is_whole = is_whole or preferences.returns != "outcome"
        if is_whole:
            _refuse_whole(results)
        if preferences.returns == "object" and len(results) != 1:
            raise ProblemError(
                Problem("PGRST116", f"{OBJECT_TYPE} has room for one item, not {len(results)}")
            )
        lines = [result for result in results if isinstance(result, Line)]
        if preferences.returns == "outcome":
            outcomes = [
                result if isinstance(result, Problem) else result.command for result in results
            ]
            response = self._answers.answer_batch(outcomes, request.path)
        else:
            commands = [line.command for line in lines]
            response = self._answers.answer_many(commands, preferences.returns)
        return Plan(response, lines, refused_count=len(results) - len(lines), is_whole=is_whole)

    def _try_make_post_line(
        self, write: _Write, item: ParsedItem, names: ItemNames, upgrade: _Upgrade
    ) -> _Result:
        """Make one item's command, or return the problem; the other items are not affected."""
        if isinstance(item, Problem):
            return item
        try:
            # The name is needed only for a key that the server derives.
            derives = write.spec.key_is_made and write.origin.idempotency_key is not None
            name = names.next_for(item) if derives else ""
            item = upgrade(_keep_columns(item, write.columns))
            return self._make_post_line(write, item, name=name)
        except ProblemError as exc:
            return exc.problem

    def _make_post_line(self, write: _Write, item: JsonText, *, name: str = "0") -> Line:
        """Make the command of an item of a POST: a `put` if the request upserts items with keys."""
        spec = write.spec
        if write.preferences.upserts and (not spec.key_is_made or _has_member(item, spec.key.name)):
            return self._commands.put_item(spec, item, write.origin)
        return self._commands.create(spec, item, write.origin, name=name)

    def _choose_upgrade(self, write: _Write) -> _Upgrade:
        """The function that converts the request's items to the current schema version.

        Raises:
            ProblemError: the version that the request names is unknown.
        """
        spec = write.spec
        version = write.request.read_schema_version()
        if version is None or version == spec.schema_version:
            return _keep_unchanged
        recorded = self._shapes().get(spec.path) if version < spec.schema_version else None
        old = recorded.versions.get(version) if recorded else None
        if old is None:
            raise ProblemError(
                Problem(
                    "unsupported_media_type",
                    f"schema version {version} of {spec.path} is not known here, the current one "
                    f"is {spec.schema_version}; leave the parameter schema out to send that",
                )
            )
        from forebay.intake import versions  # noqa: PLC0415 - few requests need it

        is_patch = write.request.method == "PATCH"
        upgrade = versions.upgrade_patch if is_patch else versions.upgrade_item
        return partial(upgrade, spec, version, old)


def _parse_items(request: WriteRequest) -> JsonText | list[ParsedItem]:
    """Parse one item, or the items of an array or of lines."""
    if check_media(request, JSON_TYPES | NDJSON_TYPES) in NDJSON_TYPES:
        return parse_lines(request.read_body())
    return parse_item_or_array(request.read_body())


def _advance_origin(origin: Origin, result: _Result) -> Origin:
    """The origin for the next item: its lower bound makes ids rise in the order of the items."""
    if isinstance(result, Problem):
        return origin
    # A condition has its own lower bound.
    if origin.after is None and result.command.condition is None:
        return origin
    return replace(origin, after=max(origin.after or "", result.command.id))


def _add_dependency(sent: dict[tuple[str, str], Sequence[str]], command: Command) -> None:
    """Let later operations of the same item depend on this command.

    A decided command depends on those before it, so it stands for them.
    """
    target = command.resource, str(command.key)
    earlier = () if is_decided_command_id(command.id) else sent.get(target, ())
    sent[target] = [*earlier, command.id][-MAX_COMPARISONS:]


def _keep_unchanged(item: JsonText) -> JsonText:
    return item


def _read_path_key(write: _Write) -> KeyValue:
    return read_key(write.spec, write.request.path_parameters.get("key", ""))


def _read_query(
    spec: ResourceSpec, route: Route, query: Mapping[str, object], preferences: Preferences
) -> frozenset[str] | None:
    """Return the members of items that count; refuse parameters that the write does not have."""
    names: list[str] = []
    if route.action == "post":
        names += [COLUMNS, ON_CONFLICT]
    elif route.action in {"patch_many", "delete_many"}:
        names += [column.name for column in spec.columns]
    if names and preferences.returns in {"representation", "object"}:
        names.append(SELECT)
    refuse_unknown(query, names, spec)
    if route.action != "post":  # a field may be called `columns`
        return None
    check_on_conflict(spec, query)
    return read_columns(spec, query)


def _has_member(item: JsonText, name: str) -> bool:
    return isinstance(item.value, dict) and name in item.value


def _keep_columns(item: JsonText, columns: frozenset[str] | None) -> JsonText:
    """The item without the members that don't count."""
    if columns is None or not isinstance(item.value, dict) or item.value.keys() <= columns:
        return item
    value = {name: item.value[name] for name in item.value if name in columns}
    return JsonText(dump(value), value)


def _refuse_whole(results: Sequence[_Result]) -> None:
    """Refuse a request with items that are accepted together, if an item is refused."""
    for index, result in enumerate(results):
        if isinstance(result, Problem):
            detail = f"item {index}: {result.detail}; no item was accepted"
            raise ProblemError(replace(result, detail=detail))


def _read_if_none_match(route: Route, request: WriteRequest) -> bool:
    """Read `If-None-Match: *`, which a PUT and a POST of items may have.

    Raises:
        ProblemError: the write can't have `If-None-Match`, or not with this value.
    """
    if "if-none-match" not in request.headers:
        return False
    if route.action in {"put", "post"}:
        return request.must_not_exist()
    writer = "POST /commands" if route.action == "commands" else f"a {route.method}"
    detail = f"{writer} has no If-None-Match; a PUT with `If-None-Match: *` never overwrites"
    raise ProblemError(Problem("bad_header", detail))


def _read_request_condition(
    spec: ResourceSpec, route: Route, request: WriteRequest
) -> Condition | None:
    """Read the condition of a write: the tags in `If-Match`, and filters on fields."""
    filters = request.query if route.action in {"patch_many", "delete_many"} else {}
    if not request.if_match and not filters:
        return None
    # Few requests need it.
    from lambdas.write.conditions import build_condition, read_comparisons  # noqa: PLC0415

    where = read_comparisons(spec, filters) if filters else []
    return build_condition(spec, request.read_expected_tags(), where)


def _refuse_merges(patch: JsonText) -> None:
    """Refuse objects, which RFC 7396 merges into the item's; a patch replaces whole fields."""
    members = patch.value.items() if isinstance(patch.value, dict) else ()
    faults = [
        {
            "pointer": format_pointer((name,)),
            "detail": f"{MERGE_TYPE} would merge this object; to replace the field, send "
            "application/json",
        }
        for name, value in members
        if isinstance(value, dict) and not is_increment(value)
    ]
    if faults:
        detail = "the patch would have to be merged inside a field"
        raise ProblemError(Problem("validation_failed", detail, faults))
