"""Where the one-machine stack keeps its state, and which ports and names it uses."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent

REGION = "us-east-1"
ACCOUNT = "000000000000"

DEFAULT_BASE_PORT = 8080
_PORTS_IN_USE = 5
_MAX_BASE_PORT = 65535 - _PORTS_IN_USE + 1
_HOST_NAME = re.compile(r"[a-z0-9._-]+")

# Free room below the state folder, without which Postgres would soon stop in the middle of a write.
MIN_FREE_BYTES = 1024**3
# Where a running stack stops. On a full disk the emulator's S3 acknowledges objects that it only
# keeps in memory: what the functions accept then would not outlive it.
MIN_FREE_BYTES_RUNNING = 128 * 1024**2


@dataclass(frozen=True, slots=True)
class Ports:
    """The five neighbouring ports of one stack."""

    #: The first of them: the address that clients use.
    base: int

    @property
    def gateway(self) -> int:
        """Our gateway with its cache: what clients talk to."""
        return self.base

    @property
    def emulator(self) -> int:
        """The AWS emulator."""
        return self.base + 1

    @property
    def firehose(self) -> int:
        """Our Firehose server."""
        return self.base + 2

    @property
    def primary(self) -> int:
        """The Postgres primary."""
        return self.base + 3

    @property
    def replica(self) -> int:
        """The Postgres replica."""
        return self.base + 4

    def named(self) -> Mapping[str, int]:
        """Every port by the name of what listens there."""
        return {
            "gateway": self.gateway,
            "emulator": self.emulator,
            "Firehose server": self.firehose,
            "Postgres primary": self.primary,
            "Postgres replica": self.replica,
        }


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """All that one start of the stack depends on."""

    #: Folder that holds everything worth keeping between starts.
    state: Path
    ports: Ports
    #: The checkout that is run.
    root: Path = ROOT
    #: Names by which clients may call the gateway besides the loopback ones, in lower case.
    hosts: frozenset[str] = frozenset()

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ, base_port: int | None = None) -> Self:
        """The settings of this checkout.

        Args:
            env: read for `FOREBAY_STATE`, a folder instead of `.forebay` in the checkout, and for
                `FOREBAY_LOCAL_HOSTS`, further names of the gateway with commas between them.
            base_port: first of the five ports; 8080 unless told.

        Raises:
            ValueError: the ports would not fit below 65536, or a name is not one.
        """
        base = DEFAULT_BASE_PORT if base_port is None else base_port
        if not 1 <= base <= _MAX_BASE_PORT:
            raise ValueError(f"the port must be between 1 and {_MAX_BASE_PORT}, not {base}")
        state = Path(env.get("FOREBAY_STATE") or ROOT / ".forebay").expanduser().resolve()
        return cls(state=state, ports=Ports(base), hosts=_hosts(env))

    @property
    def secret(self) -> Path:
        """File from which every password and key of the stack is derived."""
        return self.state / "secret"

    @property
    def logs(self) -> Path:
        """Folder with one log file per server."""
        return self.state / "logs"

    @property
    def processes(self) -> Path:
        """List of the running servers, for whoever has to stop them after a crash."""
        return self.state / "processes.json"

    @property
    def postgres(self) -> Path:
        """Folder of both database clusters."""
        return self.state / "postgres"

    @property
    def emulator(self) -> Path:
        """Folder of the emulator; the archive's objects are below it."""
        return self.state / "emulator"

    @property
    def firehose(self) -> Path:
        """Folder where our Firehose server keeps what it has acknowledged and not yet delivered."""
        return self.state / "firehose"

    @property
    def base_url(self) -> str:
        """Address of the API for clients."""
        return f"http://127.0.0.1:{self.ports.gateway}/v1"

    @property
    def emulator_url(self) -> str:
        """Endpoint of every AWS service but Firehose."""
        return f"http://127.0.0.1:{self.ports.emulator}"

    @property
    def firehose_url(self) -> str:
        """Endpoint of Firehose."""
        return f"http://127.0.0.1:{self.ports.firehose}"


def _hosts(env: Mapping[str, str]) -> frozenset[str]:
    listed = env.get("FOREBAY_LOCAL_HOSTS", "").lower().split(",")
    names = frozenset(name.strip() for name in listed if name.strip())
    for name in sorted(names):
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"FOREBAY_LOCAL_HOSTS names {name!r}; give names without scheme and port, "
                "with commas between them"
            )
    return names
