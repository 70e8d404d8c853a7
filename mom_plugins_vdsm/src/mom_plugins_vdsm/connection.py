"""Connection to vdsm, opened on demand and reopened with back-off. One thread's event loop does all work.

TLS is as in vdsm's own clients. mom verifies that vdsm's CA signed the certificate, but no host name, because mom usually connects to
localhost.
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
from pathlib import Path
from typing import NoReturn

from mom_core import GuestBusy, HypervisorError, PermissionDenied, format_duration, printable
from mom_kvm import Address
from mom_plugins_vdsm.jsonrpc import LONGEST_LINE, Event, MessageError, StompFrame, parsed, read_frame, request
from mom_plugins_vdsm.statistics import number

_RETRY_SECONDS = (1.0, 2.0, 5.0, 15.0)
"""Pauses after the first, second and further failed attempts to connect. During a pause, calls fail immediately. A restart of vdsm takes
about ten seconds."""

_OPEN_SECONDS = 10.0
"""Timeout of each step of connecting: the socket, the TLS handshake, and vdsm's frame CONNECTED."""

_HEART_BEAT_MS = 24_000
"""Heart-beat interval that mom requests from vdsm. mom promises no beats, because vdsm disconnects a client whose beat is slightly late."""

_HEART_BEAT_GRACE_SECONDS = 6.0
"""How late a heart-beat may be."""

_SLACK_SECONDS = 5.0
"""If a call lasts longer than its timeout plus this, the caller considers the connection's thread dead."""

_LARGEST_ANSWER = 16 << 20
"""Largest answer in bytes that mom accepts. vdsm needs a few KiB for each guest."""

REQUESTS = "jms.topic.vdsm_requests"
EVENTS = "jms.queue.events"


_READABLE_HINT = "run mom as user vdsm with group kvm"
_NAMED_HINT = "the engine creates this file when it installs the host; to use another folder, set pki_directory for the vdsm plugin"
_ENROLL_HINT = "let the engine issue new certificates for this host: Installation, Enroll Certificate"
_NO_TLS_HINT = "set tls: false for the vdsm plugin, if vdsm's own configuration has ssl = false in its section [vars]"


_KEY, _CERTIFICATE, _CA = "keys/vdsmkey.pem", "certs/vdsmcert.pem", "certs/cacert.pem"
"""Files in the PKI folder: mom's key and certificate (usually vdsm's), and the certificate of mom's and vdsm's CA."""


def context_of(pki: Path) -> ssl.SSLContext:
    """Read the files of a PKI folder, and return a TLS context. Raise `HypervisorError` if a file is unreadable or invalid."""
    key, certificate, ca = pki / _KEY, pki / _CERTIFICATE, pki / _CA
    for path in (key, certificate, ca):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=ca)
    except (ssl.SSLError, ValueError) as error:
        raise HypervisorError(f"{ca} contains no CA certificate: {_reason(error)}") from error
    try:
        # Otherwise, OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        message = f"{certificate} and its key {key} cannot be used: {_reason(error)}"
        raise HypervisorError(message, hint=_ENROLL_HINT) from error
    return context


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except PermissionError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}", hint=_READABLE_HINT) from error
    except OSError as error:
        raise HypervisorError(f"{path} cannot be read: {error.strerror}", hint=_NAMED_HINT) from error


def refused_handshake(error: OSError | None, pki: Path, peer: str) -> HypervisorError:
    """Return the error to raise after a handshake has failed, or vdsm has closed the connection without an answer.

    :param error: None if the connection ended without an error, as it may when vdsm rejects mom's certificate
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return HypervisorError(f"the certificate of {peer} does not fit the CA in {pki / _CA}: {error.verify_message}", hint=_ENROLL_HINT)
    alert = _reason(error).partition("alert ")[2] if isinstance(error, ssl.SSLError) else ""
    if error is None or alert:
        message = f"{peer} does not accept the certificate {pki / _CERTIFICATE}" + (f": {alert}" if alert else "")
        return PermissionDenied(message, hint=_ENROLL_HINT)
    return HypervisorError(f"no TLS connection with {peer}: {_reason(error)}", hint=_NO_TLS_HINT)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return printable(reason.replace("_", " ").lower() if isinstance(reason, str) else str(error), 120)


@dataclass(slots=True)
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    destination: str = field(default_factory=lambda: f"mom-{uuid.uuid4()}")
    """STOMP address to which vdsm sends the answers. Each connection has its own, because all subscribers of an address get the answers."""
    silence_limit: float | None = _OPEN_SECONDS
    """Seconds of silence after which vdsm counts as dead; None if vdsm promised no heart-beat."""
    sent: dict[str, asyncio.Future[object]] = field(default_factory=dict)
    """Open requests, keyed by ID. The future of each gets the result or a `HypervisorError`."""
    late: set[str] = field(default_factory=set)
    """IDs of open requests whose callers have stopped waiting."""
    end: HypervisorError | None = None
    """Why the session has ended; None before."""

    def send(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.writer.write(StompFrame(command, headers, body).encode())

    def ask(self, identity: str, message: bytes) -> asyncio.Future[object]:
        answer = self.sent[identity] = asyncio.get_running_loop().create_future()
        headers = {"destination": REQUESTS, "content-type": "application/json", "reply-to": self.destination}
        self.send("SEND", {**headers, "content-length": str(len(message))}, message)
        return answer


class VdsmConnection:
    """Connection to one vdsm. Thread-safe.

    :param pki: folder of the TLS files; None for a connection without TLS
    """

    def __init__(self, address: Address, pki: Path | None, log: logging.Logger, largest_answer: int = _LARGEST_ANSWER) -> None:
        self.address, self.pki, self._largest_answer = address, pki, largest_answer
        self.peer = f"vdsm at {address}"
        """Name of vdsm in messages."""
        self.opened = 0
        """How often the connection has been opened. When this number grows, mom may have missed events."""
        self.peer_certificate_ends: float | None = None
        """Expiry of vdsm's certificate, in seconds since the epoch; None if unknown."""
        self.on_event: Callable[[Event], None] | None = None
        """Called for each event, in the connection's thread. The function must not call vdsm. Set it before `start`."""
        self._log = log
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = asyncio.Event()
        # Only the thread uses the following attributes.
        self._session: _Session | None = None
        self._opening: asyncio.Future[_Session | HypervisorError] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._refusal: HypervisorError | None = None
        self._retry_at = 0.0
        self._fruitless = 0

    # --- for callers -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. The first call connects."""
        self._loop = loop = asyncio.new_event_loop()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._closing.wait())  # cancels all tasks at its end

        self._thread = threading.Thread(target=run, name="vdsm-connection", daemon=True)
        self._thread.start()

    def close(self, patience: float = 0.3) -> None:
        """Close the connection, and stop the thread. Wait `patience` seconds at most."""
        if self._loop is not None and self._thread is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(patience)  # an attempt to connect may take longer

    def call(
        self,
        method: str,
        params: Mapping[str, object],
        timeout: float,
        doing: str,
        late: Callable[[Callable[[], bool]], None] | None = None,
    ) -> object:
        """Call a verb of vdsm. Return its result within `timeout` seconds, or raise `HypervisorError`.

        After `GuestBusy`, the call may still take effect.

        :param late: called after `GuestBusy`, with a function that returns whether vdsm has answered in the meantime
        """
        closed = HypervisorError(f"{doing}: the connection to {self.peer} is closed")
        if self._loop is None or self._closing.is_set():
            raise closed
        asking = self._ask(method, params, timeout, doing, late)
        try:
            return asyncio.run_coroutine_threadsafe(asking, self._loop).result(timeout + _SLACK_SECONDS)
        except (RuntimeError, concurrent.futures.CancelledError, TimeoutError):  # RuntimeError: the loop was closed meanwhile
            raise closed from None

    # --- the thread --------------------------------------------------------------------------------------------------------------

    async def _ask(
        self, method: str, params: Mapping[str, object], timeout: float, doing: str, late: Callable[[Callable[[], bool]], None] | None
    ) -> object:
        identity, answer_future = str(uuid.uuid4()), None
        try:
            async with asyncio.timeout(timeout):
                session = await self._opened()
                answer_future = session.ask(identity, request(identity, method, params))
                answer = await asyncio.shield(answer_future)
            if isinstance(answer, HypervisorError):
                raise answer
            return answer
        except TimeoutError:
            if answer_future is not None and not answer_future.done():
                session.late.add(identity)
                if late is not None:
                    late(answer_future.done)
            raise GuestBusy(f"{doing}: {self.peer} has not answered within {format_duration(timeout)}") from None
        except HypervisorError as error:
            raise type(error)(f"{doing}: {error.message}", hint=error.hint) from error

    async def _opened(self) -> _Session:
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
        if opened.end is not None:  # too late: a request would get neither answer nor error
            raise opened.end
        return opened

    async def _serve(self) -> None:
        session: _Session | None = None
        try:
            session = await self._connected()
            await self._exchange(session)
        except HypervisorError as ended:
            self._ended(ended, session)
        except Exception as error:  # noqa: BLE001  # the end must be noted, so that mom reconnects
            self._log.exception("mom abandons the connection to %s", self.peer)
            self._ended(HypervisorError(f"{type(error).__name__}: {error}"), session)
        finally:
            if session is not None:
                session.writer.transport.abort()

    def _ended(self, error: HypervisorError, session: _Session | None) -> None:
        if self._session is not None or self._refusal is None or self._refusal.message != error.message:
            self._log.warning("%s", error)
        self._fruitless = 0 if self._session is not None else self._fruitless + 1
        pause = _RETRY_SECONDS[min(self._fruitless, len(_RETRY_SECONDS)) - 1] if self._fruitless else 0.0
        self._retry_at = asyncio.get_running_loop().time() + pause
        self._refusal, self._session = error, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(error)
        if session is not None:
            session.end = error
            for identity, answer in session.sent.items():
                if identity not in session.late:  # late requests stay open, because they may still occupy vdsm
                    answer.set_result(error)

    # --- opening -----------------------------------------------------------------------------------------------------------------

    async def _connected(self) -> _Session:
        context = None if self.pki is None else context_of(self.pki)
        try:
            sock = await asyncio.to_thread(socket.create_connection, (self.address.host, self.address.port), _OPEN_SECONDS)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            hint = "check whether vdsm is running: systemctl status vdsmd"
            raise HypervisorError(f"{self.peer} cannot be reached: {reason}", hint=hint) from error
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                # Check no name: the certificate is for the host's network name, but mom connects to localhost.
                server_name = None if context is None else ""
                reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=server_name, limit=LONGEST_LINE)
        except BaseException as error:
            sock.close()
            if isinstance(error, TimeoutError):
                raise HypervisorError(f"{self.peer} does not answer the TLS handshake") from error
            if isinstance(error, OSError) and self.pki is not None:
                raise refused_handshake(error, self.pki, self.peer) from error
            raise
        ends = (writer.get_extra_info("peercert") or {}).get("notAfter")
        self.peer_certificate_ends = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None
        session = _Session(reader, writer)
        # vdsm accepts only this version, and only the command CONNECT.
        session.send("CONNECT", {"accept-version": "1.2", "heart-beat": f"0,{_HEART_BEAT_MS}"})
        session.send("SUBSCRIBE", {"destination": session.destination, "ack": "auto", "id": "answers"})
        session.send("SUBSCRIBE", {"destination": EVENTS, "ack": "auto", "id": "events"})
        return session

    # --- serving -----------------------------------------------------------------------------------------------------------------

    async def _exchange(self, session: _Session) -> NoReturn:
        while True:
            try:
                self._take(session, await read_frame(session.reader, self._largest_answer, session.silence_limit))
            except TimeoutError as error:
                silence = "has not answered CONNECT" if self._session is None else "sends nothing, not even heartbeats"
                raise HypervisorError(f"{self.peer} {silence}") from error
            except (OSError, EOFError) as error:
                raise self._lost(error if isinstance(error, OSError) else None) from error
            except MessageError as error:
                raise HypervisorError(f"{self.peer} sent an invalid message: {error}") from error

    def _lost(self, error: OSError | None) -> HypervisorError:
        if self._session is not None:
            return HypervisorError(f"{self.peer} closed the connection" + (f": {error.strerror}" if error else ""))
        if self.pki is None:
            hint = "set tls: true for the vdsm plugin, if vdsm speaks TLS"
            return HypervisorError(f"{self.peer} closed the connection without sending anything", hint=hint)
        return refused_handshake(error if isinstance(error, ssl.SSLError) else None, self.pki, self.peer)

    def _take(self, session: _Session, frame: StompFrame) -> None:
        if frame.command == "MESSAGE":
            self._take_message(session, frame)
        elif frame.command == "CONNECTED" and self._session is None:
            self._welcome(session, frame)
        elif frame.command == "ERROR":
            text = printable(frame.body[:500].decode("utf-8", "replace").strip() or frame.headers.get("message", ""), 200)
            if self._session is None:
                raise HypervisorError(f"{self.peer} refuses the connection: {text}")
            self._log.warning("%s: %s", self.peer, text)  # the error concerns a frame, never a request

    def _welcome(self, session: _Session, frame: StompFrame) -> None:
        promised = number(frame.headers.get("heart-beat", "0,0").partition(",")[0])
        session.silence_limit = promised / 1000 + _HEART_BEAT_GRACE_SECONDS if promised else None
        self.opened += 1
        self._session, self._refusal = session, None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.set_result(session)
        self._log.info("connected to %s%s", self.peer, "" if self.pki else " without TLS")

    def _take_message(self, session: _Session, frame: StompFrame) -> None:
        message = parsed(frame.body)
        if isinstance(message, Event):
            if self.on_event is not None:
                self.on_event(message)
            return
        answer = session.sent.pop(message.id, None)
        session.late.discard(message.id)
        if answer is not None:  # otherwise the answer is another client's, or a repetition
            answer.set_result(message.result)
