"""Web page, with a content security policy that blocks content from elsewhere."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import Final

from starlette.responses import Response

from mom_core import printable
from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError

BEGINS: Final = "page.js"
"""Module that imports all others."""

_MEDIA_TYPES: Final = {"js": "text/javascript", "css": "text/css"}

_MODULES_MARK: Final = "<!--modules-->"
"""Place for links to all modules, so that a browser loads them at once."""


class WebPage:
    """Operations for the web page, which needs no right because it has no secrets."""

    @cached_property
    def document(self) -> str:
        """Document. All its addresses are relative."""
        modules = [name for name in self.parts if name.endswith(".js") and name != BEGINS]
        links = [f'<link rel="modulepreload" fetchpriority="low" href="page/{name}">' for name in modules]
        begins = f'<script type="module" src="page/{BEGINS}"></script>'
        return files(_HERE).joinpath("page.html").read_text(encoding="utf-8").replace(_MODULES_MARK, "\n".join([*links, begins]))

    @cached_property
    def parts(self) -> dict[str, str]:
        """Modules and style sheet, keyed by file name."""
        found = sorted(files(_HERE).iterdir(), key=lambda file: file.name)
        return {file.name: file.read_text(encoding="utf-8") for file in found if file.name.endswith((".js", ".css"))}

    @Route("GET", "/", str, Right.NOTHING, media_type="text/html")
    async def page(self, call: ApiCall) -> Response:
        """Return the web page."""
        return Response(self.document, media_type="text/html", headers=HEADERS)

    @Route("GET", "/page/{part}", str, Right.NOTHING, media_type="text/javascript")
    async def page_part(self, call: ApiCall) -> Response:
        """Return a module or the style sheet of the web page."""
        name = call.path["part"]
        if name not in self.parts:
            raise ProblemError(404, f"the page has no part {printable(name)}", f"it has {', '.join(self.parts)}")
        return Response(self.parts[name], media_type=_MEDIA_TYPES[name.rpartition(".")[2]], headers=HEADERS)


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
