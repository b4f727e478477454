"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from forebay.command import KeyValue
from forebay.resource.spec import ResourceSpec
from ops.context import Context
from ops.errors import UsageError

DeadLetterQueueUrl = Annotated[
    str | None,
    typer.Option(
        "--dead-letter-queue-url",
        help="The dead-letter queue. [env var: FOREBAY_DEAD_LETTER_QUEUE_URL]",
    ),
]
QueueUrl = Annotated[
    str | None,
    typer.Option("--queue-url", help="The consumer's queue. [env var: FOREBAY_QUEUE_URL]"),
]


def check_resources(context: Context, paths: Iterable[str]) -> None:
    """Require that all paths are those of declared resources.

    Raises:
        UsageError: a path is not; names all such paths, and the declared resources.
    """
    unknown = sorted(set(paths) - set(context.resources))
    if unknown:
        declared = ", ".join(sorted(context.resources))
        raise UsageError(f"there is no resource {', '.join(unknown)}; the resources are {declared}")


def find_spec(context: Context, path: str) -> ResourceSpec:
    """Return the declaration of a resource.

    Raises:
        UsageError: the resource is not declared.
    """
    check_resources(context, [path])
    return context.resources[path]


def parse_key(spec: ResourceSpec, text: str) -> KeyValue:
    """Return the key that a text stands for, as in the item's address.

    Raises:
        UsageError: the text is not a key of the resource.
    """
    try:
        return spec.body.read_key(text)
    except ValueError as exc:
        raise UsageError(f"{text!r} is not a key of {spec.path}: {exc}") from None
