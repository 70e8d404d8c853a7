"""Clients of agents in guests: mom-guestd and qemu-guest-agent.

Peers may be malicious, so connections limit bytes and lines. The protocol of qemu-guest-agent:
https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
"""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, MomError, NotSupported, PermissionDenied, Value, printable
from mom_kvm import Address, Helper, PeerCredentials
from mom_plugins_guestagent.fields import SHORT_LEFT
from mom_plugins_guestagent.guestd import FILES
from mom_plugins_guestagent.guestd import figures as figures_in
from mom_plugins_guestagent.ways import AgentAddress, AgentKind, Way


class NoAnswer(MomError):
    """No agent or no answer. mom tries again later."""


class RefusedByAgent(MomError):
    """Refusal by the agent, such as a missing file."""


class Misbehaves(MomError):
    """Invalid answer. mom drops the whole answer, and reports the fault."""


class Wire:
    """Stream of lines to and from a guest, as a context manager.

    :param address: path of a unix socket, or numeric (address, port)
    :param process: PID of the process that must own the socket; 0 for any process
    """

    def __init__(self, address: str | tuple[str, int], *, most_line: int, most_bytes: int, process: int = 0) -> None:
        self._address = address
        self._process = process
        self._most_line = most_line
        self._left = most_bytes

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection(sock=await self._connected(), limit=self._most_line)
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        return self

    async def _connected(self) -> socket.socket:
        if isinstance(self._address, str) and not os.access(self._address, os.W_OK) and Helper.reached() is not None:
            return await asyncio.to_thread(Address(path=self._address).connect)
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if isinstance(self._address, str) and self._process:
                await self._connect_to_process(sock, self._address)
            else:
                await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_to_process(self, sock: socket.socket, path: str) -> None:
        # A guest that has broken out of QEMU can replace the path and the socket.
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            await asyncio.get_running_loop().sock_connect(sock, f"/proc/self/fd/{file}")
            owner = os.fstat(file).st_uid
        finally:
            os.close(file)
        server = PeerCredentials.of(sock).process
        if server != self._process and owner != Path(f"/proc/{self._process}").stat().st_uid:
            raise PermissionError(errno.EPERM, f"process {server} serves the socket, but does not belong to the guest")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send all data. Raise `NoAnswer` on failure."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error

    async def line(self) -> bytes:
        """Return the next line. Raise `NoAnswer` at the end, or `Misbehaves` beyond the limits."""
        try:
            line = await self._reader.readuntil()
        except asyncio.IncompleteReadError:
            raise NoAnswer(f"{self._address}: the connection was closed") from None
        except asyncio.LimitOverrunError:
            raise Misbehaves("it sends a line without end") from None
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        self._left -= len(line)
        if self._left < 0:
            raise Misbehaves("its answer is too long")
        return line[:-1]


# --- mom-guestd ------------------------------------------------------------------------------------------------------------------

_MOST_LINE_BYTES = 512
_MOST_GUESTD_BYTES = 64 << 10
"""Maximum bytes per query. Earlier answers to another program may precede an answer of about 1 KiB."""

_MOST_LINES = 256

_SHORT_LEFT = SHORT_LEFT.removeprefix("guest_")

_LINE = re.compile(rb"([a-z][a-z0-9_]{0,39}) ?: ?([\x20-\x7e]{0,200})\r?")


async def ask_guestd(wire: Wire, *questions: str) -> list[dict[str, str]]:
    """Return the answers to questions: `stats`, `props` or `short SECONDS`. Raise `NoAnswer` or `Misbehaves`."""
    tokens = [secrets.token_hex(8) for _ in questions]
    # The empty line ends a request that another program may have begun on the channel.
    await wire.send(b"\n" + "".join(f"{question} {token}\n" for question, token in zip(questions, tokens, strict=True)).encode())
    answers = []
    for token in tokens:
        begin, end = f"begin:{token}".encode(), f"end:{token}".encode()
        while await wire.line() != begin:
            pass
        values: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            line = await wire.line()
            if line == end:
                break
            if (match := _LINE.fullmatch(line)) is None:
                raise Misbehaves("its answer is not a list of names and values")
            values[match[1].decode()] = match[2].decode()
        else:
            raise Misbehaves("its answer has no end")
        answers.append(values)
    return answers


class GuestdWay(Way):
    """Way to query mom-guestd.

    :param short: returns the seconds of memory shortage to announce; 0 for none
    """

    def __init__(self, place: AgentAddress, seconds: float, short: Callable[[], int] = lambda: 0) -> None:
        super().__init__(place, seconds)
        self._short = short

    async def visit(self) -> Mapping[str, object]:
        """Query the guest."""
        wired = Wire(self.place.address, most_line=_MOST_LINE_BYTES, most_bytes=_MOST_GUESTD_BYTES, process=self.place.process)
        async with asyncio.timeout(self._seconds), wired as wire:
            statistics, *properties = await ask_guestd(wire, *(("stats", "props") if self.wants_facts else ("stats",)))
            # Only daemons that may help the host understand the request `short`.
            if _SHORT_LEFT in statistics and (seconds := self._short()):
                statistics.update(*await ask_guestd(wire, f"short {seconds}"))
        for values in properties:
            self.facts = {ours: values[name] for name, ours in _FACTS.items() if values.get(name)}
        return statistics


_FACTS = {"guestd": "guest_agent_version", "os": "guest_os", "kernel": "guest_kernel"}


# --- qemu-guest-agent ------------------------------------------------------------------------------------------------------------

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
Command: TypeAlias = "tuple[str, Mapping[str, Json]]"

PassOn: TypeAlias = "Callable[[Entity, str, float], str]"

Answers: TypeAlias = "list[Json | RefusedByAgent]"

Call: TypeAlias = "Callable[[Callable[[], Answers]], asyncio.Future[Answers]]"

MOST_ANSWER_BYTES = 256 << 10
"""Longest answer that mom accepts. The longest real one has a few KiB."""

_MOST_BYTES = 1 << 20

_SENTINEL = b"\xff"
"""Byte that restarts the agent's parser. No UTF-8 string contains it."""

_MOST_STALE_LINES = 1000

_MOST_LEFT_OPEN = 16
"""Maximum number of files of earlier queries that mom closes."""
_LARGEST_HANDLE = (1 << 63) - 1

_READ_BYTES = 16 << 10
"""Bytes to read of a file. /proc/vmstat, the longest, has 6 KiB."""

_LONGEST_TEXT = 120
_MOST_COMMANDS = 1000

FILE_COMMANDS = ("guest-file-open", "guest-file-read", "guest-file-close")
SYSTEM_COMMAND = "guest-get-osinfo"


class RawAgent:
    """Agent on a socket that only this query uses. Methods raise `NoAnswer` or `Misbehaves`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.left: list[int] = []
        """Handles of files that an earlier query left open, according to late answers."""

    @staticmethod
    def wire(place: AgentAddress) -> Wire:
        """Return an unopened connection, with the limits for agents' answers."""
        return Wire(place.address, most_line=MOST_ANSWER_BYTES, most_bytes=_MOST_BYTES, process=place.process)

    async def synchronise(self) -> None:
        """Make the agent discard an incomplete command, and skip its answers to other programs."""
        number = secrets.randbits(40)
        await self._wire.send(_SENTINEL + _text(("guest-sync-delimited", {"id": number})).encode())
        for _ in range(_MOST_STALE_LINES):
            _, sentinel, answer = (await self._wire.line()).rpartition(_SENTINEL)
            with suppress(RefusedByAgent, Misbehaves):  # an answer to another program
                value = _returned(answer)
                if sentinel and value == number:
                    return
                if type(value) is int and 0 <= value <= _LARGEST_HANDLE and not sentinel:
                    self.left.append(value)
        raise Misbehaves("it does not synchronise")

    async def ask(self, *commands: Command, answers: Answers | None = None) -> Answers:
        """Send all commands together, and return their answers in the same order.

        :param answers: list to which answers are appended as they arrive, in case the query is interrupted
        """
        await self._wire.send("".join(map(_text, commands)).encode())
        received = [] if answers is None else answers
        for _ in commands:
            received.append(_answer(await self._wire.line()))  # immediately, in case the query is interrupted
        return received


@dataclass(frozen=True, slots=True)
class AgentBehindHypervisor:
    """Agent that gets commands through the hypervisor."""

    call: Call
    pass_on: PassOn
    guest: Entity
    seconds: float
    """Timeout of one answer."""
    end: float
    """Monotonic time after which no command is sent."""

    async def ask(self, *commands: Command, answers: Answers | None = None) -> Answers:
        """Send the commands one after the other. Otherwise like `RawAgent.ask`."""
        received = [] if answers is None else answers

        def ask_all() -> Answers:
            for command in commands:
                received.append(self._ask(command))  # as in `RawAgent.ask`
            return received

        return await self.call(ask_all)

    def _ask(self, command: Command) -> Json | RefusedByAgent:
        if time.monotonic() >= self.end:
            raise NoAnswer("its answers take too long")
        try:
            answer = self.pass_on(self.guest, _text(command).rstrip("\n"), self.seconds)
        except (GuestBusy, GuestGone, NotSupported, PermissionDenied) as error:
            raise NoAnswer(str(error)) from error
        except HypervisorError as error:  # the agent refused, or the hypervisor is unreachable
            return RefusedByAgent(str(error))
        if len(answer) > MOST_ANSWER_BYTES:
            raise Misbehaves("its answer is too long")
        return _answer(answer.encode())


def _text(command: Command) -> str:
    name, arguments = command
    return json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})}) + "\n"


def _answer(line: bytes) -> Json | RefusedByAgent:
    try:
        return _returned(line)
    except RefusedByAgent as refused:
        return refused


def _returned(line: bytes) -> Json:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Misbehaves("its answer is not JSON") from error
    if isinstance(answer, dict) and "return" in answer:
        value: Json = answer["return"]
        return value
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise RefusedByAgent(printable(str(answer["error"].get("desc", "an error without a description")), _LONGEST_TEXT))
    raise Misbehaves("its answer is neither a result nor an error")


# --- one way ---------------------------------------------------------------------------------------------------------------


class AgentWay(Way):
    """Way to query one guest's qemu-guest-agent."""

    def __init__(self, place: AgentAddress, seconds: float, guest: Entity, call: Call, pass_on: PassOn) -> None:
        super().__init__(place, seconds)
        self._guest = guest
        self._call = call
        self._pass_on = pass_on
        self._able: frozenset[str] = frozenset()
        self._open: list[int] = []
        """Handles of files that an interrupted query left open."""

    async def visit(self) -> Mapping[str, object]:
        """Query the guest."""
        if self.place.kind is AgentKind.AGENT_SOCKET:
            async with asyncio.timeout(self._seconds), RawAgent.wire(self.place) as wire:
                raw = RawAgent(wire)
                await raw.synchronise()
                self._open = [*self._open, *raw.left][:_MOST_LEFT_OPEN]
                return await self.ask(raw)
        # No time limit here: a call cannot be interrupted, and limits its own time.
        behind = AgentBehindHypervisor(self._call, self._pass_on, self._guest, self._seconds / 3, time.monotonic() + self._seconds)
        return await self.ask(behind)

    async def ask(self, agent: RawAgent | AgentBehindHypervisor) -> Mapping[str, object]:
        """Ask for statistics, and for facts if wanted. Raise `NoAnswer` or `Misbehaves`."""
        if self.wants_facts:
            self.facts = await self._read_facts(agent)
        # An agent may not be allowed to read files.
        return figures_in(await self._files(agent)) if self._able.issuperset(FILE_COMMANDS) else {}

    async def _read_facts(self, agent: RawAgent | AgentBehindHypervisor) -> dict[str, Value]:
        (info,) = await agent.ask(("guest-info", {}))
        if isinstance(info, RefusedByAgent):
            raise NoAnswer(f"the agent does not list its commands: {info.message}")
        values: dict[str, Value] = {"guest_agent_version": self._learn(info) or None}
        if SYSTEM_COMMAND in self._able:
            (system,) = await agent.ask((SYSTEM_COMMAND, {}))
            values.update(_system(system))
        return {name: value for name, value in values.items() if value is not None}

    def _learn(self, info: Json) -> str:
        commands = info.get("supported_commands") if isinstance(info, Mapping) else None
        if not isinstance(info, Mapping) or not isinstance(commands, Sequence) or isinstance(commands, str):
            raise Misbehaves("it does not list its commands")
        named = ((command.get("name"), command.get("enabled")) for command in commands[:_MOST_COMMANDS] if isinstance(command, Mapping))
        self._able = frozenset(name for name, enabled in named if isinstance(name, str) and enabled is True)
        self.disabled = tuple(name for name in FILE_COMMANDS if name not in self._able)
        return _short(info.get("version"))

    async def _files(self, agent: RawAgent | AgentBehindHypervisor) -> str:
        if self._open:
            await agent.ask(*(("guest-file-close", {"handle": handle}) for handle in self._open))
            self._open = []
        handles: Answers = []
        try:
            await agent.ask(*(("guest-file-open", {"path": f"/proc/{name}", "mode": "r"}) for name in FILES), answers=handles)
        finally:
            self._open = [handle for handle in handles if type(handle) is int]
        reading: list[Command] = []
        for handle in self._open:
            reading.append(("guest-file-read", {"handle": handle, "count": _READ_BYTES}))
            reading.append(("guest-file-close", {"handle": handle}))
        answers = await agent.ask(*reading) if reading else []
        self._open = [handle for handle, closed in zip(self._open, answers[1::2], strict=True) if isinstance(closed, RefusedByAgent)]
        return "\n".join(_decoded(answer.get("buf-b64")) for answer in answers[::2] if isinstance(answer, Mapping))


# --- answers: whatever a guest sends, these functions do not raise, and results are bounded -----------------------------------------


def _decoded(encoded: Json) -> str:
    if not isinstance(encoded, str) or len(encoded) > 8 * _READ_BYTES:
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode("ascii", "replace")
    except ValueError:
        return ""


def _short(text: Json) -> str:
    return printable(text, _LONGEST_TEXT) if isinstance(text, str) else ""


def _system(value: Json | RefusedByAgent) -> dict[str, Value]:
    if not isinstance(value, Mapping):
        return {}
    return {"guest_os": _short(value.get("pretty-name")) or None, "guest_kernel": _short(value.get("kernel-release")) or None}
