"""Outputs of the deployed stacks: names, ids and addresses."""

import json
from collections.abc import Mapping
from pathlib import Path

from local.settings import LocalSettings

Outputs = Mapping[str, Mapping[str, str]]

ENVIRONMENT = "local"


def stack_name(stack: str) -> str:
    """Return the name of a stack, such as `data`, in CloudFormation and in the outputs."""
    return f"forebay-{ENVIRONMENT}-{stack}"


def kept_deployment(settings: LocalSettings) -> Path:
    """Return the folder of the last deployment."""
    return settings.emulator / "deployed"


def read_outputs(settings: LocalSettings) -> Outputs:
    """Return the outputs of every deployed stack, by stack and name.

    Raises:
        FileNotFoundError: the stacks have never been deployed.
        ValueError: the file is damaged, because a start was interrupted.
    """
    outputs: Outputs = json.loads((kept_deployment(settings) / "outputs.json").read_bytes())
    return outputs
