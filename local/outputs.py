"""Outputs of the deployed stacks, and the file of addresses that the operators' tool reads."""

import json
from collections.abc import Mapping
from pathlib import Path

from local import read_cache
from local.credentials import ACCESS_KEY_ID, read_secret_key
from local.postgres.config import READER, locate_primary, locate_replica
from local.settings import REGION, LocalSettings

Outputs = Mapping[str, Mapping[str, str]]

ENVIRONMENT = "local"


def build_stack_name(stack: str) -> str:
    """Return the name of a stack, such as `data`, in CloudFormation and in the outputs."""
    return f"forebay-{ENVIRONMENT}-{stack}"


def locate_deployment(settings: LocalSettings) -> Path:
    """Return the folder of the last deployment."""
    return settings.emulator / "deployed"


def read_outputs(settings: LocalSettings) -> Outputs:
    """Return the outputs of every deployed stack, by stack and name.

    Raises:
        FileNotFoundError: the stacks have never been deployed.
        ValueError: the file is damaged, because a start was interrupted.
    """
    outputs: Outputs = json.loads((locate_deployment(settings) / "outputs.json").read_bytes())
    return outputs


def write_addresses(settings: LocalSettings) -> None:
    """Write the addresses and keys of a started stack; only the file's owner may read them.

    `forebay --env local` reads the file, so that the tool needs no code of the one-machine stack.
    """
    outputs: dict[str, str] = {}
    for stack in read_outputs(settings).values():
        outputs |= stack
    outputs["DatabaseUrl"] = locate_primary(settings).url()
    outputs["ReplicaUrl"] = locate_replica(settings).url(READER)
    outputs["ReadCacheUrl"] = read_cache.build_url(settings)
    addresses = {
        "outputs": outputs,
        "client": {
            "endpoint_url": settings.emulator_url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": read_secret_key(settings),
        },
        "firehose_url": settings.firehose_url,
    }
    temporary = settings.addresses.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(addresses, indent=2), encoding="utf-8")
    temporary.replace(settings.addresses)
