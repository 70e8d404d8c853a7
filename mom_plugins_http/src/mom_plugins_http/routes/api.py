"""Application for all operations: rights, routes and errors."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from mom_core import MomError, PluginContext, printable
from mom_daemon import json_text
from mom_plugins_http.routes.openapi import description
from mom_plugins_http.routes.page_keys import PageKeys
from mom_plugins_http.routes.route import ApiCall, Route, operations_of
from mom_plugins_http.server.access import LOCAL_NAMES, TOOL_NAME, Peer, Right, Tokens, own_names, same_site, same_site_locally
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Room
from mom_plugins_http.settings import HttpSettings

_MOST_BODIES: Final = 16 << 20
"""Limit of the bodies that mom holds for clients with the same right, in bytes."""

_MOST_ANSWERS: Final = 32 << 20
"""Limit of the answers that clients with the same right have not read yet, in bytes."""

_PIECE: Final = 64 << 10
"""Size of the parts in which a connection takes an answer, in bytes."""


class Api:
    """Application of the API."""

    def __init__(self, context: PluginContext, operations: Sequence[object], page_keys: PageKeys, settings: HttpSettings) -> None:
        self.tokens: Tokens | None = None
        """Tokens for TCP. A reload replaces them."""
        self._context = context
        tcp = settings.tcp
        self._hosts = [] if tcp is None else [*own_names(tcp.listen), *map(str.lower, tcp.hosts)]
        self._page_keys = page_keys
        # Limits keyed by right, so that readers and strangers leave room for changes.
        self._bodies = {right: Room(_MOST_BODIES, "large requests") for right in Right}
        self._answers = {right: Room(_MOST_ANSWERS, "large answers") for right in Right}
        self.routes = [route for owner in (self, *operations, page_keys) for route in operations_of(owner)]
        by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        endpoints = [StarletteRoute(path, self._endpoint(methods), methods=list(methods)) for path, methods in by_path.items()]
        self.application = Starlette(routes=endpoints, exception_handlers={HTTPException: self._no_route})
        self.application.router.redirect_slashes = False

    def _endpoint(self, methods: Mapping[str, Route]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await self._answer(methods["GET" if request.method == "HEAD" else request.method], request)

        return endpoint

    async def _answer(self, route: Route, request: Request) -> Response:
        try:
            peer = self._admit(request, route)
            query = route.read_query(request.url.query)
            with ExitStack() as until_answer:
                room = self._bodies[peer.right]
                call = ApiCall(request, peer, query, room, until_answer, lambda: self._right(request, peer)[0] >= route.right)
                answer = await route.run(call)
            if isinstance(answer, Response):
                return answer
            body = answer if isinstance(answer, bytes) else json_text(answer)
            return _Answer(body, route, peer.user, self._answers[peer.right])
        except ProblemError as error:
            return error.response()
        except MomError as error:
            return ProblemError(400 if isinstance(error, ValueError) else 409, error.message, error.hint).response()
        except Exception:  # a bug in mom or a plugin: hide the details from the client
            self._context.log.exception("%s %s failed", route.method, route.path)
            return ProblemError(
                500, "mom or one of its plugins failed while answering this request", "see mom's log, and please report the error"
            ).response()

    def _admit(self, request: Request, route: Route) -> Peer:
        peer: Peer = request.scope["state"]["peer"]
        self._refuse_other_sites(request, route, peer)
        if route.right is not Right.NOTHING:
            right, who = self._right(request, peer)
            if right is Right.NOTHING and (peer.keyed or not peer.local):
                raise self._unknown(request, peer)
            peer = replace(peer, name=who, right=right)
        if peer.right is not Right.NOTHING:
            request.scope["state"]["entitle"](peer.right)
        if peer.right >= route.right:
            return peer
        self._note_refusal(peer, f"{route.method} {route.path}")
        group = "read_group or change_group" if route.right is Right.READ else "change_group"
        hint = f"root may do this, and members of the group that `{group}` of the http plugin names; a new member must log in again"
        if not peer.local:
            hint = "this request needs the token for changes (`change_token`)"
        raise ProblemError(403, f"{peer.name} is not allowed to do this", hint)

    def _refuse_other_sites(self, request: Request, route: Route, peer: Peer) -> None:
        headers = request.headers
        host, origin = headers.get("host", ""), headers.get("origin")
        if peer.local:
            good = same_site_locally(host, origin, headers.get("sec-fetch-site"), opens_page=route.path == "/")
            hint = f"use one of these host names: {', '.join(LOCAL_NAMES)}; without a browser, also {TOOL_NAME}"
        else:
            # The connection's address is also valid: no configuration knows pods' addresses.
            address = (request.scope.get("server") or ("",))[0]
            good = same_site(host, origin, (*self._hosts, address))
            hint = f"use one of mom's host names: {', '.join(self._hosts)}; add others to `hosts` of the http plugin"
        if not good:
            what = "this request is for another site, or a page of another site sent it"
            self._note_refusal(peer, what)
            raise ProblemError(403, what, hint)

    def _right(self, request: Request, peer: Peer) -> tuple[Right, str]:
        # Sessions and tokens may change during an event stream.
        authorization = request.headers.get("authorization", "")
        if peer.keyed:
            right, who = self._page_keys.session(authorization) or (Right.NOTHING, "")
            return right, f"the page of {who}"
        if not peer.local:
            right = Right.NOTHING if self.tokens is None else self.tokens.right(authorization)
            return right, f"token to {right.name.lower()} from {peer.name}"
        return peer.right, peer.name

    def _unknown(self, request: Request, peer: Peer) -> ProblemError:
        message = "the request has no valid token or session"
        has_any = "authorization" in request.headers  # the page's first request has none
        self._note_refusal(peer, message, logging.WARNING if has_any else logging.INFO)
        hint = "send `Authorization: Bearer TOKEN` with a token from a file in the http plugin's settings"
        if peer.keyed:
            hint = "open the address that `mom page` prints on the host"
        return ProblemError(401, message, hint, headers={"www-authenticate": "Bearer"})

    def _note_refusal(self, peer: Peer, why: str, level: int = logging.WARNING) -> None:
        # The log never contains the token, and limits repeated lines.
        self._context.log.log(level, "mom refused a request of %s: %s", peer.name, why)

    @Route("GET", "/v1/openapi.json", Mapping[str, Any])
    async def describe(self, call: ApiCall) -> object:
        """Return the OpenAPI description of this API."""
        return description(self.routes)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # registered for this type only
        where = printable(request.url.path)
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return ProblemError(
                405, f"{printable(request.method)} is not supported here", f"use {allowed}", headers={"allow": allowed}
            ).response()
        return ProblemError(error.status_code, f"there is nothing at {where}", "GET /v1/openapi.json describes the whole API").response()


class _Answer(Response):
    """Answer in pieces, so that the connections of slow clients hold little of it."""

    def __init__(self, body: bytes, route: Route, user: str, room: Room) -> None:
        super().__init__(body, route.status, {"cache-control": "no-store"}, route.media_type)
        self._user, self._room = user, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        try:
            with self._room.taken(self._user, len(body)):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for begin in range(0, len(body), _PIECE):
                    end = begin + _PIECE
                    await send({"type": "http.response.body", "body": body[begin:end], "more_body": end < len(body)})
        except ProblemError as error:
            await error.response()(scope, receive, send)
