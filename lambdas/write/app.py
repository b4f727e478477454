"""The write function without Lambda: from a proxy event to a response."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from forebay.access import Access
from forebay.errors import TransientError
from forebay.http import Response, build_problem_response
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptance, Acceptor
from forebay.intake.attachments import AttachmentCheck
from forebay.intake.commands import Origin
from forebay.log import Log
from forebay.metrics import (
    COMMANDS_ACCEPTED,
    COMMANDS_BY_FALLBACK,
    COMMANDS_NOT_ACCEPTED,
    ITEMS_REFUSED,
    KEYS_REUSED,
    RECORDS_UNAVAILABLE,
    WRITES_REFUSED,
    WRITES_REPLAYED,
    Metric,
)
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import API_PREFIX, Route, routes
from lambdas.write.answers import Answers, describe_not_accepted, mark_not_accepted
from lambdas.write.plan import Plan, add_header
from lambdas.write.planner import Planner
from lambdas.write.requests import WriteRequest
from lambdas.write.settings import DEFAULT_MAX_BODY_BYTES
from lambdas.write.uploads import (
    UploadForms,
    describe_attachments_disabled,
    describe_attachments_unavailable,
)

if TYPE_CHECKING:
    from forebay.resource.shape import Recorded
    from lambdas.write.records import Claim, Records

#: A header of answers with commands of an earlier attempt.
REPLAYED: Final = "Idempotency-Replayed"
#: The metrics of refused requests, by the problem's code.
_METRICS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "not_accepted": (COMMANDS_NOT_ACCEPTED,),
    "idempotency_unavailable": (RECORDS_UNAVAILABLE,),
    "idempotency_key_reused": (WRITES_REFUSED, KEYS_REUSED),
}


class _Answer(NamedTuple):
    response: Response
    metrics: Mapping[Metric, float]


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
        access: Access,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        shapes: Callable[[], Mapping[str, Recorded]] = dict,
        records: Records | None = None,
        attachments: AttachmentCheck | None = None,
        uploads: UploadForms | None = None,
    ) -> None:
        """Create the app.

        Args:
            resources: the declarations.
            acceptor: stores commands.
            ids: creates command ids.
            answers: builds responses.
            log: gets one line per request.
            access: the callers' scopes.
            max_body_bytes: limit for a request's inflated body; a larger body is refused.
            shapes: returns the recorded earlier schema versions; called only when a request names
                one of them.
            records: the idempotency records; None without a table.
            attachments: checks the attachments in bodies; by default, null is accepted only.
            uploads: makes the forms of uploads; None without attachments.
        """
        self._max_body_bytes = max_body_bytes
        self._routes: dict[tuple[str, str], Route] = {
            (route.method, route.path): route
            for route in routes(resources)
            if route.function == "write"
        }
        self._planner = Planner(
            resources=resources,
            ids=ids,
            answers=answers,
            access=access,
            shapes=shapes,
            attachments=attachments or AttachmentCheck(None),
        )
        self._acceptor = acceptor
        self._ids = ids
        self._log = log
        self._records = records
        self._resources = resources
        self._uploads = uploads

    def handle(self, event: Mapping[str, Any]) -> Response:
        """Answer a proxy event; a refused request is answered with a problem document."""
        started = time.perf_counter()
        request = WriteRequest.of_event(event, API_PREFIX, max_body_bytes=self._max_body_bytes)
        route = self._routes.get((request.method, request.route_path))
        refusal: dict[str, Any] = {}
        try:
            response, metrics = self._answer_request(route, request)
        except ProblemError as exc:
            response = build_problem_response(exc.problem, request.path)
            refusal = {"code": exc.problem.code}
            metrics = dict.fromkeys(_METRICS.get(exc.problem.code, (WRITES_REFUSED,)), 1)
        self._log.event(
            "write_answered",
            metrics=metrics,
            route=route.name if route else None,
            method=request.method,
            path=ascii(request.path)[1:-1],
            status=response.status,
            **refusal,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
        )
        return response

    def _answer_request(self, route: Route | None, request: WriteRequest) -> _Answer:
        try:
            return self._answer_route(route, request)
        except TransientError as exc:  # of the bucket of attachments only
            self._log.event("attachments_unavailable", level="WARNING", reason=str(exc))
            raise ProblemError(describe_attachments_unavailable()) from exc

    def _answer_route(self, route: Route | None, request: WriteRequest) -> _Answer:
        if route is None:
            raise ProblemError(
                Problem("unknown_resource", f"nothing takes {request.method} {request.path}")
            )
        origin = request.read_origin(self._ids.now_ms())
        if route.action == "upload":
            return self._answer_upload(route, request, origin)
        if self._records is not None and origin.idempotency_key is not None:
            return self._answer_repeatable(self._records, route, request, origin)
        return self._send(self._planner.plan(route, request, origin), request.path)

    def _answer_upload(self, route: Route, request: WriteRequest, origin: Origin) -> _Answer:
        """Answer with the form of an upload, which has no command yet."""
        if self._uploads is None:
            raise ProblemError(describe_attachments_disabled())
        spec = self._resources[route.resource]
        return _Answer(self._uploads.answer_with_form(spec, route.field, request, origin), {})

    def _answer_repeatable(
        self, records: Records, route: Route, request: WriteRequest, origin: Origin
    ) -> _Answer:
        """Answer a request that may be a repetition."""
        from lambdas.write.records import Repeatable  # noqa: PLC0415 - needed with a table only

        repeatable = Repeatable.of(request, origin)
        try:
            plan = self._planner.plan(route, request, origin)
        except ProblemError:
            claim = records.find(repeatable)
            if claim is None:
                raise
            return self._send_claimed(records, claim, request.path)
        # Without commands there is no effect to repeat, and a corrected request may have the key.
        claim = records.claim(repeatable, plan) if plan.lines else records.find(repeatable)
        if claim is not None:
            return self._send_claimed(records, claim, request.path)
        answer = self._send(plan, request.path)
        metrics = {RECORDS_UNAVAILABLE: 1} if plan.lines else {}
        return answer._replace(metrics={**answer.metrics, **metrics})

    def _send_claimed(self, records: Records, claim: Claim, instance: str) -> _Answer:
        if claim.is_finished:
            answer = _Answer(claim.plan.response, {})
        else:
            answer = self._send_recorded(records, claim, instance)
        if not claim.is_repetition:
            return answer
        return _Answer(
            add_header(answer.response, REPLAYED, "true"), {**answer.metrics, WRITES_REPLAYED: 1}
        )

    def _send_recorded(self, records: Records, claim: Claim, instance: str) -> _Answer:
        """Send the commands of a plan, under this attempt's lock of its record."""
        acceptance = self._acceptor.accept(claim.plan.lines)
        is_available = records.end(claim, is_accepted=not acceptance.not_accepted)
        answer = _build_answer(claim.plan, acceptance, instance)
        if is_available:
            return answer
        return answer._replace(metrics={**answer.metrics, RECORDS_UNAVAILABLE: 1})

    def _send(self, plan: Plan, instance: str) -> _Answer:
        """Send the commands of a plan without a record."""
        acceptance = self._acceptor.accept(plan.lines) if plan.lines else Acceptance(())
        return _build_answer(plan, acceptance, instance)


def _build_answer(plan: Plan, acceptance: Acceptance, instance: str) -> _Answer:
    """Return the plan's answer, or what remains of it if commands were not accepted.

    Raises:
        ProblemError: not_accepted: a command of a whole was not accepted.
    """
    response = plan.response
    if acceptance.not_accepted:
        if plan.is_whole:
            raise ProblemError(describe_not_accepted())
        ids = {line.command.id for line in acceptance.not_accepted}
        response = mark_not_accepted(response, ids, instance)
    return _Answer(response, _build_metrics(acceptance, refused_count=plan.refused_count))


def _build_metrics(acceptance: Acceptance, *, refused_count: int) -> dict[Metric, float]:
    """Return the metrics of an accepted request; `refused_count` is of its refused items."""
    values = (
        (COMMANDS_ACCEPTED, len(acceptance.accepted)),
        (COMMANDS_BY_FALLBACK, acceptance.fallback_count),
        (COMMANDS_NOT_ACCEPTED, len(acceptance.not_accepted)),
        (ITEMS_REFUSED, refused_count),
    )
    return {metric: value for metric, value in values if value}
