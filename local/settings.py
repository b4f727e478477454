"""The one-machine stack's state folder, ports and names."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parent.parent

REGION = "us-east-1"
ACCOUNT = "000000000000"

DEFAULT_BASE_PORT = 8080
_MAX_BASE_PORT = 65530
_HOST_NAME = re.compile(r"[a-z0-9._-]+")

# Minimum free space below the state folder; with less, Postgres would soon fail during a write.
MIN_FREE_BYTES = 1024**3
# Below this a running stack stops. On a full disk the emulator's S3 acknowledges objects that it
# keeps in memory only: commands accepted then would be lost when it stops.
MIN_FREE_BYTES_RUNNING = 128 * 1024**2


class Ports(NamedTuple):
    """The consecutive ports of one stack, by the names of their servers in messages."""

    #: The gateway with its cache, which clients connect to.
    gateway: int
    #: The AWS emulator.
    emulator: int
    #: The project's Firehose server.
    firehose: int
    #: The Postgres primary.
    primary: int
    #: The Postgres replica.
    replica: int
    read_cache: int

    @classmethod
    def from_base(cls, base: int) -> Self:
        """Return the ports from a first port on."""
        return cls(*range(base, base + len(cls._fields)))

    @property
    def base(self) -> int:
        """The first port."""
        return self.gateway


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The settings of one start of the stack."""

    #: The folder with all state that is kept between starts.
    state: Path
    ports: Ports
    #: The checkout to run.
    root: Path = ROOT
    #: The gateway's host names besides the loopback names, in lower case.
    hosts: frozenset[str] = frozenset()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, base_port: int | None = None) -> Self:
        """Return the settings of this checkout.

        Args:
            env: read for `FOREBAY_STATE`, a folder instead of `.forebay` in the checkout, and for
                `FOREBAY_LOCAL_HOSTS`, further host names of the gateway, separated by commas.
            base_port: the first of the six ports; by default 8080.

        Raises:
            ValueError: the ports would exceed 65535, or a host name is invalid.
        """
        base = DEFAULT_BASE_PORT if base_port is None else base_port
        if not 1 <= base <= _MAX_BASE_PORT:
            raise ValueError(f"the port must be between 1 and {_MAX_BASE_PORT}, not {base}")
        state = Path(env.get("FOREBAY_STATE") or ROOT / ".forebay").expanduser().resolve()
        return cls(state=state, ports=Ports.from_base(base), hosts=_read_hosts(env))

    @property
    def secret(self) -> Path:
        """The file from which every password and key of the stack is derived."""
        return self.state / "secret"

    @property
    def logs(self) -> Path:
        """The folder with one log file per server."""
        return self.state / "logs"

    @property
    def addresses(self) -> Path:
        """The file of addresses and keys that `forebay --env local` reads."""
        return self.state / "operators.json"

    @property
    def postgres(self) -> Path:
        """The folder of both database clusters."""
        return self.state / "postgres"

    @property
    def emulator(self) -> Path:
        """The emulator's folder; the archive's objects are below it."""
        return self.state / "emulator"

    @property
    def firehose(self) -> Path:
        """The Firehose server's folder of records that are acknowledged, but not delivered yet."""
        return self.state / "firehose"

    @property
    def base_url(self) -> str:
        """The API's address for clients."""
        return f"http://127.0.0.1:{self.ports.gateway}/v1"

    @property
    def emulator_url(self) -> str:
        """The endpoint of every AWS service but Firehose."""
        return f"http://127.0.0.1:{self.ports.emulator}"

    @property
    def firehose_url(self) -> str:
        """The endpoint of Firehose."""
        return f"http://127.0.0.1:{self.ports.firehose}"


def _read_hosts(env: Mapping[str, str]) -> frozenset[str]:
    values = env.get("FOREBAY_LOCAL_HOSTS", "").lower().split(",")
    names = frozenset(name.strip() for name in values if name.strip())
    for name in sorted(names):
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"FOREBAY_LOCAL_HOSTS contains {name!r}; give host names without scheme and "
                "port, separated by commas"
            )
    return names
