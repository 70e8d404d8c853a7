"""Routes, their parameters, and requests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mom_core import Value, printable
from mom_plugins_http.server.access import Peer, Right
from mom_plugins_http.server.held_bytes import HeldBytes
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.settings import HttpSettings
from mom_plugins_http.vocabulary import MOST_ITEMS

MOST_ARRIVING: Final = 32 << 20
"""Most bytes of all bodies, half reserved for clients with the right to change."""

_DRAINED: Final = 16 << 20
"""Most bytes of a refused body to read and drop, so that the client reads the error."""

_DRAIN_SECONDS: Final = 1.0

_MOST_PARAMETERS: Final = 16


@dataclass(frozen=True, slots=True)
class Parameter:
    """Query parameter. `kind` is `integer` (with bounds) or `string`."""

    name: str
    description: str
    kind: str = "string"
    minimum: int = 0
    maximum: int = 0
    default: int | None = None

    def read(self, text: str) -> int | str:
        """Return the value. Raise `ProblemError` if invalid."""
        if self.kind == "string":
            return text
        if re.fullmatch(r"-?[0-9]{1,18}", text) and self.minimum <= int(text) <= self.maximum:
            return int(text)
        hint = f"{self.name} must be a number from {self.minimum} to {self.maximum}"
        raise ProblemError(400, f"{printable(text)} is not a valid value of {self.name}", hint)

    def schema(self) -> dict[str, Value]:
        """Return the JSON Schema."""
        if self.kind == "string":
            return {"type": "string"}
        more: dict[str, Value] = {} if self.default is None else {"default": self.default}
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum, **more}


SLASH: Final = "\0"
"""Replaces a slash within a name, as in KubeVirt's `NAMESPACE/NAME`."""

LIMIT: Final = Parameter("limit", "How many of the newest items to list.", "integer", 1, MOST_ITEMS, 100)
GUEST: Final = Parameter("guest", "Only items about this guest, by id or name; `host` for the host.")


class WholeNames:
    """Middleware that distinguishes a slash in a name (%2F) from a path slash. Servers decode both alike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        raw: bytes = scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            steps = (unquote(step).replace("/", SLASH) for step in raw.decode("ascii", "replace").split("/"))
            scope = {**scope, "path": "/".join(steps)}
        await self._app(scope, receive, send)


class Arriving:
    """Received part of a body."""

    def __init__(self) -> None:
        self.body = bytearray()


@dataclass(frozen=True, slots=True)
class ApiCall:
    """Request with its sender and validated query.

    :param held: counts the body from the first byte until the answer
    :param still_allowed: returns whether the token or session is still valid
    """

    request: Request
    peer: Peer
    query: Mapping[str, int | str]
    settings: HttpSettings
    held: HeldBytes
    still_allowed: Callable[[], bool]
    arriving: Arriving = field(default_factory=Arriving)

    @property
    def path(self) -> Mapping[str, str]:
        """Return the variable parts of the path."""
        parts: dict[str, str] = self.request.path_params
        return {name: part.replace(SLASH, "/") for name, part in parts.items()}

    def number(self, parameter: Parameter) -> int:
        """Return an integer parameter, or its default."""
        return int(self.query.get(parameter.name, parameter.default or 0))

    @property
    def media_type(self) -> str:
        """Return the media type, without parameters."""
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def body(self) -> bytes:
        """Return the body. Raise `ProblemError` if it is too large or incomplete."""
        declared = self.request.headers.get("content-length", "")
        too_large = ProblemError(
            413,
            f"the body is larger than {self.settings.largest} bytes",
            "send less, or raise `largest` of the http plugin",
            headers={"connection": "close"},
        )
        try:
            async with asyncio.timeout(self.settings.patience):
                if declared.isdigit() and int(declared[:18]) > self.settings.largest:
                    await self._drain()
                    raise too_large
                self.held.begin(self.arriving, self.request.scope["state"]["end_connection"])
                async for part in self.request.stream():
                    self.arriving.body += part
                    if len(self.arriving.body) > self.settings.largest:
                        await self._drain()
                        raise too_large
                    if not self.held.fits(self.arriving):
                        self.held.end(self.arriving)
                        raise _too_many()
        except TimeoutError:
            hint = f"send the body within {self.settings.patience:g} s"
            raise ProblemError(408, "the body did not arrive", hint, headers={"connection": "close"}) from None
        except ClientDisconnect:
            raise ProblemError(400, "the body ended early", "send the whole body") from None
        self.held.keep(self.arriving)
        return bytes(self.arriving.body)

    async def _drain(self) -> None:
        if self.request.headers.get("expect"):
            return  # the client waits for an answer before it sends the body
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                size = 0
                while size < _DRAINED:
                    message = await self.request.receive()
                    size += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


def _too_many() -> ProblemError:
    headers = {"connection": "close", "retry-after": "1"}
    return ProblemError(503, "too many large requests are waiting", "send the request again in a moment", headers=headers)


Answering = Callable[[ApiCall], Awaitable[object]]
"""Returns a response, its body as JSON, or an object for its body."""


@dataclass(frozen=True, slots=True)
class Route:
    """Operation of the API.

    :param run: handler; its name is the `operationId`, its docstring the summary
    :param answer: model of a successful answer
    :param body: models, keyed by media type; empty if there is no body
    :param versioned: needs `If-Match` with the version of policies that the client has seen
    :param status: status of a successful answer
    :param events: models of a stream's events, keyed by name
    """

    method: str
    path: str
    run: Answering
    answer: object
    right: Right = Right.READ
    parameters: Sequence[Parameter] = ()
    body: Mapping[str, object] = field(default_factory=dict)
    media_type: str = "application/json"
    versioned: bool = False
    status: int = 200
    events: Mapping[str, object] = field(default_factory=dict)

    def query(self, text: str) -> dict[str, int | str]:
        """Return validated parameters. Raise `ProblemError` if invalid."""
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise ProblemError(400, "the query has too many parameters", self._hint()) from None
        values: dict[str, int | str] = {}
        parameters = {parameter.name: parameter for parameter in self.parameters}
        for name, value in pairs:
            if name not in parameters:
                raise ProblemError(400, f"there is no parameter {printable(name)} here", self._hint())
            if name in values:
                raise ProblemError(400, f"the parameter {name} occurs twice", "write it once")
            values[name] = parameters[name].read(value)
        return values

    def _hint(self) -> str:
        return f"there are: {', '.join(parameter.name for parameter in self.parameters)}" if self.parameters else "there are none"
