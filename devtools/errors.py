"""The error that a developers' command reports as one line before it exits with 1."""


class ToolFailedError(Exception):
    """A program failed; the message names it and carries or announces its output."""
