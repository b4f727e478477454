"""Refuse requests that a foreign web page can make a browser send to this machine.

A page of another origin can send simple requests without permission (Fetch standard, "CORS
protocol"), and a page with a host name made to resolve to 127.0.0.1 (DNS rebinding) can also read
the answers. Three headers, which a page can't forge, identify them: `Host`, `Origin` (RFC 6454) and
`Sec-Fetch-Site` (W3C Fetch Metadata).
"""

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from aiohttp import web

ANY_ORIGIN = "*"

# A host with an optional port (RFC 9110, section 7.2), limited to the characters of names.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
# Browsers send `none` for the user's own actions: a typed address, a bookmark.
_OWN_SITES = frozenset({"same-origin", "none"})


@dataclass(frozen=True, slots=True)
class Policy:
    """The hosts and origins that a server of this machine answers."""

    #: Accepted host names besides the loopback names, in lower case.
    hosts: Collection[str] = ()
    #: The API's declared value of `Access-Control-Allow-Origin`. `*` allows every origin of this
    #: machine, and never pages of the internet, which must not reach a developer's machine.
    declared_origin: str | None = None

    def find_refusal(
        self, *, hosts: Sequence[str], origins: Sequence[str], sites: Sequence[str]
    ) -> str | None:
        """Return the reason to refuse a request as a sentence, or None if it is allowed.

        Args:
            hosts: all `Host` headers, and the authority of a target that is a whole URL.
            origins: all `Origin` headers.
            sites: all `Sec-Fetch-Site` headers.
        """
        if not hosts or not all(self._is_ours(host) for host in hosts):
            return (
                f"This server refuses the host {_join_values(hosts)}; use 127.0.0.1 or "
                "localhost, or add the host to FOREBAY_LOCAL_HOSTS before `make run`."
            )
        if not all(self._may_call(origin, hosts[0]) for origin in origins):
            return (
                f"Pages of the origin {_join_values(origins)} may not use this server; "
                "allow one origin with `api.cors_allow_origin` in infra/environments/local.toml."
            )
        if not origins and not _OWN_SITES.issuperset(sites):
            return (
                "The request comes from a page of another origin; "
                "open the address directly, or use fetch with CORS in the page."
            )
        return None

    def find_refusal_of(self, request: "web.Request") -> str | None:
        """Return the reason to refuse a request to an aiohttp server, or None if it is allowed."""
        hosts = request.headers.getall("Host", [])
        if request.raw_path.lower().startswith(("http:", "https:")):
            # The authority of such a target overrides the Host header (RFC 9112, section 3.2.2).
            hosts = [*hosts, _parse_authority(request.raw_path)]
        return self.find_refusal(
            hosts=hosts,
            origins=request.headers.getall("Origin", []),
            sites=request.headers.getall("Sec-Fetch-Site", []),
        )

    def _is_ours(self, host: str) -> bool:
        name = _parse_name(host)
        return name is not None and (_is_loopback(name) or name in self.hosts)

    def _may_call(self, origin: str, host: str) -> bool:
        if origin == self.declared_origin:
            return True
        authority = _parse_authority(origin)
        if not origin.startswith(("http:", "https:")) or not authority:
            return False
        is_own = authority.lower() == host.lower()
        return is_own or (self.declared_origin == ANY_ORIGIN and self._is_ours(authority))


def _parse_authority(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _parse_name(host: str) -> str | None:
    """Return the name or address in a `Host` in lower case, or None if it is invalid."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else None


def _is_loopback(name: str) -> bool:
    """Return whether the name always means this machine (`localhost` and below: RFC 6761, 6.3)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _join_values(values: Sequence[str]) -> str:
    return ", ".join(repr(value[:100]) for value in values) or "(none given)"
