"""The write function without Lambda: from a proxy event to a response."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from forebay.command import Command, KeyValue
from forebay.http import Response, problem_response
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptance, Acceptor
from forebay.intake.commands import BatchItems, Caller, CommandMaker, Line
from forebay.intake.json_text import JsonText
from forebay.keys import read_key
from forebay.log import Log
from forebay.metrics import (
    COMMANDS_ACCEPTED,
    COMMANDS_BY_FALLBACK,
    COMMANDS_NOT_ACCEPTED,
    ITEMS_REFUSED,
    WRITES_REFUSED,
    Metric,
)
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, Route, routes
from lambdas.write.answers import Answers, not_accepted
from lambdas.write.items import ParsedItem, parse_item, parse_item_or_array, parse_lines
from lambdas.write.preferences import Method, honoured_preferences
from lambdas.write.requests import JSON_TYPES, NDJSON_TYPES, WriteRequest
from lambdas.write.settings import DEFAULT_MAX_BODY_BYTES

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded

#: An item's encoded command, or the reason for the item's refusal.
_Result = Line | Problem
#: Converts an item to the current schema version.
_Upgrade = Callable[[JsonText], JsonText]


class _Answer(NamedTuple):
    response: Response
    metrics: Mapping[Metric, float]


_Writer = Callable[[ResourceSpec, WriteRequest, Caller], _Answer]


class WriteApp:
    """Answers write requests."""

    def __init__(
        self,
        *,
        resources: Mapping[str, ResourceSpec],
        acceptor: Acceptor,
        ids: IdSource,
        answers: Answers,
        log: Log,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        shapes: Callable[[], Mapping[str, Recorded]] = dict,
    ) -> None:
        """Create the app.

        Args:
            resources: the declarations.
            acceptor: stores commands.
            ids: creates command ids.
            answers: builds responses.
            log: gets one line per request.
            max_body_bytes: limit for a request's inflated body; a larger body is refused.
            shapes: returns the recorded earlier schema versions; called only when a request names
                one of them.
        """
        self._resources = resources
        self._max_body_bytes = max_body_bytes
        self._routes: dict[tuple[str, str], Route] = {
            (route.method, route.path): route
            for route in routes(resources)
            if route.function == "write"
        }
        self._writers: Mapping[str, _Writer] = {
            "post": self._post,
            "put": self._put,
            "delete": self._delete,
        }
        self._acceptor = acceptor
        self._ids = ids
        self._make = CommandMaker(ids)
        self._answers = answers
        self._log = log
        self._shapes = shapes

    def handle(self, event: Mapping[str, Any]) -> Response:
        """Answer a proxy event; a refused request is answered with a problem document."""
        started = time.perf_counter()
        request = WriteRequest.of_event(event, API_PREFIX, max_body_bytes=self._max_body_bytes)
        route = self._routes.get((request.method, request.resource))
        try:
            response, metrics = self._dispatch(route, request)
        except ProblemError as exc:
            # A problem with a hint answers something that PostgREST's clients send by themselves.
            to_client = exc.problem.hint is not None
            response = problem_response(exc.problem, request.path, to_read=to_client)
            is_lost = exc.problem.code == "not_accepted"
            metrics = {COMMANDS_NOT_ACCEPTED if is_lost else WRITES_REFUSED: 1}
        self._log.event(
            "write_answered",
            metrics=metrics,
            route=route.name if route else None,
            method=request.method,
            path=ascii(request.path)[1:-1],
            status=response.status,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )
        return response

    def _dispatch(self, route: Route | None, request: WriteRequest) -> _Answer:
        if route is None:
            raise ProblemError(
                Problem("unknown_resource", f"nothing takes {request.method} {request.path}")
            )
        spec = self._resources[route.resource]
        preferences = honoured_preferences(
            request.prefer,
            spec,
            cast("Method", route.method),
            must_not_exist=route.method == "PUT" and request.must_not_exist(),
        )
        if request.query:
            raise ProblemError(_describe_query(spec, request.query))
        caller = request.caller(self._ids.now_ms())
        answer = self._writers[route.action](spec, request, caller)
        if not preferences:
            return answer
        applied_header = {"Preference-Applied": ", ".join(preferences)}
        headers = {**answer.response.headers, **applied_header}
        return answer._replace(response=replace(answer.response, headers=headers))

    def _post(self, spec: ResourceSpec, request: WriteRequest, caller: Caller) -> _Answer:
        media = request.media_type()
        if media in NDJSON_TYPES:
            return self._accept_batch(spec, request, caller, parse_lines(request.body()))
        if media not in JSON_TYPES:
            raise ProblemError(_describe_media(media, JSON_TYPES | NDJSON_TYPES))
        sent = parse_item_or_array(request.body())
        if isinstance(sent, list):
            return self._accept_batch(spec, request, caller, sent)
        item = self._choose_upgrade(spec, request)(sent)
        return self._accept_one(self._make.post(spec, item, caller))

    def _put(self, spec: ResourceSpec, request: WriteRequest, caller: Caller) -> _Answer:
        key = _read_path_key(spec, request)
        media = request.media_type()
        if media not in JSON_TYPES:
            raise ProblemError(_describe_media(media, JSON_TYPES))
        sent = parse_item(request.body())
        item = self._choose_upgrade(spec, request)(sent)
        create = request.must_not_exist()
        return self._accept_one(self._make.put(spec, key, item, caller, create=create))

    def _delete(self, spec: ResourceSpec, request: WriteRequest, caller: Caller) -> _Answer:
        return self._accept_one(self._make.delete(spec, _read_path_key(spec, request), caller))

    def _accept_one(self, line: Line) -> _Answer:
        acceptance = self._acceptor.accept([line])
        if acceptance.not_accepted:
            raise ProblemError(not_accepted())
        return _Answer(self._answers.accepted(line.command), _count(acceptance))

    def _accept_batch(
        self,
        spec: ResourceSpec,
        request: WriteRequest,
        caller: Caller,
        items: Sequence[ParsedItem],
    ) -> _Answer:
        results: list[_Result] = []
        names = BatchItems()
        upgrade = self._choose_upgrade(spec, request)
        for item in items:
            results.append(self._make_line(spec, item, caller, names, upgrade))
            caller = _advance_caller(caller, results[-1])
        lines = [result for result in results if isinstance(result, Line)]
        acceptance = self._acceptor.accept(lines) if lines else Acceptance(())
        response = self._answers.batch(_list_outcomes(results, acceptance), request.path)
        return _Answer(response, _count(acceptance, refused=len(results) - len(lines)))

    def _make_line(
        self,
        spec: ResourceSpec,
        item: ParsedItem,
        caller: Caller,
        names: BatchItems,
        upgrade: _Upgrade,
    ) -> _Result:
        """Make one item's command, or return the problem; the other items are not affected."""
        if isinstance(item, Problem):
            return item
        try:
            # The name is needed only for a key that the server derives.
            derives = spec.key_is_made and caller.idempotency_key is not None
            name = names.name(item) if derives else ""
            return self._make.post(spec, upgrade(item), caller, name=name)
        except ProblemError as exc:
            return exc.problem

    def _choose_upgrade(self, spec: ResourceSpec, request: WriteRequest) -> _Upgrade:
        """The function that converts the request's items to the current schema version.

        Raises:
            ProblemError: the version that the request names is unknown.
        """
        version = request.schema_version()
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
        from forebay.intake.versions import current_item  # noqa: PLC0415 - few requests need it

        return partial(current_item, spec, version, old)


def _keep_unchanged(item: JsonText) -> JsonText:
    return item


def _list_outcomes(results: Sequence[_Result], acceptance: Acceptance) -> list[Command | Problem]:
    lost_ids = {line.command.id for line in acceptance.not_accepted}
    return [
        result
        if isinstance(result, Problem)
        else not_accepted()
        if result.command.id in lost_ids
        else result.command
        for result in results
    ]


def _count(acceptance: Acceptance, *, refused: int = 0) -> dict[Metric, float]:
    """Return the metrics of an accepted request; `refused` is the number of its refused items."""
    values = {
        COMMANDS_ACCEPTED: len(acceptance.accepted),
        COMMANDS_BY_FALLBACK: acceptance.by_fallback,
        COMMANDS_NOT_ACCEPTED: len(acceptance.not_accepted),
        ITEMS_REFUSED: refused,
    }
    return {metric: value for metric, value in values.items() if value}


def _advance_caller(caller: Caller, result: _Result) -> Caller:
    """The caller for the next item; a lower bound for ids makes them rise in the items' order."""
    if caller.after is None or isinstance(result, Problem):
        return caller
    return replace(caller, after=max(caller.after, result.command.id))


def _describe_query(spec: ResourceSpec, query: Iterable[str]) -> Problem:
    names = sorted(query)
    item = f"{API_PREFIX}/{spec.path}/{{{spec.key.name}}}"
    hints = {
        "columns": "PostgREST's clients add `columns` when they insert an array: insert the items "
        "one by one, or send the array without it; all members of an item count",
        "on_conflict": "PostgREST's clients add `on_conflict` to an upsert: a POST never "
        f"overwrites an item, PUT {item} does",
        "select": "a write answers with the address of its status, not with rows: read the item "
        f"at {item} with `Read-After`",
    }
    known_names = [name for name in names if name in hints]
    names_text = ", ".join(map(ascii, known_names or names[:1]))
    hint = "; ".join(hints[name] for name in known_names) or None
    return Problem("unknown_parameter", f"a write has no parameter {names_text}", hint=hint)


def _read_path_key(spec: ResourceSpec, request: WriteRequest) -> KeyValue:
    return read_key(spec, request.path_parameters.get("key", ""))


def _describe_media(media: str, allowed: frozenset[str]) -> Problem:
    description = f"Content-Type {media[:80]!a}" if media else "no content type"
    return Problem(
        "unsupported_media_type",
        f"{description} is not supported here; send {', '.join(sorted(allowed))}",
        headers={"Accept-Post": ", ".join(sorted(allowed))},
    )
