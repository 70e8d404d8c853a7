"""RFC 9457 problem documents, each with a hint."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from mom_daemon import json_text

MEDIA_TYPE: Final = "application/problem+json"


class ProblemError(Exception):
    """Error that ends a request with a problem document."""

    def __init__(
        self, status: int, detail: str, hint: str = "", *, more: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.hint = hint
        self.more = more or {}
        self.headers = headers or {}

    def response(self) -> Response:
        """Return the answer for the client."""
        body = problem_body(self.status, self.detail, self.hint, self.more)
        return Response(body, self.status, {**self.headers, "cache-control": "no-store"}, MEDIA_TYPE)


def problem_body(status: int, detail: str, hint: str = "", more: Mapping[str, Any] | None = None) -> bytes:
    """Return a problem document as JSON."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return json_text({**document, **({"hint": hint} if hint else {}), **(more or {})})
