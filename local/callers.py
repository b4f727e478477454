"""Find the headers of an aiohttp request that show whether a foreign page sent it."""

from urllib.parse import urlsplit

from aiohttp import web

from local.origins import Policy


def find_refusal(policy: Policy, request: web.Request) -> str | None:
    """Return the policy's reason to refuse the request, or None if it is allowed."""
    hosts = request.headers.getall("Host", [])
    if request.raw_path.lower().startswith(("http:", "https:")):
        # The authority of such a target overrides the Host header (RFC 9112, section 3.2.2).
        hosts = [*hosts, _parse_authority(request.raw_path)]
    return policy.find_refusal(
        hosts=hosts,
        origins=request.headers.getall("Origin", []),
        sites=request.headers.getall("Sec-Fetch-Site", []),
    )


def _parse_authority(target: str) -> str:
    try:
        return urlsplit(target).netloc
    except ValueError:
        return ""
