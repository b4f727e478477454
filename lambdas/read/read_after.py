"""`Read-After`: a read that shows a state in which a command of the client is settled.

The header names the command by its status's address, as `Location` gave it, or, in a read of the
command's own item, by the command's id or by an entity tag of the item.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from forebay.access import Access, read_scope
from forebay.command import KeyValue
from forebay.conditional import parse_version
from forebay.errors import NotYetVisibleError
from forebay.ids import accepted_ms
from forebay.keys import decode_segment, read_key
from forebay.problem import Problem, ProblemError
from forebay.resource.spec import ResourceSpec
from forebay.routes import RequestView
from lambdas.read.visibility import Visibility, read_command_id

_HEADER: Final = "Read-After"
# With any host and stage before it: proxies may add a prefix. A key has no bare slash.
_ADDRESS: Final = re.compile(
    r"(?:https?://[^/?#\s]+)?(?:/[^/?#\s]+)*?/([a-z0-9_-]+)/([^/?#\s]+)/commands/([^/?#\s]+)"
)


@dataclass(frozen=True, slots=True)
class NamedCommand:
    """A command that a read names."""

    spec: ResourceSpec
    key: KeyValue
    id: str


class ReadAfter:
    """Reads the header, and waits for the command."""

    def __init__(
        self,
        visibility: Visibility,
        resources: Mapping[str, ResourceSpec],
        access: Access,
        *,
        wait_seconds: float,
        window_seconds: float,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Create the reader.

        Args:
            visibility: looks up commands.
            resources: the declarations.
            access: the callers' scopes.
            wait_seconds: how long a read waits for the replica.
            window_seconds: the age up to which a read waits for a command, and an item is read
                from the primary: clients can invent ids, and only recent ids are worth this.
            now_ms: the clock of command ids.
        """
        self._visibility = visibility
        self._resources = resources
        self._access = access
        self._wait_seconds = wait_seconds
        self._window_ms = round(window_seconds * 1000)
        self._now_ms = now_ms

    def of_item(self, spec: ResourceSpec, key: KeyValue, view: RequestView) -> NamedCommand | None:
        """The command in the header of a read of an item; None without the header.

        Raises:
            ProblemError: the header is neither an id, nor an entity tag, nor as in `of_list`.
        """
        text = view.headers.get("read-after")
        if text is None or "/" in text:
            return self.of_list([spec.path], view)
        return NamedCommand(spec, key, self._check_id(parse_version(text) or text))

    def of_list(self, paths: Collection[str], view: RequestView) -> NamedCommand | None:
        """The command in the header of a read of a list; None without the header.

        Args:
            paths: the resources that the answer shows; the caller may read them.
            view: the request.

        Raises:
            ProblemError: the header is not the address of a status; or it is of a resource that the
                caller may not read, so that the wait would reveal a status; or the id is in the
                future.
        """
        text = view.headers.get("read-after")
        if text is None:
            return None
        command = self._parse_address(text)
        path = command.spec.path
        scope = read_scope(command.spec.scope_group)
        if path in paths or self._access.allows(view.caller, scope):
            return command
        raise ProblemError(
            Problem(
                "bad_header",
                f"{_HEADER} names a command of {path}, which this answer does not show; it shows "
                f"{', '.join(sorted(paths))}",
            )
        )

    def require_on_replica(self, command: NamedCommand) -> None:
        """Wait until the replica shows the command as settled.

        Raises:
            NotYetVisibleError: the time is up.
        """
        if not self.wait_for_replica(command):
            raise describe_pending(command)

    def wait_for_replica(self, command: NamedCommand) -> bool:
        """Wait until the replica shows the command as settled; return False if the time is up."""
        wait_seconds = self._wait_seconds if self._is_recent(command) else 0
        status, _ = self._visibility.on_replica(
            command.spec, command.key, command.id, wait_seconds=wait_seconds
        )
        return status != "pending"

    def is_on_primary(self, command: NamedCommand) -> bool:
        """Return whether the primary shows a recent command as settled; queries it once."""
        return (
            self._is_recent(command)
            and self._visibility.on_primary(command.spec, command.key, command.id) != "pending"
        )

    def _parse_address(self, text: str) -> NamedCommand:
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or match[1] not in self._resources:
            raise ProblemError(
                Problem(
                    "bad_header",
                    f"{_HEADER} must be the address of a command's status, as Location gave it: "
                    "/v1/…/commands/…",
                )
            )
        path, key, command_id = match.groups()
        spec = self._resources[path]
        return NamedCommand(spec, read_key(spec, decode_segment(key)), self._check_id(command_id))

    def _check_id(self, text: str) -> str:
        return read_command_id(text, "bad_header", _HEADER, self._now_ms())

    def _is_recent(self, command: NamedCommand) -> bool:
        return accepted_ms(command.id) >= self._now_ms() - self._window_ms


def describe_pending(command: NamedCommand) -> NotYetVisibleError:
    """The error for a command that is not settled; the gateway answers 503."""
    return NotYetVisibleError(
        f"{command.spec.path}/{command.key}: command {command.id} is not applied yet"
    )
