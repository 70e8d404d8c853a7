"""Keys for the web page. Each works once; the browser exchanges it for a session.

Through `ssh -L`, every user of the workstation can reach a forwarded socket. So the page has its own socket, where clients need a session.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from typing_extensions import TypedDict

from mom_core import StrictModel
from mom_daemon.report_models import Seconds, described
from mom_kvm import ProcessStat
from mom_plugins_http.routes.route import JSON, ApiCall, Route
from mom_plugins_http.server.access import Peer, Right, bearer_digest, token_digest
from mom_plugins_http.server.problems import ProblemError

KEY_SECONDS: Final = 120.0
"""Lifetime of a key."""

SESSION_SECONDS: Final = 12 * 3600.0
"""Lifetime of a session."""

MOST: Final = 16
"""Maximum number of each user's keys, and of each user's sessions."""

PREFIX: Final = "key-"
"""First characters of a key, which distinguish it from a token."""


class KeyModel(StrictModel):
    """Key from `POST /v1/page-keys`."""

    key: str


@described
class PageKeyModel(TypedDict):
    """Key that opens the web page."""

    key: str
    """Key, which works once."""
    seconds: Seconds
    """Lifetime."""
    socket: str
    """Unix socket for `ssh -L`."""


@described
class PageSessionModel(TypedDict):
    """Browser's session of the web page."""

    token: str
    """Token for the header `Authorization: Bearer`."""
    seconds: Seconds
    """Lifetime."""


@dataclass(frozen=True, slots=True)
class _Granted:
    """Owner and expiry (monotonic seconds) of a key or session. It also ends when the owner's process, which began at `started`, exits."""

    owner: Peer
    until: float
    started: int


class PageKeys:
    """Keys and sessions. Used only by the server's thread."""

    def __init__(self, socket: str, clock: Callable[[], float] = time.monotonic, proc: str = "/proc") -> None:
        self._proc = proc
        self._socket = socket
        self._clock = clock
        # Keyed by digest: lookup times reveal nothing about the secrets.
        self._keys: dict[bytes, _Granted] = {}
        self._sessions: dict[bytes, _Granted] = {}

    @Route("POST", "/v1/page-keys", PageKeyModel, status=201)
    async def give_page_key(self, call: ApiCall) -> PageKeyModel:
        """Return a single-use key for the web page. Key and session end when the requesting process exits."""
        if not call.peer.local or call.peer.keyed:
            raise ProblemError(403, "mom gives keys for the page only through the control socket", "run on the host: mom page")
        if not self._socket:
            raise ProblemError(409, "this mom serves no web page", "in the settings of the http plugin, set `page: true`")
        key = self.key_for(call.peer)
        return {"key": key, "seconds": KEY_SECONDS, "socket": self._socket}

    @Route("POST", "/v1/page-sessions", PageSessionModel, Right.NOTHING, body={JSON: KeyModel}, status=201)
    async def begin_page_session(self, call: ApiCall) -> PageSessionModel:
        """Exchange a key for a session of the web page."""
        key = (await call.content(KeyModel)).key
        token = self.session_for(key) if call.peer.keyed else None
        if token is None:
            raise ProblemError(401, "this key is unknown, already used, or expired", "get another key on the host: mom page")
        return {"token": token, "seconds": SESSION_SECONDS}

    def key_for(self, peer: Peer) -> str:
        """Return a key with this peer's right."""
        started = self._started(peer.process)
        if started is None:
            message = "mom cannot see the process that requests the session, and so cannot end the session when that process exits"
            raise ProblemError(409, message, "use the page through TCP: set `tcp` of the http plugin")
        key = PREFIX + secrets.token_urlsafe(24)
        self._keep(self._keys, key, _Granted(peer, self._clock() + KEY_SECONDS, started))
        return key

    def session_for(self, key: str) -> str | None:
        """Use up a key, and return its session's token; None for an invalid key."""
        granted = self._keys.pop(token_digest(key), None)
        if granted is None or not self._lasts(granted):
            return None
        token = secrets.token_urlsafe(32)
        self._keep(self._sessions, token, replace(granted, until=self._clock() + SESSION_SECONDS))
        return token

    def session(self, authorization: str) -> tuple[Right, str] | None:
        """Return the right and the owner of a session; None if the token is invalid."""
        granted = self._sessions.get(bearer_digest(authorization))
        return None if granted is None or not self._lasts(granted) else (granted.owner.right, granted.owner.name)

    def _lasts(self, granted: _Granted) -> bool:
        # Process ids are reused, so the start time identifies the process.
        return self._clock() <= granted.until and self._started(granted.owner.process) == granted.started

    def _started(self, process: int) -> int | None:
        stat = ProcessStat.of(f"{self._proc}/{process}") if process > 0 else None
        return None if stat is None or stat.state in {"Z", "X"} else stat.started

    def _keep(self, kept: dict[bytes, _Granted], secret: str, granted: _Granted) -> None:
        for digest in [digest for digest, each in kept.items() if not self._lasts(each)]:
            del kept[digest]
        own = [digest for digest, each in kept.items() if each.owner.user == granted.owner.user]
        if len(own) >= MOST:
            del kept[own[0]]
        kept[token_digest(secret)] = granted
