"""Complete the bodies of archived commands with defaults, as their rows have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forebay.apply.rows.encoding import Encoded, Encoder
from forebay.command import Command
from forebay.resource.spec import ResourceSpec

#: Completes commands of a resource.
Completer = Callable[[Sequence[Command]], tuple[list[Command], Encoded]]


def build_completer(spec: ResourceSpec) -> Completer:
    """A function that completes commands' bodies.

    The commands must be of the current schema version (`make_current`). It returns them, and the
    rows of the puts and creates with the refusals of those that can't have a row; these are left
    out.
    """
    encoder = Encoder(spec)

    def complete(command: Command) -> Command:
        body = command.body
        if body is None or len(body) == len(spec.fields):
            return command
        return command._replace(body=encoder.complete_body(body))

    def complete_all(commands: Sequence[Command]) -> tuple[list[Command], Encoded]:
        encoded = encoder.encode([command for command in commands if command.body is not None])
        refused_ids = {refusal.command.id for refusal in encoded.refusals}
        return [complete(c) for c in commands if c.id not in refused_ids], encoded

    return complete_all
