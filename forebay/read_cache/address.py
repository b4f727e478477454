"""The address of the read cache, as an environment variable holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlsplit

from forebay.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Address:
    """Where the cache is, and how to log in."""

    host: str
    port: int
    tls: bool = False
    #: None for a server without login.
    user: str | None = None
    #: None for a login with an IAM token: then `cache` and `region` are what the token is for.
    password: str | None = field(default=None, repr=False)
    cache: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `valkey://user:password@host:port`, or `valkeys://` for TLS.

        An address without a password names what its IAM token is for: `?cache=…&region=…`.
        None for an empty text: the deployment has no read cache.

        Raises:
            SettingsError: the text is no such address.
        """
        if not text:
            return None
        try:
            parts = urlsplit(text)
            options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            host, port = parts.hostname or "", parts.port or 6379
        except ValueError as exc:
            raise _describe_wrong(text) from exc
        address = cls(
            host,
            port,
            parts.scheme == "valkeys",
            parts.username,
            parts.password,
            options.get("cache"),
            options.get("region"),
        )
        if parts.scheme not in {"valkey", "valkeys"} or not host or not address._has_login:
            raise _describe_wrong(text)
        return address

    @property
    def _has_login(self) -> bool:
        """True if the parts of the login fit together."""
        if self.password is not None:
            return bool(self.user) and self.cache is None and self.region is None
        return len({self.user is None, self.cache is None, self.region is None}) == 1

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _describe_wrong(text: str) -> SettingsError:
    shown = re.sub(r"(?<=:)[^:@/]*(?=@)", "…", text)  # without the password
    return SettingsError(
        f"FOREBAY_READ_CACHE={shown!r} is no address of a cache; give "
        "valkey://user:password@host:port, or valkeys://user@host:port/?cache=name&region=name "
        "for TLS and a login with an IAM token"
    )
