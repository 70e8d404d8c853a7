"""Server with its sockets, routes and threads."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from mom_core import MomError, PluginContext, Report, read_secret
from mom_kvm import Address, Callers
from mom_plugins_http.page.document import WebPage
from mom_plugins_http.routes.api import Api
from mom_plugins_http.routes.cycles import CycleRoutes
from mom_plugins_http.routes.events import Events, Item, News
from mom_plugins_http.routes.guests import GuestRoutes
from mom_plugins_http.routes.launches import LaunchRoutes
from mom_plugins_http.routes.page_keys import PageKeys
from mom_plugins_http.routes.policies import PolicyRoutes
from mom_plugins_http.routes.published import Published
from mom_plugins_http.routes.route import Route
from mom_plugins_http.server.access import LocalAccess, Right, Tokens, group_id, read_token
from mom_plugins_http.server.server import Door, Server, Worker
from mom_plugins_http.settings import HttpSettings, TcpSettings, page_path

_CLOSE_SECONDS: Final = 0.3
"""Longest wait for threads at the end, in seconds. All plugins together have 0.4 s to stop."""

_NEWS_SECONDS: Final = 0.5
"""A report waits at most this many seconds for other plugins' news."""


class Service:
    """API server with its unix sockets and, if set, TCP."""

    def __init__(self, settings: HttpSettings, context: PluginContext, path: Path) -> None:
        self._settings = settings
        self._context = context
        self._path = path
        self._published = Published(context)
        self._worker = Worker(f"mom-{context.name}-policies", "changes of policies")
        self._check_worker = Worker(f"mom-{context.name}-checks", "checks of policies")
        self._room_worker = Worker(f"mom-{context.name}-room", "requests for memory")
        self._room_reading = Worker(f"mom-{context.name}-look", "queries about memory")
        self._record_worker = Worker(f"mom-{context.name}-record", "requests for past days")
        self._news = News(context)
        self._news_callers = Callers(f"mom-{context.name}-news", 1)
        self._gathering: Future[Sequence[Item]] | None = None
        self._events = Events(self._published)
        tcp = settings.tcp
        self._api = Api(context, self._operations(), PageKeys(str(self._page_path() or "")), settings)
        self._tls = None if tcp is None else tls_of(tcp)
        self._api.tokens = None if tcp is None else tokens_of(tcp)
        self._server = Server(self._api.application, self._doors(), context.log)

    def _operations(self) -> list[object]:
        settings, context = self._settings, self._context
        published = self._published
        return [
            *([WebPage()] if settings.page else []),
            CycleRoutes(published, self._record_worker),
            GuestRoutes(published),
            self._events,
            PolicyRoutes(context, self._worker, self._check_worker),
            LaunchRoutes(context, self._room_worker, self._room_reading),
        ]

    @property
    def routes(self) -> Sequence[Route]:
        """All operations."""
        return self._api.routes

    def _doors(self) -> list[Door]:
        settings, path = self._settings, self._path
        read, change = (None if name is None else group_id(name) for name in (settings.read_group, settings.change_group))
        access = LocalAccess(read, change)
        doors = [Door(lambda: self._listen(path, access), access)]
        if (page := self._page_path()) is not None:
            doors.append(Door(lambda: self._listen(page, access), access, keyed=True))
        if settings.tcp is not None:
            address = Address.parse(settings.tcp.listen)
            # During a reload, the old plugin of this process may still listen there.
            doors.append(Door(lambda: address.listen(ours=self._server.waits), tls=lambda: self._tls))
        return doors

    def _listen(self, path: Path, access: LocalAccess) -> Address.Listener:
        # The socket belongs to the group that may change policies; an access control list admits readers, or both groups if mom may not
        # change the file's group. Without such lists, every user can connect, and the API rejects strangers.
        group = access.read if access.change is None else access.change
        second = None if access.read == group else access.read
        return Address(str(path)).listen(mode=0o600 if group is None else 0o660, group=group, second_group=second)

    def _page_path(self) -> Path | None:
        return page_path(self._path) if self._settings.page else None

    def start(self) -> None:
        """Start to listen and serve."""
        self._server.start(self._context.name)
        self._context.log.info(
            "the API is served on %s%s", self._path, f" and on {self._settings.tcp.listen}" if self._settings.tcp else ""
        )

    def take(self, report: Report) -> None:
        """Publish a finished cycle, with other plugins' news."""
        news = self._gather()  # first: a client that already has this cycle then gets all later news
        self._published.notes = self._news.notes
        self._published.take(report, self._context.declarations, self._news.policies, self._context.engine_state())
        self._server.call_soon(lambda: self._events.tell(news))

    def _gather(self) -> Sequence[Item]:
        patience = 0.0 if self._gathering is not None else _NEWS_SECONDS
        call = self._gathering or self._news_callers.start(self._news.gather)
        self._gathering = None if Callers.came_back(call, patience) else call
        if self._gathering is not None and patience:
            self._context.log.warning("other plugins have not reported their changes within %g s", patience)
        return () if self._gathering is not None else call.result()

    def prepare_tcp(self) -> Callable[[], None] | None:
        """Read certificate and tokens, and return a function that activates them. Raise `MomError` if they are unusable."""
        tcp = self._settings.tcp
        if tcp is None:
            return None
        tls, tokens = tls_of(tcp), tokens_of(tcp)

        def commit() -> None:
            self._api.tokens, self._tls = tokens, tls

        return commit

    def close(self) -> None:
        """Stop listening; end all connections and threads."""
        until = time.monotonic() + _CLOSE_SECONDS
        self._server.close()
        self._news_callers.close(0.0 if self._gathering is not None else _NEWS_SECONDS)
        for worker in (self._room_worker, self._room_reading, self._worker, self._check_worker, self._record_worker):
            worker.close(max(0.0, until - time.monotonic()))


def tls_of(tcp: TcpSettings) -> ssl.SSLContext:
    """Return the TLS context. Raise `MomError` for an unusable certificate or key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    read_secret(tcp.key, "the key", "create a certificate with a new key", group=True)
    try:
        context.load_cert_chain(tcp.certificate, tcp.key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        message = f"the certificate {tcp.certificate} with the key {tcp.key} cannot be used: {reason}"
        raise MomError(message, hint="both must be PEM files that mom's user can read, and the key must have no password") from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def tokens_of(tcp: TcpSettings) -> Tokens:
    """Read the tokens. Raise `MomError` if they are unusable."""
    files = {Right.READ: tcp.read_token, Right.CHANGE: tcp.change_token}
    tokens = {right: read_token(path) for right, path in files.items() if path is not None}
    if not tokens:
        raise MomError(
            "no client could use the API through TCP: there is no token", hint="set `read_token` or `change_token`, or leave `tcp` out"
        )
    if len(set(tokens.values())) < len(tokens):
        raise MomError("read_token and change_token contain the same token", hint="make another token: openssl rand -hex 32")
    return Tokens(tokens)
