"""The environment variables of the functions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from infra.front import ApiSettings, IamSettings
from infra.settings import FunctionName, Settings
from infra.stacks.attachments import export_attachments, export_upload_queues, export_uploads
from infra.stacks.data import DataStack
from infra.stacks.database import Reach

#: How much later than the gateway Postgres cancels a statement. A function that fails first would
#: be answered 503, but a slow statement must be answered 504.
STATEMENT_GRACE_SECONDS = 1


def build_variables(
    settings: Settings, data: DataStack, reach: Reach, read_cache_url: str | None
) -> Mapping[FunctionName, Mapping[str, str]]:
    """The environment variables of each function: exactly those that its settings read."""
    archive = {"FOREBAY_ARCHIVE_BUCKET": data.archive.bucket.bucket_name}
    buffer = {"FOREBAY_BUFFER_SECONDS": str(settings.stream.buffer_seconds)}
    cors = {"FOREBAY_CORS_ALLOW_ORIGIN": settings.api.cors_allow_origin}
    stream = {"FOREBAY_STREAMS": ",".join(data.delivery.names)}
    if settings.stream.endpoint is not None:
        stream["AWS_ENDPOINT_URL_FIREHOSE"] = settings.stream.endpoint
    cache = {} if read_cache_url is None else {"FOREBAY_READ_CACHE": read_cache_url}
    attachments = export_attachments(settings, data)
    reading = {**_export_reading(settings, reach), **buffer, **cors, **cache, **attachments}
    by_function: Mapping[FunctionName, Mapping[str, str]] = {
        "write": {
            **stream,
            **archive,
            **buffer,
            **cors,
            **_export_idempotency(settings, data),
            **_export_max_body(settings),
            **attachments,
            **_export_authorization(settings.api),
        },
        "read": reading,
        "status": reading,
        "about": {
            "FOREBAY_REQUIRE_API_KEY": "true" if settings.api.require_api_key else "false",
            # Delays that raise an alarm need an operator in the status too.
            "FOREBAY_STATUS_ATTENTION_SECONDS": str(settings.operations.apply_lag_seconds),
            "FOREBAY_DEAD_LETTER_QUEUE_URL": data.events.dead_letters.queue_url,
            **_export_dotted(settings.api),
            "FOREBAY_REPLICA_URL": reach.replicas.url,
            **archive,
            **cors,
        },
        "imports": {**archive, **export_uploads(data, stream)},
        "firehose_consumer": {
            "FOREBAY_DATABASE_URL": reach.writer.url,
            "FOREBAY_QUEUE_URL": data.events.queue.queue_url,
            **archive,
            **cache,
        },
        "migrate": {
            "FOREBAY_DATABASE_URL": reach.owner.url,
            **cache,
            **({"FOREBAY_USERS": ",".join(reach.made_users)} if reach.made_users else {}),
        },
        "sweep": {
            "FOREBAY_DATABASE_URL": reach.reader.url,
            **archive,
            **_export_queues(data),
            **export_upload_queues(data),
            **_export_sweep(settings),
        },
    }
    return {name: {"FOREBAY_ENV": settings.name, **by_function[name]} for name in by_function}


def _export_reading(settings: Settings, reach: Reach) -> Mapping[str, str]:
    """The variables of the functions that answer reads, except those that others have too."""
    timeout_seconds = settings.database.read_timeout_seconds + STATEMENT_GRACE_SECONDS
    return {
        "FOREBAY_DATABASE_URL": reach.reader.url,
        "FOREBAY_REPLICA_URL": reach.replicas.url,
        "FOREBAY_WAIT_CAP_SECONDS": str(settings.wait_cap_seconds),
        "FOREBAY_STATEMENT_TIMEOUT_SECONDS": str(timeout_seconds),
        **_export_authorization(settings.api),
        **_export_dotted(settings.api),
    }


def _export_idempotency(settings: Settings, data: DataStack) -> Mapping[str, str]:
    """The variables of the idempotency records; empty without a table."""
    idempotency = settings.idempotency
    if idempotency is None or data.records is None:
        return {}
    return {
        "FOREBAY_IDEMPOTENCY_TABLE": data.records.name,
        "FOREBAY_IDEMPOTENCY_RETENTION_SECONDS": str(idempotency.retention_hours * 3600),
        "FOREBAY_IDEMPOTENCY_REQUIRED": (
            "true" if idempotency.when_unavailable == "refuse" else "false"
        ),
    }


def _export_max_body(settings: Settings) -> Mapping[str, str]:
    """The edge's limit, for bodies with a length that the edge can't see; empty without an edge.

    A chunked body has no `Content-Length` (RFC 9112 §7.1), and HTTP/2 does not require one.
    """
    if settings.edge is None:
        return {}
    return {"FOREBAY_MAX_BODY_BYTES": str(settings.edge.max_body_bytes)}


def _export_authorization(api: ApiSettings) -> Mapping[str, str]:
    """The variables by which a function determines which other resources a caller may use."""
    kind: dict[str, str] = {"FOREBAY_AUTHORIZATION": api.authorization.kind}
    if isinstance(api.authorization, IamSettings) and api.authorization.principals:
        principals = {arn: list(scopes) for arn, scopes in api.authorization.principals.items()}
        kind["FOREBAY_PRINCIPALS"] = json.dumps(principals, separators=(",", ":"))
    return kind


def _export_dotted(api: ApiSettings) -> Mapping[str, str]:
    """The variable by which functions see no dotted parameters; empty if the API has them."""
    return {} if api.dotted_parameters else {"FOREBAY_DOTTED_PARAMETERS": "false"}


def _export_queues(data: DataStack) -> Mapping[str, str]:
    return {
        "FOREBAY_QUEUE_URL": data.events.queue.queue_url,
        "FOREBAY_DEAD_LETTER_QUEUE_URL": data.events.dead_letters.queue_url,
        "FOREBAY_IMPORT_QUEUE_URL": data.imports.queue.queue_url,
        "FOREBAY_IMPORT_DEAD_LETTER_QUEUE_URL": data.imports.dead_letters.queue_url,
    }


def _export_sweep(settings: Settings) -> Mapping[str, str]:
    sweep = settings.sweep
    return {
        "FOREBAY_SWEEP_GRACE_SECONDS": str(sweep.grace_seconds),
        "FOREBAY_SWEEP_LOOKBACK_SECONDS": str(sweep.lookback_hours * 3600),
        "FOREBAY_SWEEP_PATIENCE_SECONDS": str(sweep.patience_minutes * 60),
    }
