"""What the stacks of the running deployment say of themselves: names, ids and addresses."""

import json
from collections.abc import Mapping
from pathlib import Path

from local.settings import LocalSettings

Outputs = Mapping[str, Mapping[str, str]]

ENVIRONMENT = "local"


def stack_name(stack: str) -> str:
    """The name of a stack, such as `data`, in CloudFormation and in the outputs."""
    return f"forebay-{ENVIRONMENT}-{stack}"


def kept_deployment(settings: LocalSettings) -> Path:
    """The folder of what the last start deployed."""
    return settings.emulator / "deployed"


def read_outputs(settings: LocalSettings) -> Outputs:
    """The outputs of every stack that the last start deployed, by stack and name.

    Raises:
        FileNotFoundError: no start has deployed anything yet.
        ValueError: an interrupted start has left the file damaged.
    """
    outputs: Outputs = json.loads((kept_deployment(settings) / "outputs.json").read_bytes())
    return outputs
