"""The shape of the API: what a route is, what may be asked of it, and what a request gives to who answers it."""

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
"""Bytes of requests' bodies that are in memory together, half of them for those who may change things: a few of the largest."""

_DRAINED: Final = 16 << 20
"""Bytes of a refused body that are read and dropped, so that the client gets to read why."""

_DRAIN_SECONDS: Final = 1.0

_MOST_PARAMETERS: Final = 16


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query. `kind` is `integer` or `string`; an integer has bounds."""

    name: str
    description: str
    kind: str = "string"
    minimum: int = 0
    maximum: int = 0
    default: int | None = None

    def read(self, text: str) -> int | str:
        """The value. Raises `ProblemError`."""
        if self.kind == "string":
            return text
        if re.fullmatch(r"-?[0-9]{1,18}", text) and self.minimum <= int(text) <= self.maximum:
            return int(text)
        hint = f"{self.name} is a number from {self.minimum} to {self.maximum}"
        raise ProblemError(400, f"{printable(text)} is no good value of {self.name}", hint)

    def schema(self) -> dict[str, Value]:
        """As JSON Schema."""
        if self.kind == "string":
            return {"type": "string"}
        more: dict[str, Value] = {} if self.default is None else {"default": self.default}
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum, **more}


SLASH: Final = "\0"
"""Stands in a path for a slash that is part of a name, as KubeVirt's guests have one (`NAMESPACE/NAME`), and no step."""

LIMIT: Final = Parameter("limit", "How many items to list at most, the newest.", "integer", 1, MOST_ITEMS, 100)
GUEST: Final = Parameter("guest", "Only what concerns this guest, by id or name; `host` for the host.")


class WholeNames:
    """Keeps a slash in a name (%2F) apart from those between the steps of a path, which a server has decoded alike."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        raw: bytes = scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            steps = (unquote(step).replace("/", SLASH) for step in raw.decode("ascii", "replace").split("/"))
            scope = {**scope, "path": "/".join(steps)}
        await self._app(scope, receive, send)


class Arriving:
    """A request's body, as far as it has arrived."""

    def __init__(self) -> None:
        self.body = bytearray()


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request that may be answered: who sent it, and what it asks, checked against the route.

    `held` counts its body, from the first byte until it is answered, together with those of others who may do as much.
    `still_allowed` tells a long answer whether the token or session that came with the request is still good.
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
        """The variable parts of the path."""
        parts: dict[str, str] = self.request.path_params
        return {name: part.replace(SLASH, "/") for name, part in parts.items()}

    def number(self, parameter: Parameter) -> int:
        """The value of an integer, or its default."""
        return int(self.query.get(parameter.name, parameter.default or 0))

    @property
    def media_type(self) -> str:
        """Of the body, without parameters."""
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def body(self) -> bytes:
        """The whole body. Raises `ProblemError` when it is too large, or does not arrive."""
        declared = self.request.headers.get("content-length", "")
        too_large = ProblemError(
            413,
            f"the body is larger than {self.settings.largest} bytes",
            "send less, or raise `largest` of the plugin http",
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
            hint = f"send it within {self.settings.patience:g} s"
            raise ProblemError(408, "the body did not arrive", hint, headers={"connection": "close"}) from None
        except ClientDisconnect:
            raise ProblemError(400, "the body ended early", "send all of it") from None
        self.held.keep(self.arriving)
        return bytes(self.arriving.body)

    async def _drain(self) -> None:
        if self.request.headers.get("expect"):
            return  # it waits for our word before it sends anything
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
    return ProblemError(503, "too many large requests wait", "send it again in a moment", headers=headers)


Answering = Callable[[ApiCall], Awaitable[object]]
"""Gives a response, its body as JSON, or what becomes its body."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    :param run: answers; its name is the `operationId`, its docstring the summary
    :param answer: the model of a good answer, from which its schema comes
    :param body: models of the request's body by media type; none if it has no body
    :param versioned: whether it changes the policies, and so must say which version it has seen (`If-Match`)
    :param status: of a good answer
    :param events: models of what a stream tells, by the event's name
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
        """The query's parameters, checked. Raises `ProblemError`."""
        try:
            given = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            raise ProblemError(400, "the query has too many parameters", self._known()) from None
        found: dict[str, int | str] = {}
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in given:
            if name not in known:
                raise ProblemError(400, f"there is no parameter {printable(name)} here", self._known())
            if name in found:
                raise ProblemError(400, f"the parameter {name} stands there twice", "write it once")
            found[name] = known[name].read(value)
        return found

    def _known(self) -> str:
        return f"there are: {', '.join(parameter.name for parameter in self.parameters)}" if self.parameters else "there are none"
