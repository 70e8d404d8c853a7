"""Puts the page together from its parts, once, with a policy that lets a browser run these parts and nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.responses import Response

from mom_plugins_http.routes import ApiCall

SCRIPTS: Final = ("words.js", "api.js", "charts.js", "guests.js", "guest.js", "policies.js", "page.js")
"""One module together, in this order."""

_STYLE_MARK: Final = "/*style*/"
_SCRIPT_MARK: Final = "/*script*/"


class PageDocument(NamedTuple):
    """The page, and the headers that go with it."""

    body: bytes
    headers: dict[str, str]


class WebPage:
    """Serves the page. There is nothing secret in it, so that it can ask for a token before anything else."""

    @cached_property
    def document(self) -> PageDocument:
        """Made when it is first asked for."""
        style = _part("page.css")
        script = "\n".join(_part(name) for name in SCRIPTS)
        html = _part("page.html").replace(_STYLE_MARK, style).replace(_SCRIPT_MARK, script)
        return PageDocument(html.encode(), headers(style, script))

    async def show(self, call: ApiCall) -> Response:
        """The page."""
        return Response(self.document.body, media_type="text/html", headers=self.document.headers)


def headers(style: str, script: str) -> dict[str, str]:
    """What keeps a browser from running, loading, framing or telling any server anything else."""
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cache-control": "no-cache",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return files(__package__ or "mom_plugins_http.page").joinpath(name).read_text(encoding="utf-8")
