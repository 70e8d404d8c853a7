"""One connection to vdsm that lasts: opened when it is needed, given up when it does not answer, opened again with back-off.

An event loop in a thread of its own does all that touches the socket; callers hand it their requests and wait, each only so long.
stomp.py would do the framing, but neither tells a wrong certificate from a vdsm that is away, nor bounds what a frame may hold, nor
connects again by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mom_core import GuestBusy, HypervisorError, format_duration, printable
from mom_plugins_vdsm.jsonrpc import QUEUE_FULL, AnswerError, Event, JsonRpcAnswer, failure, parsed, request
from mom_plugins_vdsm.stomp import FrameError, FrameReader, StompFrame
from mom_plugins_vdsm.tls import Fingerprint, TlsFiles, client_context, not_let_in, refused_handshake

_RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0)
"""How long to wait after the first, second … attempt in a row that came to nothing. A vdsm that is started anew needs some ten seconds."""

_WORTH_WAITING_SECONDS = 1.0
"""A call waits for the next attempt to connect when it is this near: after a connection that worked, it is. Others fail at once."""

_OPEN_SECONDS = 10.0
"""How long connecting may take, from the first packet to CONNECTED; vdsm itself allows ten seconds for a handshake."""

_HEART_BEAT_MS = 24_000
"""How often vdsm shall give a sign of life: what vdsm's own client asks for. mom promises none: vdsm drops who is a moment late."""

_HEART_BEAT_GRACE_SECONDS = 6.0
"""vdsm's own client gives up at 30 s."""

_QUEUE_FULL_PAUSE_SECONDS = 0.2
"""Until a request that found vdsm's queue full is tried again; doubled each time. vdsm answers hundreds of calls a second."""

_MOST_LATE_CALLS = 40
"""Of so many calls without an answer the connection is given up: half of the requests that vdsm lets wait."""

_FAREWELL_SECONDS = 0.1
"""How long vdsm may take to confirm the end of a connection; a plugin has 0.4 s to close all."""

_UNASKED_BYTES = 8 << 20
_UNASKED_BYTES_PER_SECOND = 256 << 10
_FRAME_COSTS_BYTES = 2000
"""How much vdsm may send without being asked (events, errors, answers to no question, signs of life), at once and all the time, where each
frame counts as so many bytes more: thousands of events when all guests of a host start, and a hundred a second from then on. One that
sends them without an end would cost half a CPU and more."""

_PIECE = 64 << 10
"""Bytes that are read at once."""

REQUESTS = "jms.topic.vdsm_requests"
EVENTS = "jms.queue.events"
_ANSWERS_ID, _EVENTS_ID = "answers", "events"


@dataclass(frozen=True, slots=True)
class VdsmConnectionSettings:
    """Where vdsm is and with which files it is spoken to (None: without TLS); the bytes of one answer; whether to listen for events."""

    host: str
    port: int
    tls: TlsFiles | None
    largest_answer: int
    events: bool = True

    @property
    def address(self) -> str:
        """Host and port as in a URI."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def peer(self) -> str:
        """How people name it."""
        return f"vdsm at {self.address}"


@dataclass(slots=True, eq=False)
class PendingCall:
    """One request: waiting to be sent, sent, or `done`. Belongs to the connection's lock until it is done."""

    id: str
    body: bytes
    done: threading.Event = field(default_factory=threading.Event)
    answer: JsonRpcAnswer | None = None
    error: HypervisorError | None = None
    answers_before: int | None = None
    """How many answers the connection had seen when this was sent; None until then."""
    late: bool = False

    def finish(self, answer: JsonRpcAnswer | None, error: HypervisorError | None) -> None:
        """Hand over the answer, or why there is none."""
        self.answer, self.error = answer, error
        self.done.set()


class _Ended(Exception):  # an end is no error when mom itself wants it
    """The connection is over; `error` is what its callers are told."""

    def __init__(self, error: HypervisorError, *, flooded: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.flooded = flooded


class _Session:
    """One open socket and what was read of it. Used in the connection's thread only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, largest_answer: int) -> None:
        self.reader = reader
        self.writer = writer
        self.frames = FrameReader(largest_answer)
        self.destination = f"mom-{uuid.uuid4()}"
        """Where vdsm sends answers. New for each connection: all who are subscribed to it get them."""
        self.welcomed = False
        self.silence_limit: float | None = None
        """Seconds without a byte after which vdsm is taken for dead; None when it promised no heart-beat."""
        self.heard = time.monotonic()
        self.answers = 0
        self.given_up: HypervisorError | None = None
        self._unasked = 0.0
        self._unasked_at = self.heard
        self._skipped = 0

    def is_flooded(self) -> bool:
        """Whether more was sent without being asked for than may be, ends of lines included."""
        skipped, self._skipped = self.frames.skipped - self._skipped, self.frames.skipped
        self._count(skipped)
        return self._unasked > _UNASKED_BYTES

    def unasked(self, frame: StompFrame) -> None:
        """Note a frame that answers nothing."""
        self._count(_FRAME_COSTS_BYTES + len(frame.body))

    def _count(self, size: int) -> None:
        now = time.monotonic()
        drained = (now - self._unasked_at) * _UNASKED_BYTES_PER_SECOND
        self._unasked, self._unasked_at = max(0.0, self._unasked - drained) + size, now

    def send(self, frame: StompFrame) -> None:
        """Have the frame written when the socket takes it."""
        self.writer.write(frame.encode())

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
        self._lock = threading.Lock()
        self._waiting: dict[str, PendingCall] = {}
        self._sent: dict[str, PendingCall] = {}
        self._session: _Session | None = None
        self._refusal: HypervisorError | None = None
        self._refused_files: Fingerprint | None = None
        self._retry_at = 0.0
        self._fruitless = 0
        self._closing = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._asked = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    # --- for callers -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. It connects when there is something to ask."""
        self._work = self._loop.create_task(self._connect_when_asked())
        self._thread = threading.Thread(target=self._run, name="vdsm-connection", daemon=True)
        self._thread.start()

    def close(self, patience: float = 0.3) -> None:
        """End the connection and the thread, and fail what waits; waits `patience` seconds at most."""
        self._closing.set()
        if self._work is None or self._thread is None:
            self._loop.close()
            return
        self._in_thread(self._work.cancel)
        self._thread.join(patience)  # only the resolver of names can hold it up for longer; it ends by itself after that

    def call(
        self,
        method: str,
        params: Mapping[str, object],
        timeout: float,
        doing: str,
        late: Callable[[PendingCall], None] | None = None,
    ) -> object:
        """The result of this verb. Takes `timeout` seconds at most, connecting included.

        Raises `GuestBusy` when there is no answer in time (it may still take effect; `late` is given the call that is under way), and
        another `HypervisorError` when vdsm refuses or cannot be reached.

        :param doing: what is being done, for error messages
        """
        end = time.monotonic() + timeout
        pause = _QUEUE_FULL_PAUSE_SECONDS
        while True:
            message = request(method, params)
            call = PendingCall(message.id, message.body)
            if not self._answered(call, end, doing):
                if late is not None and call.late:
                    late(call)
                raise GuestBusy(f"{doing}: {self.settings.peer} has not answered within {format_duration(timeout)}")
            if call.answer is None:
                error = call.error or HypervisorError("the connection is closed")
                raise type(error)(f"{doing}: {error.message}", hint=error.hint)
            refusal = call.answer.refusal
            if refusal is None:
                return call.answer.result
            if refusal.code != QUEUE_FULL or time.monotonic() + 2 * pause > end or self._closing.wait(pause):
                raise failure(refusal, doing)
            pause *= 2

    def _answered(self, call: PendingCall, end: float, doing: str) -> bool:
        """Send the request and wait for what comes of it; false when that takes too long."""
        with self._lock:
            pause = 0.0 if self._session is not None or self._refusal is None else self._retry_at - time.monotonic()
        if 0 < pause <= min(_WORTH_WAITING_SECONDS, end - time.monotonic()):
            self._closing.wait(pause)
        with self._lock:
            self._refuse_at_once(doing)
            self._waiting[call.id] = call
        self._in_thread(self._wake)
        return call.done.wait(max(0.0, end - time.monotonic())) or not self._overdue(call)

    def _refuse_at_once(self, doing: str) -> None:
        """Raise the last refusal while it is not yet time to try again. The lock is held."""
        if self._closing.is_set() or self._thread is None:
            raise HypervisorError(f"{doing}: the connection to {self.settings.peer} is closed")
        if self._session is not None or self._refusal is None or time.monotonic() >= self._retry_at:
            return
        tls = self.settings.tls
        if tls is not None and self._refused_files != tls.fingerprint():
            return  # the operator has renewed the certificates: no need to wait
        raise type(self._refusal)(f"{doing}: {self._refusal.message}", hint=self._refusal.hint)

    def _overdue(self, call: PendingCall) -> bool:
        """Note that no caller waits for this call any more; false if it is done after all."""
        with self._lock:
            if call.done.is_set():
                return False
            if self._waiting.pop(call.id, None) is not None:
                return True  # not sent, so it never will be
            call.late = call.id in self._sent
            session = self._session
            if session is not None and call.late:
                # Other answers came: vdsm lives, and is stuck with this call only. None: perhaps nothing arrives here any more.
                lost = session.answers == call.answers_before
                if lost or sum(sent.late for sent in self._sent.values()) > _MOST_LATE_CALLS:
                    self._in_thread(session.give_up, HypervisorError(f"{self.settings.peer} does not answer"))
        return True

    def _in_thread(self, call: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing waits there any more
            self._loop.call_soon_threadsafe(call, *arguments)

    # --- the thread --------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._work is not None  # noqa: S101  # `start` has made it
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._work)
        self._loop.close()

    def _wake(self) -> None:
        self._asked.set()
        if self._session is not None and self._session.welcomed:
            self._send_waiting(self._session)

    async def _connect_when_asked(self) -> None:
        try:
            while True:
                self._asked.clear()
                if not self._waiting:
                    await self._asked.wait()
                else:
                    await self._one_connection()
        finally:
            self._fail_all(HypervisorError(f"the connection to {self.settings.peer} is closed"))

    async def _one_connection(self) -> None:
        """Open a connection and serve it to its end."""
        tls = self.settings.tls
        files = tls.fingerprint() if tls else None
        try:
            await self._serve()
        except _Ended as ended:
            self._ended(ended.error, files, flooded=ended.flooded)
        except Exception as error:  # noqa: BLE001  # containment: without this thread nothing works any more, so it must go on
            self._log.exception("the connection to %s is given up", self.settings.peer)
            self._ended(HypervisorError(f"{type(error).__name__}: {error}"), files)

    def _ended(self, error: HypervisorError, files: Fingerprint | None, *, flooded: bool = False) -> None:
        with self._lock:
            worked = self._session is not None and self._session.answers > 0 and not flooded
            was_open = self._session is not None and self._session.welcomed
            self._fruitless = 1 if worked else self._fruitless + 1
            self._retry_at = time.monotonic() + _RETRY_SECONDS[min(self._fruitless, len(_RETRY_SECONDS)) - 1]
            news = self._refusal is None or self._refusal.message != error.message
            self._refusal, self._refused_files = error, files
            self._session = None
        if was_open or news:
            self._log.warning("%s", error)
        self._fail_all(error)

    def _fail_all(self, error: HypervisorError) -> None:
        with self._lock:
            calls = [*self._waiting.values(), *self._sent.values()]
            self._waiting.clear()
            self._sent.clear()
        for call in calls:
            call.finish(None, error)

    # --- opening -----------------------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Open a connection and exchange frames until it ends, which is raised."""
        settings = self.settings
        until = self._loop.time() + _OPEN_SECONDS
        sock = await self._connected_socket(until)
        try:
            reader, writer = await self._streams(sock, until)
        except BaseException:
            sock.close()
            raise
        session = _Session(reader, writer, settings.largest_answer)
        # vdsm takes exactly this version, and the command CONNECT only.
        session.send(StompFrame("CONNECT", {"accept-version": "1.2", "heart-beat": f"0,{_HEART_BEAT_MS}"}))
        session.send(StompFrame("SUBSCRIBE", {"destination": session.destination, "ack": "auto", "id": _ANSWERS_ID}))
        if settings.events:
            session.send(StompFrame("SUBSCRIBE", {"destination": EVENTS, "ack": "auto", "id": _EVENTS_ID}))
        with self._lock:
            self._session = session
        try:
            while True:
                await self._read(session, until)
        except asyncio.CancelledError:
            await self._say_farewell(session)
            raise
        finally:
            writer.transport.abort()

    async def _connected_socket(self, until: float) -> socket.socket:
        settings = self.settings
        try:
            addresses = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise _Ended(HypervisorError(f"{settings.peer} cannot be reached: {error.strerror or error}")) from error
        reason = "no address"
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                async with asyncio.timeout_at(until):
                    await self._loop.sock_connect(sock, address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except TimeoutError:
                reason = "no answer"
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
            except asyncio.CancelledError:
                sock.close()
                raise
            else:
                return sock
            sock.close()
        raise _Ended(HypervisorError(f"{settings.peer} cannot be reached: {reason}", hint="is vdsm running? systemctl status vdsmd"))

    async def _streams(self, sock: socket.socket, until: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both directions of this socket, after the handshake where there is TLS."""
        tls, peer = self.settings.tls, self.settings.peer
        if tls is None:
            return await asyncio.open_connection(sock=sock)
        try:
            context = client_context(tls)
            async with asyncio.timeout_at(until):
                # Without a name: the certificate is for the host's name on the network, and mom connects to localhost.
                reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="")
        except TimeoutError as error:
            raise _Ended(HypervisorError(f"{peer} does not answer the TLS handshake")) from error
        except OSError as error:
            raise _Ended(refused_handshake(error, tls, peer)) from error
        except HypervisorError as error:
            raise _Ended(error) from error
        ends = (writer.get_extra_info("peercert") or {}).get("notAfter")
        self.peer_certificate_ends = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None
        return reader, writer

    # --- serving -----------------------------------------------------------------------------------------------------------------

    def _send_waiting(self, session: _Session) -> None:
        with self._lock:
            calls = list(self._waiting.values())
            self._waiting.clear()
            for call in calls:
                call.answers_before = session.answers
                self._sent[call.id] = call
        for call in calls:
            headers = {
                "destination": REQUESTS,
                "content-type": "application/json",
                "reply-to": session.destination,
                "content-length": str(len(call.body)),
            }
            session.send(StompFrame("SEND", headers, call.body))

    async def _read(self, session: _Session, open_until: float) -> None:
        """Read one piece, and take the frames that are complete with it."""
        until: float | None = open_until
        if session.welcomed:
            until = None if session.silence_limit is None else self._loop.time() + session.silence_limit
        try:
            async with asyncio.timeout_at(until):
                piece = await session.reader.read(_PIECE)
        except TimeoutError as error:
            silence = "gives no sign of life" if session.welcomed else "has not answered CONNECT"
            raise _Ended(HypervisorError(f"{self.settings.peer} {silence}")) from error
        except OSError as error:
            raise self._lost(session, error) from error
        if not piece:
            raise self._lost(session, None)
        session.heard = time.monotonic()
        try:
            for frame in session.frames.feed(piece):
                self._take(session, frame)
                self._refuse_flood(session)
            self._refuse_flood(session)
        except (FrameError, AnswerError) as error:
            raise _Ended(HypervisorError(f"{self.settings.peer} cannot be understood: {error}")) from error

    def _refuse_flood(self, session: _Session) -> None:
        if session.is_flooded():
            raise _Ended(HypervisorError(f"{self.settings.peer} sends without an end what mom has not asked for"), flooded=True)

    def _lost(self, session: _Session, error: OSError | None) -> _Ended:
        """Why the connection broke, or was closed by vdsm (None)."""
        settings, tls = self.settings, self.settings.tls
        if session.given_up is not None:
            return _Ended(session.given_up)
        if session.welcomed:
            return _Ended(HypervisorError(f"{settings.peer} has ended the connection" + (f": {error.strerror}" if error else "")))
        if tls is None:
            hint = "set tls: true for the plugin vdsm, if vdsm speaks TLS"
            return _Ended(HypervisorError(f"{settings.peer} has closed the connection before it said anything", hint=hint))
        if isinstance(error, ssl.SSLError):
            return _Ended(refused_handshake(error, tls, settings.peer))
        return _Ended(not_let_in(tls, settings.peer, "it has closed the connection without a reason"))

    def _take(self, session: _Session, frame: StompFrame) -> None:
        if frame.command == "MESSAGE":
            self._take_message(session, frame)
        elif frame.command == "CONNECTED":
            self._welcome(session, frame)
        elif frame.command == "ERROR":
            session.unasked(frame)
            text = printable(frame.body[:500].decode("utf-8", "replace").strip() or frame.headers.get("message", ""), 200)
            if not session.welcomed:
                raise _Ended(HypervisorError(f"{self.settings.peer} refuses the connection: {text}"))
            self._log.warning("%s: %s", self.settings.peer, text)  # about a frame, never about a request

    def _welcome(self, session: _Session, frame: StompFrame) -> None:
        if session.welcomed:
            return
        session.welcomed = True
        promised = frame.headers.get("heart-beat", "0,0").partition(",")[0]
        if promised.isascii() and promised.isdigit() and len(promised) < 10 and int(promised):
            session.silence_limit = int(promised) / 1000 + _HEART_BEAT_GRACE_SECONDS
        with self._lock:
            self.opened += 1
            self._refusal = None
        self._log.info("connected to %s%s", self.settings.peer, "" if self.settings.tls else " without TLS")
        self._send_waiting(session)

    def _take_message(self, session: _Session, frame: StompFrame) -> None:
        message = parsed(frame.body)
        if isinstance(message, Event):
            session.unasked(frame)
            if self.on_event is not None:
                self.on_event(message)
            return
        with self._lock:
            call = self._sent.pop(message.id, None)
            if call is not None:
                session.answers += 1
        if call is not None:
            call.finish(message, None)
        else:
            session.unasked(frame)  # an answer that no call waits for is another client's, or was given twice

    async def _say_farewell(self, session: _Session) -> None:
        """Tell vdsm, so that it need not find out. It confirms, and leaves closing to the client."""
        session.send(StompFrame("DISCONNECT", {"receipt": "end"}))
        with suppress(OSError, FrameError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while piece := await session.reader.read(_PIECE):
                    if any(frame.command == "RECEIPT" for frame in session.frames.feed(piece)):
                        return
