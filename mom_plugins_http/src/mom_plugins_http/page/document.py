"""Web page, with a content security policy that blocks content from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cached_property
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.responses import Response

from mom_core import printable
from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError

BEGINS: Final = "page.js"
"""Module that imports all others."""

_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}

_MODULES_MARK: Final = "<!--modules-->"
"""Place for links to all modules, so that a browser loads them at once."""


_COMMENTS: Final = re.compile(r"^ *(?://[^\n]*|/\*\*(?:(?!\*/).)*\*/)\n", re.MULTILINE | re.DOTALL)


class Part(NamedTuple):
    """File that mom sends to a browser."""

    body: bytes
    packed: bytes
    """Compressed body, for slow ssh connections."""
    media_type: str
    tag: str


class WebPage:
    """Operations for the web page, which needs no right because it has no secrets."""

    @cached_property
    def document(self) -> Part:
        """Document. All its addresses are relative."""
        modules = [name for name in self.parts if name.endswith(".js") and name != BEGINS]
        links = [f'<link rel="modulepreload" fetchpriority="low" href="page/{name}">' for name in modules]
        begins = f'<script type="module" src="page/{BEGINS}"></script>'
        return _part(_text("page.html").replace(_MODULES_MARK, "\n".join([*links, begins])).encode(), "text/html")

    @cached_property
    def parts(self) -> dict[str, Part]:
        """Modules and style sheet, keyed by file name."""
        names = sorted(file.name for file in files(_HERE).iterdir() if file.name.endswith(tuple(_MEDIA_TYPES)))
        return {name: _part(_text(name).encode(), _MEDIA_TYPES[name[name.rindex(".") :]]) for name in names}

    @Route("GET", "/", str, Right.NOTHING, media_type="text/html")
    async def page(self, call: ApiCall) -> Response:
        """Return the web page."""
        return _answer(call, self.document)

    @Route("GET", "/page/{part}", str, Right.NOTHING, media_type="text/javascript")
    async def page_part(self, call: ApiCall) -> Response:
        """Return a module or the style sheet of the web page."""
        name = call.path["part"]
        if (part := self.parts.get(name)) is None:
            raise ProblemError(404, f"the page has no part {printable(name)}", f"it has {', '.join(self.parts)}")
        return _answer(call, part)


_HERE: Final = "mom_plugins_http.page"

_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}

HEADERS: Final = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}
"""Headers that forbid a browser to load content from elsewhere, or to frame the page."""


def _answer(call: ApiCall, part: Part) -> Response:
    headers = {**HEADERS, "etag": part.tag, "vary": "accept-encoding"}
    if call.request.headers.get("if-none-match") == part.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" not in call.request.headers.get("accept-encoding", ""):
        return Response(part.body, media_type=part.media_type, headers=headers)
    return Response(part.packed, media_type=part.media_type, headers={**headers, "content-encoding": "gzip"})


def _part(body: bytes, media_type: str) -> Part:
    return Part(body, gzip.compress(body, mtime=0), media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _text(name: str) -> str:
    text = files(_HERE).joinpath(name).read_text(encoding="utf-8")
    return _COMMENTS.sub("", text) if name.endswith(".js") else text
