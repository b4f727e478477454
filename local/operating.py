"""Writes the addresses and keys of the running stack for the operators' tool.

`forebay --env local` reads them from the state's folder, so that the tool needs no code of the
one-machine stack.
"""

import json

from local import read_cache
from local.credentials import ACCESS_KEY_ID, read_secret_key
from local.outputs import read_outputs
from local.postgres.config import READER, primary_of, replica_of
from local.settings import REGION, LocalSettings


def write_addresses(settings: LocalSettings) -> None:
    """Write the file of a started stack; only its owner may read it.

    Raises:
        OSError: the state's folder can't be written to.
    """
    outputs: dict[str, str] = {}
    for stack in read_outputs(settings).values():
        outputs |= stack
    outputs["DatabaseUrl"] = primary_of(settings).url()
    outputs["ReplicaUrl"] = replica_of(settings).url(READER)
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
