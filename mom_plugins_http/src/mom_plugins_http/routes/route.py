"""Routes, their parameters, and requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError, WithJsonSchema
from starlette.requests import ClientDisconnect, Request

from mom_core import StrictModel, printable
from mom_plugins_http.server.access import Peer, Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import PATIENCE_SECONDS, Room

LARGEST_BODY: Final = 4 << 20
"""Largest body of a request, in bytes."""

_LARGEST_OF_STRANGERS: Final = 1024
"""Largest body of a request that needs no right, in bytes."""

MOST_ITEMS: Final = 1000

JSON: Final = "application/json"

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


@dataclass(frozen=True, slots=True)
class ApiCall:
    """Request with its sender and query. The query is an instance of the route's model.

    :param room: limit of bodies
    :param until_answer: holds the body until the answer
    :param still_allowed: returns whether the token or session is still valid
    """

    request: Request
    peer: Peer
    query: Any
    room: Room
    until_answer: ExitStack
    still_allowed: Callable[[], bool]

    @property
    def path(self) -> Mapping[str, str]:
        """Variable parts of the path."""
        return self.request.path_params

    @property
    def media_type(self) -> str:
        """Media type, without parameters."""
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def body(self) -> bytes:
        """Return the body. Raise `ProblemError` if it is too large or incomplete."""
        size = int(self.request.headers.get("content-length", "0"))  # the server accepts no other length, and no chunks
        most = _LARGEST_OF_STRANGERS if self.peer.right is Right.NOTHING else LARGEST_BODY
        if size > most:
            raise ProblemError(413, f"the body is larger than {most} bytes", "send less", headers={"connection": "close"})
        self.until_answer.enter_context(self.room.taken(self.peer.user, size))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.request.body()
        except TimeoutError:
            hint = f"send the body within {PATIENCE_SECONDS:g} s"
            raise ProblemError(408, "the body did not arrive", hint, headers={"connection": "close"}) from None
        except ClientDisconnect:
            raise ProblemError(400, "the body ended early", "send the whole body") from None

    async def content(self, model: type[Model], media_types: str = JSON) -> Model:
        """Return the body as this model. Raise `ProblemError` if the body is invalid."""
        if self.media_type != JSON:
            raise ProblemError(415, f"a body of type {printable(self.media_type) or 'unknown'} is not supported", f"send {media_types}")
        body = await self.body()
        return validated(model, lambda: model.model_validate_json(body), "the body")


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
    media_type: str = JSON
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
        members = dict(parse_qsl(text, keep_blank_values=True))
        return validated(self.query, lambda: self.query.model_validate_strings(members), "the query")


def operations_of(owner: object) -> list[Route]:
    """Return the operations whose handlers are methods of an object."""
    methods = [(name, getattr(method, "operation", None)) for name, method in vars(type(owner)).items()]
    return [replace(route, run=getattr(owner, name)) for name, route in methods if isinstance(route, Route)]
