"""Tells the consumer of archive objects that were written but not applied when the stack stopped.

The emulator's queues end with it, and with them the events of objects that nobody had applied yet.
The archive and the ledger know which those are. Where the database is new, that is all of them: the
tables are then made again from the archive.
"""

import json
from urllib.parse import quote_plus

import psycopg

from forebay.aws.archive import COMMANDS_PREFIX
from local.aws import Emulated
from local.deployment import Deployed


def requeue(emulated: Emulated, deployed: Deployed, database_url: str) -> int:
    """Sends the consumer an event for every object that the ledger does not know as applied.

    One that is being applied right now may get a second event, which changes nothing.

    Returns:
        How many objects that were.
    """
    keys = emulated.list_keys(deployed.archive_bucket, COMMANDS_PREFIX)
    if not keys:
        return 0
    with psycopg.connect(database_url) as connection:
        applied = {
            key
            for (key,) in connection.execute(
                "SELECT object FROM forebay.ledger WHERE completed_at IS NOT NULL"
            )
        }
    missed = [key for key in keys if key not in applied]
    emulated.send(deployed.queue_url, [_event(deployed.archive_bucket, key) for key in missed])
    return len(missed)


def _event(bucket: str, key: str) -> str:
    """An S3 event, as far as the consumer looks at it; keys in events are form-encoded."""
    entity = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": entity}]})
