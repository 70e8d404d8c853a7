"""One connection to vdsm that lasts: opened when it is needed, given up when it does not answer, opened again with back-off.

All of it happens in an event loop in a thread of its own; callers hand it their questions and wait, each only so long.
stomp.py would do the framing, but neither tells a wrong certificate from a vdsm that is away, nor bounds what a frame may hold, nor
connects again by itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from mom_core import GuestBusy, HypervisorError, format_duration, printable
from mom_kvm import Address
from mom_plugins_vdsm.jsonrpc import AnswerError, Event, JsonRpcRequest, parsed, request
from mom_plugins_vdsm.stomp import FrameError, FrameReader, StompFrame
from mom_plugins_vdsm.tls import TlsFiles, context_of, not_let_in, refused_handshake

_RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0)
"""How long not to try again after the first, second … attempt in a row that came to nothing: calls fail at once meanwhile. A vdsm that is
started anew needs some ten seconds. After a connection that worked, the next call connects."""

_OPEN_SECONDS = 10.0
"""How long each step of connecting may take: to the socket, the handshake, CONNECTED. vdsm itself allows ten seconds for a handshake."""

_HEART_BEAT_MS = 24_000
"""How often vdsm shall give a sign of life: what vdsm's own client asks for. mom promises none: vdsm drops who is a moment late."""

_HEART_BEAT_GRACE_SECONDS = 6.0
"""vdsm's own client gives up at 30 s."""

_PING_SECONDS = 2.0
"""How long vdsm may take to answer anything at all after a call without an answer. It answers a ping at once while one of its workers is
free: after so long all of them hang, or nothing arrives here any more."""

_MOST_LATE_CALLS = 40
"""Of so many calls without an answer the connection is given up: half of the requests that vdsm lets wait."""

_FAREWELL_SECONDS = 0.1
"""How long vdsm may take to confirm the end of a connection; a plugin has 0.4 s to close all."""

_SLACK_SECONDS = 5.0
"""A caller waits for so much longer than its time before it takes the connection's thread for dead."""

_PIECE = 64 << 10
"""Bytes that are read at once."""

REQUESTS = "jms.topic.vdsm_requests"
EVENTS = "jms.queue.events"


@dataclass(frozen=True, slots=True)
class VdsmConnectionSettings:
    """Where vdsm is and with which files it is spoken to (None: without TLS); the bytes of one answer."""

    address: Address
    tls: TlsFiles | None
    largest_answer: int = 64 << 20
    """vdsm needs a few KiB for each guest."""

    @property
    def peer(self) -> str:
        """How people name it."""
        return f"vdsm at {self.address}"


@dataclass(slots=True)
class _Session:
    """One open socket, and the requests without an answer that went over it, by id."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: FrameReader
    destination: str = field(default_factory=lambda: f"mom-{uuid.uuid4()}")
    """Where vdsm sends answers. New for each connection: all who are subscribed to it get them."""
    silence_limit: float | None = _OPEN_SECONDS
    """Seconds without a byte after which vdsm is taken for dead; None when it promised no heart-beat."""
    sent: dict[str, asyncio.Future[object]] = field(default_factory=dict)
    """Each gets the result, or the `HypervisorError` that says why there is none."""
    late: set[str] = field(default_factory=set)
    """Ids of those that no caller waits for, or not any more."""
    answers: int = 0
    given_up: HypervisorError | None = None
    """Why it has ended, or is about to."""

    def send(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Have a frame written when the socket takes it."""
        self.writer.write(StompFrame(command, headers, body).encode())

    def ask(self, message: JsonRpcRequest) -> asyncio.Future[object]:
        """Send a request; what will have its answer."""
        answer = self.sent[message.id] = asyncio.get_running_loop().create_future()
        headers = {"destination": REQUESTS, "content-type": "application/json", "reply-to": self.destination}
        self.send("SEND", {**headers, "content-length": str(len(message.body))}, message.body)
        return answer

    def give_up(self, error: HypervisorError) -> None:
        """End the connection for this reason."""
        self.given_up = error
        self.writer.transport.abort()


class VdsmConnection:
    """A connection to one vdsm, for several threads."""

    def __init__(self, settings: VdsmConnectionSettings, log: logging.Logger) -> None:
        self.settings = settings
        self.opened = 0
        """How often the connection was opened: a larger number means that events may have been missed."""
        self.peer_certificate_ends: float | None = None
        """When vdsm's certificate expires, in seconds since the epoch; None without TLS, and before the first connection."""
        self.on_event: Callable[[Event], None] | None = None
        """Told of vdsm's events, in the connection's thread, so it must not call vdsm. To be set before `start`."""
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = asyncio.Event()
        # All that follows belongs to the thread.
        self._session: _Session | None = None
        self._opening: asyncio.Future[_Session | HypervisorError] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._refusal: HypervisorError | None = None
        self._retry_at = 0.0
        self._fruitless = 0

    # --- for callers -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. It connects when there is something to ask."""
        self._loop = loop = asyncio.new_event_loop()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._closing.wait())  # its end cancels all tasks

        self._thread = threading.Thread(target=run, name="vdsm-connection", daemon=True)
        self._thread.start()

    def close(self, patience: float = 0.3) -> None:
        """End the connection and the thread, and fail what waits; waits `patience` seconds at most."""
        if self._loop is not None and self._thread is not None:
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(patience)  # only an attempt to connect can hold it up for longer; it ends by itself after that

    def call(
        self,
        method: str,
        params: Mapping[str, object],
        timeout: float,
        doing: str,
        late: Callable[[Callable[[], bool]], None] | None = None,
    ) -> object:
        """The result of this verb. Takes `timeout` seconds at most, connecting included.

        Raises `GuestBusy` when there is no answer in time (it may still take effect; `late` is told how to find out whether vdsm has
        answered since: never, where the connection has ended before), and another `HypervisorError` when vdsm refuses or cannot be
        reached.

        :param doing: what is being done, for error messages
        """
        closed = HypervisorError(f"{doing}: the connection to {self.settings.peer} is closed")
        if self._loop is None or self._closing.is_set():
            raise closed
        asking = self._ask(method, params, timeout, doing, late)
        try:
            answer = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the loop has been closed meanwhile
            asking.close()
            raise closed from None
        try:
            return answer.result(timeout + _SLACK_SECONDS)
        except (concurrent.futures.CancelledError, TimeoutError):
            raise closed from None

    # --- the thread --------------------------------------------------------------------------------------------------------------

    async def _ask(
        self, method: str, params: Mapping[str, object], timeout: float, doing: str, late: Callable[[Callable[[], bool]], None] | None
    ) -> object:
        message, asked = request(method, params), None
        try:
            async with asyncio.timeout(timeout):
                session = await self._opened()
                before, asked = session.answers, session.ask(message)
                answer = await asyncio.shield(asked)
            if isinstance(answer, HypervisorError):
                raise answer
            return answer
        except TimeoutError:
            if asked is not None and not asked.done():
                self._overdue(session, message.id, before)
                if late is not None:
                    late(asked.done)
            raise GuestBusy(f"{doing}: {self.settings.peer} has not answered within {format_duration(timeout)}") from None
        except HypervisorError as error:
            raise type(error)(f"{doing}: {error.message}", hint=error.hint) from error

    def _overdue(self, session: _Session, identity: str, answers_before: int) -> None:
        """No caller waits for this any more. Where other answers came, vdsm lives, and is stuck with this call only."""
        session.late.add(identity)
        if len(session.late) > _MOST_LATE_CALLS:
            self._give_up(session)
        elif session.answers == answers_before:
            self._ping(session)

    def _ping(self, session: _Session) -> None:
        """Ask vdsm itself, as guests may hang one after the other. The session ends if nothing at all is answered in time."""
        ping, before = request("Host.ping2", {}), session.answers
        session.ask(ping)
        session.late.add(ping.id)

        def judge() -> None:
            if session.answers == before:
                self._give_up(session)

        asyncio.get_running_loop().call_later(_PING_SECONDS, judge)

    def _give_up(self, session: _Session) -> None:
        session.give_up(HypervisorError(f"{self.settings.peer} does not answer"))

    async def _opened(self) -> _Session:
        """The session that is open, or is opened unless it is too early for that. Raises `HypervisorError`."""
        if self._session is not None:
            return self._session
        if self._opening is None:
            loop = asyncio.get_running_loop()
            if self._refusal is not None and loop.time() < self._retry_at:
                raise self._refusal
            self._opening = loop.create_future()
            self._serving = loop.create_task(self._serve())
        opened = await asyncio.shield(self._opening)
        if isinstance(opened, HypervisorError):
            raise opened
        if opened.given_up is not None:  # before this task had its turn: what is sent over it now has no answer, and no error either
            raise opened.given_up
        return opened

    async def _serve(self) -> None:
        """Open a connection and exchange frames until it ends."""
        session: _Session | None = None
        try:
            session = await self._connected()
            await self._exchange(session)
        except HypervisorError as ended:
            self._ended(ended, session)
        except asyncio.CancelledError:
            if session is not None:
                await self._say_farewell(session)
            raise
        except Exception as error:  # noqa: BLE001  # containment: without an end that is noted no other connection is opened
            self._log.exception("the connection to %s is given up", self.settings.peer)
            self._ended(HypervisorError(f"{type(error).__name__}: {error}"), session)
        finally:
            if session is not None:
                session.writer.transport.abort()

    def _ended(self, error: HypervisorError, session: _Session | None) -> None:
        if self._session is not None or self._refusal is None or self._refusal.message != error.message:
            self._log.warning("%s", error)
        self._fruitless = 0 if session is not None and session.answers else self._fruitless + 1
        pause = _RETRY_SECONDS[min(self._fruitless, len(_RETRY_SECONDS)) - 1] if self._fruitless else 0.0
        self._retry_at = asyncio.get_running_loop().time() + pause
        self._refusal, self._session = error, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(error)
        if session is not None:
            session.given_up = error
            for identity, answer in session.sent.items():
                if identity not in session.late:  # those stay open: vdsm may be stuck with them still
                    answer.set_result(error)

    # --- opening -----------------------------------------------------------------------------------------------------------------

    async def _connected(self) -> _Session:
        """A new session, which vdsm has not answered yet. Raises `HypervisorError`."""
        settings, tls = self.settings, self.settings.tls
        context = None if tls is None else context_of(tls)
        try:
            sock = await asyncio.to_thread(socket.create_connection, (settings.address.host, settings.address.port), _OPEN_SECONDS)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "is vdsm running? systemctl status vdsmd"
            raise HypervisorError(f"{settings.peer} cannot be reached: {reason}", hint=hint) from error
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                # Without a name: the certificate is for the host's name on the network, and mom connects to localhost.
                reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=None if context is None else "")
        except BaseException as error:
            sock.close()
            if isinstance(error, TimeoutError):
                raise HypervisorError(f"{settings.peer} does not answer the TLS handshake") from error
            if isinstance(error, OSError) and tls is not None:
                raise refused_handshake(error, tls, settings.peer) from error
            raise
        ends = (writer.get_extra_info("peercert") or {}).get("notAfter")
        self.peer_certificate_ends = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None
        session = _Session(reader, writer, FrameReader(settings.largest_answer))
        # vdsm takes exactly this version, and the command CONNECT only.
        session.send("CONNECT", {"accept-version": "1.2", "heart-beat": f"0,{_HEART_BEAT_MS}"})
        session.send("SUBSCRIBE", {"destination": session.destination, "ack": "auto", "id": "answers"})
        session.send("SUBSCRIBE", {"destination": EVENTS, "ack": "auto", "id": "events"})
        return session

    # --- serving -----------------------------------------------------------------------------------------------------------------

    async def _exchange(self, session: _Session) -> NoReturn:
        """Take what vdsm sends. Raises `HypervisorError` at the end."""
        peer = self.settings.peer
        while True:
            try:
                async with asyncio.timeout(session.silence_limit):
                    piece = await session.reader.read(_PIECE)
            except TimeoutError as error:
                silence = "has not answered CONNECT" if self._session is None else "gives no sign of life"
                raise HypervisorError(f"{peer} {silence}") from error
            except OSError as error:
                raise self._lost(session, error) from error
            if not piece:
                raise self._lost(session, None)
            try:
                for frame in session.frames.feed(piece):
                    self._take(session, frame)
            except (FrameError, AnswerError) as error:
                raise HypervisorError(f"{peer} cannot be understood: {error}") from error

    def _lost(self, session: _Session, error: OSError | None) -> HypervisorError:
        """Why the connection broke, or was closed by vdsm (None)."""
        peer, tls = self.settings.peer, self.settings.tls
        if session.given_up is not None:
            return session.given_up
        if self._session is not None:
            return HypervisorError(f"{peer} has ended the connection" + (f": {error.strerror}" if error else ""))
        if tls is None:
            hint = "set tls: true for the plugin vdsm, if vdsm speaks TLS"
            return HypervisorError(f"{peer} has closed the connection before it said anything", hint=hint)
        if isinstance(error, ssl.SSLError):
            return refused_handshake(error, tls, peer)
        return not_let_in(tls, peer, "it has closed the connection without a reason")

    def _take(self, session: _Session, frame: StompFrame) -> None:
        if frame.command == "MESSAGE":
            self._take_message(session, frame)
        elif frame.command == "CONNECTED" and self._session is None:
            self._welcome(session, frame)
        elif frame.command == "ERROR":
            text = printable(frame.body[:500].decode("utf-8", "replace").strip() or frame.headers.get("message", ""), 200)
            if self._session is None:
                raise HypervisorError(f"{self.settings.peer} refuses the connection: {text}")
            self._log.warning("%s: %s", self.settings.peer, text)  # about a frame, never about a request

    def _welcome(self, session: _Session, frame: StompFrame) -> None:
        promised = frame.headers.get("heart-beat", "0,0").partition(",")[0]
        beats = promised.isascii() and promised.isdigit() and len(promised) < 10 and int(promised)
        session.silence_limit = int(promised) / 1000 + _HEART_BEAT_GRACE_SECONDS if beats else None
        self.opened += 1
        self._session, self._refusal = session, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(session)
        self._log.info("connected to %s%s", self.settings.peer, "" if self.settings.tls else " without TLS")

    def _take_message(self, session: _Session, frame: StompFrame) -> None:
        message = parsed(frame.body)
        if isinstance(message, Event):
            if self.on_event is not None:
                self.on_event(message)
            return
        answer = session.sent.pop(message.id, None)
        session.late.discard(message.id)
        if answer is not None:  # else it is another client's, or was given twice
            session.answers += 1
            answer.set_result(message.error or message.result)

    async def _say_farewell(self, session: _Session) -> None:
        """Tell vdsm, so that it need not find out. It confirms, and leaves closing to the client."""
        session.send("DISCONNECT", {"receipt": "end"})
        with suppress(OSError, FrameError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while piece := await session.reader.read(_PIECE):
                    if any(frame.command == "RECEIPT" for frame in session.frames.feed(piece)):
                        return
