"""Routes, their parameters, and requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import Field, ValidationError, WithJsonSchema
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mom_core import StrictModel, printable
from mom_plugins_http.server.access import Peer, Right
from mom_plugins_http.server.held_bytes import HeldBytes
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.settings import HttpSettings
from mom_plugins_http.vocabulary import MOST_ITEMS

MOST_ARRIVING: Final = 32 << 20
"""Limit of all request bodies together, in bytes. Half is reserved for clients with the right to change."""

_DRAINED: Final = 16 << 20
"""Bytes of a refused body to read and drop, so that the client reads the error."""

_DRAIN_SECONDS: Final = 1.0

_MOST_MEMBERS: Final = 1000

Text = Annotated[str | None, WithJsonSchema({"type": "string"})]
"""Text in a query; None if absent."""


class Query(StrictModel):
    """Query without parameters."""


class LimitQuery(Query):
    """Query for the newest items."""

    limit: Annotated[int, Field(ge=1, le=MOST_ITEMS)] = 100
    """How many of the newest items to list."""


class GuestQuery(Query):
    """Query for items about a guest."""

    guest: Text = None
    """Only items about this guest, by id or name; `host` for the host."""


class FieldsQuery(Query):
    """Query for some fields."""

    fields: Text = None
    """Only these fields, separated by commas; 400 for a field that no plugin declares, unless it ends with `?`."""


class NewestQuery(GuestQuery, LimitQuery):
    """Query for the newest items about a guest."""


Model = TypeVar("Model", bound=StrictModel)


def validated(model: type[Model], validate: Callable[[], Model], whole: str) -> Model:
    """Return a valid query or body. Raise `ProblemError` if invalid. Errors call the query or body `whole`."""
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = f"`{printable(str(first['loc'][0]))}`" if first["loc"] else whole
        members = sorted(field.alias or name for name, field in model.model_fields.items())
        hint = f"known members: {', '.join(members) or 'none'}; GET /v1/openapi.json describes them"
        raise ProblemError(400, f"{where}: {printable(first['msg'].removeprefix('Value error, '), 300)}", hint) from None


def check_members(members: Sequence[tuple[str, object]]) -> None:
    """Raise `ProblemError` for duplicate members, and for too many members."""
    if len(members) > _MOST_MEMBERS:
        raise ProblemError(400, f"an object has too many members: {len(members)}", f"send at most {_MOST_MEMBERS}")
    counts = Counter(name for name, _ in members)
    for name, count in counts.items():
        if count > 1:
            raise ProblemError(400, f"`{printable(name)}` occurs twice", "write it once")


SLASH: Final = "\0"
"""Replaces a slash within a name, as in KubeVirt's `NAMESPACE/NAME`."""


class WholeNames:
    """Middleware that distinguishes a slash in a name (%2F) from a path slash."""

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
    """Request with its sender and query. The query is an instance of the route's model.

    :param held: counts the body from the first byte until the answer
    :param still_allowed: returns whether the token or session is still valid
    """

    request: Request
    peer: Peer
    query: Any
    settings: HttpSettings
    held: HeldBytes
    still_allowed: Callable[[], bool]
    arriving: Arriving = field(default_factory=Arriving)

    @property
    def path(self) -> Mapping[str, str]:
        """Variable parts of the path."""
        parts: dict[str, str] = self.request.path_params
        return {name: part.replace(SLASH, "/") for name, part in parts.items()}

    @property
    def media_type(self) -> str:
        """Media type, without parameters."""
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


Handler = TypeVar("Handler", bound=Callable[..., Awaitable[object]])


async def _not_bound(call: ApiCall) -> object:
    raise NotImplementedError  # only `operations_of` binds routes to an object's methods


@dataclass(frozen=True, slots=True)
class Route:
    """Operation of the API; decorates the method that handles it.

    :param body: models, keyed by media type; empty if there is no body
    :param versioned: needs `If-Match` with a version of policies
    :param events: models of a stream's events, keyed by name
    :param run: handler; returns a response, JSON, or an object to encode as JSON. Its name is the `operationId`, its docstring the summary
    """

    method: str
    path: str
    answer: object
    right: Right = Right.READ
    query: type[Query] = Query
    body: Mapping[str, object] = field(default_factory=dict)
    media_type: str = "application/json"
    versioned: bool = False
    status: int = 200
    events: Mapping[str, object] = field(default_factory=dict)
    run: Callable[[ApiCall], Awaitable[object]] = _not_bound

    def __call__(self, method: Handler) -> Handler:
        """Mark a method as the handler."""
        method.operation = self  # type: ignore[attr-defined]  # read by `operations_of`
        return method

    def read_query(self, text: str) -> Query:
        """Return the parameters. Raise `ProblemError` for invalid parameters."""
        members = parse_qsl(text, keep_blank_values=True)
        check_members(members)
        return validated(self.query, lambda: self.query.model_validate_strings(dict(members)), "the query")


def operations_of(owner: object) -> list[Route]:
    """Return the operations whose handlers are methods of an object."""
    methods = [(name, getattr(method, "operation", None)) for name, method in vars(type(owner)).items()]
    return [replace(route, run=getattr(owner, name)) for name, route in methods if isinstance(route, Route)]
