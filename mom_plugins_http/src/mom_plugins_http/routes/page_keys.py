"""Keys for the web page: who may use the control socket gets one that works once, and the browser that brings it gets a session.

`ssh -L` gives every account of the workstation a way to the socket at its other end, where the kernel sees only the ssh connection. So the
page has a socket of its own, on which no client may do anything without a session. Only digests are kept, and only in memory.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import StrictModel
from mom_daemon import Seconds, described
from mom_kvm import ProcessStat
from mom_plugins_http.routes.bodies import JSON, read_body
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.access import Peer, Right, bearer_digest, token_digest
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.shares import Shares

KEY_SECONDS: Final = 120.0
"""A key is for the browser that is opened with it, now."""

SESSION_SECONDS: Final = 12 * 3600.0
"""A working day; and no session outlives this mom."""

MOST: Final = 64
"""Keys, and sessions, that are kept at once: for one more, one goes that is worth no more."""

PREFIX: Final = "key-"
"""Tells keys from tokens, for the page."""

_TIED: Final = Parameter("tied", "1: the session ends with the process that asks, which has to be there until then.", "integer", 0, 1, 0)


class KeyModel(StrictModel):
    """A key that was given."""

    key: str


@described
class PageKeyModel(TypedDict):
    """A key for the page."""

    key: str
    """Works once."""
    seconds: Seconds
    """For how long it works."""
    socket: str
    """The unix socket to forward, on which it works."""


@described
class PageSessionModel(TypedDict):
    """A session of the page."""

    token: str
    """For the header `Authorization: Bearer`."""
    seconds: Seconds
    """For how long it works."""


@dataclass(frozen=True, slots=True)
class _Granted:
    """The right that a key or session gives, whom it was given to, and until when, in monotonic seconds.

    :param process: the number of the process that it ends with, and when that was started; None for none
    """

    right: Right
    who: str
    until: float
    process: tuple[int, int] | None

    @property
    def user(self) -> str:
        """Whom it was given to, whichever process asked."""
        return self.who.partition(",")[0]


class PageKeys:
    """Gives out keys and sessions. Used by the server's thread only.

    :param socket: the path of the page's socket; empty where there is none
    """

    def __init__(self, socket: str, clock: Callable[[], float] = time.monotonic, proc: str = "/proc") -> None:
        self._proc = proc
        self._socket = socket
        self._clock = clock
        # By digests: to find one tells nothing of a secret of 192 bits or more.
        self._keys: dict[bytes, _Granted] = {}
        self._sessions: dict[bytes, _Granted] = {}

    def routes(self) -> list[Route]:
        """Its operations."""
        body = {JSON: KeyModel}
        return [
            Route("POST", "/v1/page-keys", self.give_page_key, PageKeyModel, status=201, parameters=(_TIED,)),
            Route("POST", "/v1/page-sessions", self.begin_page_session, PageSessionModel, Right.NOTHING, body=body, status=201),
        ]

    async def give_page_key(self, call: ApiCall) -> PageKeyModel:
        """Give a key for the web page, which works once."""
        if not call.peer.local or call.peer.keyed:
            raise ProblemError(403, "keys are given through the control socket only", "ask on the host: mom page")
        if not self._socket:
            raise ProblemError(409, "this mom has no socket for the page", "set `page: true` of the plugin http, and a shorter `socket`")
        key = self.key_for(call.peer, tied=bool(call.number(_TIED)))
        return {"key": key, "seconds": KEY_SECONDS, "socket": self._socket}

    async def begin_page_session(self, call: ApiCall) -> PageSessionModel:
        """Begin a session of the web page, for a key."""
        key = (await read_body(call, KeyModel)).key
        token = self.session_for(key) if call.peer.keyed else None
        if token is None:
            raise ProblemError(401, "this key is not known here, was used, or is too old", "get another one on the host: mom page")
        return {"token": token, "seconds": SESSION_SECONDS}

    def key_for(self, peer: Peer, *, tied: bool = False) -> str:
        """A key with the right of this peer. Raises `ProblemError`.

        :param tied: whether key and session end with the peer's process
        """
        started = self._started(peer.process) if tied else None
        if tied and started is None:
            raise ProblemError(409, "mom does not see the process that asks, and with which the session is to end", "mom page --once")
        key = PREFIX + secrets.token_urlsafe(24)
        process = None if started is None else (peer.process, started)
        self._keep(self._keys, key, _Granted(peer.right, peer.name, self._clock() + KEY_SECONDS, process))
        return key

    def session_for(self, key: str) -> str | None:
        """The token of a new session, for a key that works no more from now on; None where it does not work. Raises `ProblemError`."""
        granted = self._keys.pop(token_digest(key), None)
        if granted is None or not self._lasts(granted):
            return None
        token = secrets.token_urlsafe(32)
        self._keep(self._sessions, token, replace(granted, until=self._clock() + SESSION_SECONDS))
        return token

    def session(self, authorization: str) -> tuple[Right, str] | None:
        """The right of a session and whom its key was given to, by the header `Authorization`; None where there is no such session."""
        granted = self._sessions.get(bearer_digest(authorization))
        return None if granted is None or not self._lasts(granted) else (granted.right, granted.who)

    def _lasts(self, granted: _Granted) -> bool:
        if granted.until < self._clock():
            return False
        return granted.process is None or self._started(granted.process[0]) == granted.process[1]

    def _started(self, process: int) -> int | None:
        """When a process was started: another one that gets its number later was started later."""
        found = ProcessStat.of(f"{self._proc}/{process}") if process > 0 else None
        return None if found is None or found.state in {"Z", "X"} else found.started

    def _keep(self, kept: dict[bytes, _Granted], secret: str, granted: _Granted) -> None:
        """Keep one more. Of too many, the oldest goes of the user who holds most among those who may do least. Raise `ProblemError` if all
        of them may do more."""
        if len(kept) >= MOST:
            for digest in [digest for digest, one in kept.items() if not self._lasts(one)]:
                del kept[digest]
        if len(kept) >= MOST:
            shares = Shares(kept.values())
            gone = min(kept, key=lambda digest: shares.order(kept[digest]))
            if kept[gone].right > granted.right:
                raise ProblemError(503, "others have all pages that mom keeps", "end one of them: ^C at its mom page")
            del kept[gone]
        kept[token_digest(secret)] = granted
