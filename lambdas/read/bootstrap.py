"""Builds the read function; the only module that chooses real adapters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

import resources
from forebay.access import Access
from forebay.db.connect import Connection, connect
from forebay.db.session import Session
from forebay.log import Log
from forebay.read_cache.address import Address
from forebay.read_cache.link import READ_BUDGET, Link
from forebay.read_cache.positions import CURRENT_POSITION
from forebay.read_cache.reader import CacheReader
from forebay.resource.relations import find_relations
from forebay.resource.spec import ResourceSpec
from forebay.signing import Credentials
from lambdas.read.app import ReadApp
from lambdas.read.cached import CachedAnswers, read_current_position
from lambdas.read.database import ReadDatabase
from lambdas.read.downloads import DownloadReader
from lambdas.read.items import ItemReader
from lambdas.read.lists import ListReader
from lambdas.read.read_after import ReadAfter
from lambdas.read.settings import PRIMARY_WINDOW_SECONDS, ReadSettings
from lambdas.read.sql.statement import Query
from lambdas.read.statuses import StatusReader
from lambdas.read.visibility import Visibility

SERVICE = "read"


def build(
    settings: ReadSettings, log: Log, open_connection: Callable[..., Connection] = connect
) -> ReadApp:
    """Build the app with the databases that the settings name.

    Raises:
        forebay.errors.SettingsError: the kind of authorization is unknown, or the read cache's
            address is invalid.
    """
    open_session = partial(
        open_connection,
        application_name="forebay-read",
        statement_timeout_ms=round(settings.statement_timeout_seconds * 1000),
        read_only=True,
    )
    database = ReadDatabase(
        replica=Session(
            partial(open_session, settings.replica_url, prefer_standby=True), prefers_standby=True
        ),
        primary=Session(partial(open_session, settings.primary_url)),
    )
    visibility = Visibility(database)
    specs = resources.load()
    access = Access.parse(settings.authorization, settings.principals)
    read_after = ReadAfter(
        visibility,
        specs,
        access,
        wait_seconds=settings.read_after_wait_seconds,
        window_seconds=settings.buffer_seconds + PRIMARY_WINDOW_SECONDS,
    )
    address = Address.parse(settings.read_cache)
    cache = None if address is None else _build_cache(address, database, specs, log)
    bucket = settings.attachments
    items = ItemReader(database, read_after, cache)
    return ReadApp(
        resources=specs,
        items=items,
        lists=ListReader(
            database,
            find_relations(specs),
            access,
            read_after,
            cache,
        ),
        statuses=StatusReader(
            visibility,
            buffer_seconds=settings.buffer_seconds,
            wait_cap_seconds=settings.wait_cap_seconds,
        ),
        # The process's own variables, as the SDKs read them.
        downloads=None
        if bucket is None
        else DownloadReader(bucket, items, lambda: Credentials.current(os.environ)),
        log=log,
        cache=cache,
        dotted_parameters=settings.dotted_parameters,
    )


def _build_cache(
    address: Address, database: ReadDatabase, specs: Mapping[str, ResourceSpec], log: Log
) -> CachedAnswers:
    link = Link(
        address,
        READ_BUDGET,
        on_failure=lambda reason: log.event("read_cache_skipped", level="WARNING", reason=reason),
    )
    statement = Query(CURRENT_POSITION.encode(), {})
    reader = CacheReader(link, partial(read_current_position, database, statement))
    return CachedAnswers(reader, database, specs)
