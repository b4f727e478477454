"""The write function, warm, without the calls to AWS, compared with powertools and plain code.

All three take the same proxy event, validate the same item, make a command with a UUIDv7 and an
archive line, pass it to a stream that acknowledges immediately, log one line and answer 202. Only
Forebay refuses ambiguous JSON (repeated members, lone surrogates), reports all faults in one answer
(RFC 9457), and handles Idempotency-Key, If-Match and Read-After.

With an idempotency record, a request also makes two calls of DynamoDB, which are left out too.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Annotated, Any, cast

import orjson
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, Field

from bench import orders
from bench.events import build_proxy_event, encode_json, unheard
from bench.harness import Aim, Contender, Findings, duration, measure
from bench.stage import Stage
from forebay.access import Access
from forebay.aws.firehose import FirehoseSink
from forebay.aws.records import RecordTable
from forebay.command import Command
from forebay.ids import IdSource
from forebay.intake.acceptance import Acceptor
from forebay.intake.commands import CommandMaker
from forebay.intake.json_text import parse_text
from forebay.log import Log
from lambdas.write.answers import Answers
from lambdas.write.app import WriteApp
from lambdas.write.records import Records
from lambdas.write.requests import WriteRequest
from lambdas.write.settings import DEFAULT_MAX_BODY_BYTES

REQUESTS = 5_000
ROUNDS = 7
OURS, POWERTOOLS, BARE = "write function", "powertools and pydantic", "by hand with orjson"
PUT, PATCH = "write function, PUT", "write function, PATCH"
KEYED = "write function, with an Idempotency-Key"
RECORDED, REPEATED = "write function, with a record", "write function, a repetition"
WHAT = "write function, warm, one POST"
_STREAM = "commands"

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Acknowledging:
    """Clients of Firehose and DynamoDB that acknowledge everything without a network call."""

    def put_record(self, **_: object) -> dict[str, Any]:
        """Answer as AWS does."""
        return {"RecordId": "1", "Encrypted": True}

    def put_record_batch(self, *, Records: list[object], **_: object) -> dict[str, Any]:  # noqa: N803
        """Answer as AWS does."""
        return {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"} for _ in Records]}

    def put_item(self, **_: object) -> dict[str, Any]:
        """Answer as DynamoDB does if the record is new."""
        return {}

    def update_item(self, **_: object) -> dict[str, Any]:
        """Answer as DynamoDB does."""
        return {}


class Remembering(Acknowledging):
    """A client of DynamoDB which collects records, and then has all of them, finished."""

    def __init__(self) -> None:
        self._records: dict[str, Any] = {}

    def put_item(self, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """Answer as DynamoDB does: with an error if the record is not new."""
        item = arguments["Item"]
        record = self._records.setdefault(item["id"]["S"], item)
        if record is item:
            item["finished"] = {"BOOL": True}
            return {}
        code = "ConditionalCheckFailedException"
        answer: Any = {"Error": {"Code": code, "Message": ""}, "Item": record}
        raise ClientError(answer, "PutItem")


def compare(stage: Stage) -> Findings:
    """Send POSTs, PUTs and PATCHes in sequence."""
    count = stage.size(REQUESTS)
    events = [
        build_proxy_event("POST", "/orders", body=encode_json(command.body))
        for command in orders.commands(count)
    ]
    puts = [_build_event("PUT", command) for command in orders.commands(count)]
    patches = [_build_event("PATCH", command) for command in orders.patches(count, decided=True)]
    client = Acknowledging()
    keyed = [
        {**event, "headers": {**event["headers"], "Idempotency-Key": f'"{number}"'}}
        for number, event in enumerate(events)
    ]
    handlers = {OURS: ours(client), POWERTOOLS: powertools(client), BARE: bare(client)}
    contenders = [
        Contender(name, _send_all(handler, events), count) for name, handler in handlers.items()
    ]
    contenders += [
        Contender(PUT, _send_all(handlers[OURS], puts), count),
        Contender(PATCH, _send_all(handlers[OURS], patches), count),
        Contender(KEYED, _send_all(handlers[OURS], keyed), count),
        Contender(RECORDED, _send_all(ours(client, has_records=True), keyed), count),
        Contender(REPEATED, _send_all(_remember(keyed), keyed), count),
    ]
    with unheard():
        series = measure(contenders, rounds=stage.rounds(ROUNDS), warm_up=True)
        steps = breakdown(events)
    findings = Findings(series)
    findings.ratios = [
        duration(WHAT, series, OURS, POWERTOOLS, Aim(at_most=1.0)),
        duration(WHAT, series, OURS, BARE),
        duration("write function, warm, one PATCH", series, PATCH, PUT, Aim(at_most=1.2)),
        # The whole must stay within 1.5 times and a round trip to DynamoDB, which takes far longer
        # than all of this.
        duration("the POST with a record of its key", series, RECORDED, KEYED, Aim(at_most=1.5)),
        duration("the POST, repeated", series, REPEATED, KEYED),
    ]
    findings.facts = {
        "requests": count,
        "microseconds": {
            timing.name: round(1e6 * min(timing.seconds) / timing.items, 1) for timing in series
        },
        "microseconds_of_the_write_functions_steps": steps,
    }
    return findings


def _build_event(method: str, command: Command) -> dict[str, Any]:
    """A write of one item by its key."""
    path = {"key": str(command.key)}
    return build_proxy_event(method, "/orders/{key}", path=path, body=encode_json(command.body))


def _send_all(handler: Handler, events: list[dict[str, Any]]) -> Callable[[], None]:
    def run() -> None:
        for event in events:
            if handler(event)["statusCode"] != 202:  # noqa: PLR2004
                raise AssertionError(handler(event))

    return run


def _remember(events: list[dict[str, Any]]) -> Handler:
    """The write function after it has answered the events once."""
    handler = ours(Remembering(), has_records=True)
    with unheard():
        _send_all(handler, events)()
    return handler


def ours(client: Any, stream: str = _STREAM, *, has_records: bool = False) -> Handler:  # noqa: ANN401
    """The write function; the client is of Firehose, and of DynamoDB if it has records."""
    log = Log("write")
    table = RecordTable(client, "records")
    app = WriteApp(
        resources=orders.RESOURCES,
        acceptor=Acceptor(FirehoseSink(client, [stream]), cast("Any", None), log),
        ids=IdSource(),
        answers=Answers(15),
        log=log,
        access=Access("none"),
        records=Records(table, retention_seconds=86_400, is_required=True, log=log)
        if has_records
        else None,
    )
    return lambda event: app.handle(event).to_proxy("*")


class Item(BaseModel):
    """The item as a pydantic model, for the peers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer: Annotated[str, Field(min_length=1, max_length=20)]
    sku: Annotated[str, Field(min_length=1, max_length=20)]
    quantity: Annotated[int, Field(ge=1, le=10_000)]
    price: Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
    paid: bool
    placed_on: dt.date
    note: Annotated[str | None, Field(max_length=200)] = None


def powertools(client: Any) -> Handler:  # noqa: ANN401
    """The minimal function from powertools' documentation: resolver, model, logger."""
    app = APIGatewayRestResolver()
    logger = Logger(service="write")
    ids = IdSource()

    @app.post("/orders")
    def create() -> Response[str]:
        item = Item.model_validate_json(app.current_event.body or "")
        command_id, key = ids.make(create=True), str(uuid.uuid4())
        caller = f"api-key:{app.current_event.request_context.identity.api_key_id}"
        line = _encode_line(command_id, key, caller, item.model_dump(mode="json"))
        client.put_record(DeliveryStreamName=_STREAM, Record={"Data": line})
        logger.info("write_answered", extra={"status": 202, "path": app.current_event.path})
        return Response(
            202,
            "application/json",
            orjson.dumps(_build_answer(command_id, key)).decode(),
            _build_links(key),
        )

    context = SimpleNamespace(
        aws_request_id="1",
        function_name="write",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:1:function:write",
    )
    return lambda event: app.resolve(event, cast("Any", context))


def bare(client: Any) -> Handler:  # noqa: ANN401
    """Plain code for this one resource: checks in `if`s, one message per fault."""
    ids = IdSource()
    log = Log("write")

    def handle(event: dict[str, Any]) -> dict[str, Any]:
        body = orjson.loads(event["body"])
        if not _is_order(body):
            return {"statusCode": 422, "body": "{}"}
        command_id, key = ids.make(create=True), str(uuid.uuid4())
        caller = f"api-key:{event['requestContext']['identity']['apiKeyId']}"
        line = _encode_line(command_id, key, caller, body)
        client.put_record(DeliveryStreamName=_STREAM, Record={"Data": line})
        log.event("write_answered", status=202, path=event["path"])
        return {
            "statusCode": 202,
            "headers": {"Content-Type": "application/json", **_build_links(key)},
            "body": orjson.dumps(_build_answer(command_id, key)).decode(),
        }

    return handle


def _is_order(body: dict[str, Any]) -> bool:
    customer, sku, quantity = body["customer"], body["sku"], body["quantity"]
    note = body.get("note")
    Decimal(body["price"])
    dt.date.fromisoformat(body["placed_on"])
    return (
        isinstance(customer, str)
        and 0 < len(customer) <= 20  # noqa: PLR2004
        and isinstance(sku, str)
        and 0 < len(sku) <= 20  # noqa: PLR2004
        and isinstance(quantity, int)
        and 0 < quantity <= 10_000  # noqa: PLR2004
        and isinstance(body["paid"], bool)
        and (note is None or (isinstance(note, str) and len(note) <= 200))  # noqa: PLR2004
    )


def _encode_line(command_id: str, key: str, caller: str, body: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "v": 1,
            "id": command_id,
            "op": "create",
            "resource": "orders",
            "key": key,
            "schema": 1,
            "by": caller,
            "trace": None,
            "body": body,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _build_answer(command_id: str, key: str) -> dict[str, Any]:
    return {"command_id": command_id, "resource": "orders", "key": key, "status": "pending"}


def _build_links(key: str) -> dict[str, str]:
    return {"Content-Location": f"/v1/orders/{key}", "Retry-After": "15"}


def breakdown(events: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds of each step of a request, each measured alone over all requests."""
    ids = IdSource()
    maker = CommandMaker(ids)
    answers, log = Answers(15), Log("write")
    sink = FirehoseSink(cast("Any", Acknowledging()), [_STREAM])
    request_of = partial(WriteRequest.of_event, prefix="/v1", max_body_bytes=DEFAULT_MAX_BODY_BYTES)
    requests = [request_of(event) for event in events]
    origins = [request.read_origin(ids.now_ms()) for request in requests]
    raw = [request.read_body().data for request in requests]
    items = [parse_text(text) for text in raw]
    lines = [
        maker.create(orders.SPEC, item, origin) for item, origin in zip(items, origins, strict=True)
    ]
    responses = [answers.answer_one(line.command) for line in lines]
    steps: dict[str, Callable[[int], object]] = {
        "event to request and caller": lambda i: request_of(events[i]).read_origin(ids.now_ms()),
        "body, strict JSON": lambda i: parse_text(requests[i].read_body().data),
        "exact decimals, validation": lambda i: orders.SPEC.body.validate(raw[i]),
        "validation to archive line": lambda i: maker.create(orders.SPEC, items[i], origins[i]),
        "stream": lambda i: sink.put([lines[i].data]),
        "answer": lambda i: answers.answer_one(lines[i].command),
        "log": lambda _: log.event("write_answered", status=202, path="/v1/orders"),
        "to proxy": lambda i: responses[i].to_proxy("*"),
    }
    microseconds = {name: _time_step(step, len(items)) for name, step in steps.items()}
    microseconds["id, key, archive line"] = round(
        microseconds.pop("validation to archive line") - microseconds["exact decimals, validation"],
        1,
    )
    return microseconds


def _time_step(step: Callable[[int], object], count: int) -> float:
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for index in range(count):
            step(index)
        fastest = min(fastest, time.perf_counter() - start)
    return round(1e6 * fastest / count, 1)
