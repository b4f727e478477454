"""Events of the stack's start, run and stop, for a listener that shows them."""

from collections.abc import Iterator
from contextlib import contextmanager


class Listener:
    """Ignores all events; a subclass shows them. Its methods are called from several threads."""

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:  # noqa: ARG002
        """Report the begin and the successful end of the block, which may add notes to the list."""
        yield []

    def report_stop(self, name: str, seconds: float, *, forced: bool) -> None:
        """Report that a server has ended on request.

        Args:
            name: of the server.
            seconds: since the request.
            forced: it was killed: it had no time for an orderly end, or did not use it.
        """

    def remark(self, text: str) -> None:
        """Report a message for the user that does not belong to a step."""
