"""The page that shows the API's description: Swagger UI, with all files served by this function.

package-lock.json pins the package `swagger-ui-dist`, and infra/bundling.py puts its files into this
function's package. No file is loaded from elsewhere; the page's Content Security Policy enforces
that.
"""

from __future__ import annotations

import hashlib
import html
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final

from forebay.http import Response
from forebay.routes import API_PREFIX

#: Files that the page loads, with their types; the constructor gets their folders.
ASSETS: Final = MappingProxyType(
    {
        "swagger-ui.css": "text/css; charset=utf-8",
        "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
        "swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
        "init.js": "text/javascript; charset=utf-8",
    }
)
OWN_FOLDER: Final = Path(__file__).parent / "page"
#: infra/bundling.py puts the files of swagger-ui-dist there.
SWAGGER_UI_FOLDER: Final = Path(__file__).parent / "swagger-ui"

#: Only content of this origin; Swagger UI draws some of its icons as data: images.
_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
#: The address changes with the content (RFC 8246).
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Pages:
    """The page and its files."""

    def __init__(self, swagger_ui: Path = SWAGGER_UI_FOLDER, own: Path = OWN_FOLDER) -> None:
        """Set the folders; files are read at the first request."""
        self._swagger_ui = swagger_ui
        self._own = own

    def page(self) -> Response:
        """The page; it must be revalidated, and its files' addresses contain their digest."""
        values = {"files": f"{API_PREFIX}/docs/{self.version}", "api": API_PREFIX}
        text = (self._own / "index.html").read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", html.escape(value))
        return Response(
            200,
            text,
            content_type="text/html; charset=utf-8",
            headers={
                **_ALWAYS,
                "Cache-Control": "no-cache",
                "Content-Security-Policy": _SECURITY_POLICY,
            },
        )

    def asset(self, version: str, name: str) -> Response | None:
        """A file of this version of the page; None if it does not exist."""
        if name not in ASSETS or version != self.version:
            return None
        return Response(
            200,
            self._read_text(name),
            content_type=ASSETS[name],
            headers={**_ALWAYS, "Cache-Control": _FOR_EVER},
        )

    @cached_property
    def version(self) -> str:
        """A digest of all files; changes with the content of any."""
        digest = hashlib.sha256()
        for name in ASSETS:
            digest.update(hashlib.sha256(self._read_text(name).encode()).digest())
        return digest.hexdigest()[:16]

    def _read_text(self, name: str) -> str:
        path = self._own / name
        return (path if path.exists() else self._swagger_ui / name).read_text(encoding="utf-8")
