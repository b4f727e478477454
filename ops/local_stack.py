"""Finds the one-machine stack for `--env local`, by the file that each of its starts writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops.errors import UsageError

_STATE: Final = Path(__file__).resolve().parents[1] / ".forebay"
_FILE: Final = "operators.json"


@dataclass(frozen=True, slots=True)
class LocalStack:
    """The addresses and keys of a stack."""

    #: The outputs of its CloudFormation stacks, and the addresses of its databases.
    outputs: Mapping[str, str]
    #: Arguments of every AWS client: the emulator's address and keys.
    client: Mapping[str, str]
    firehose_url: str

    def configure_client(self, service: str) -> dict[str, Any]:
        """Return the arguments of a client of a service; never the operator's own credentials."""
        endpoint = {"endpoint_url": self.firehose_url} if service == "firehose" else {}
        return {**self.client, **endpoint}


def read_local_stack(environment: Mapping[str, str]) -> LocalStack:
    """Read the file of the stack in FOREBAY_STATE, or in this checkout's `.forebay`.

    Raises:
        UsageError: no stack has been started there.
    """
    state = Path(environment.get("FOREBAY_STATE") or _STATE).expanduser().resolve()
    try:
        members = json.loads((state / _FILE).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"there is no local stack in {state}; start it with `make run`, "
            "or set FOREBAY_STATE to its folder"
        ) from None
    return LocalStack(members["outputs"], members["client"], members["firehose_url"])
