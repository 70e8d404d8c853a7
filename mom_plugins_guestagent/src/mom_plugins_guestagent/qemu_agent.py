"""Asks qemu-guest-agent for what /proc says inside the guest, and for what kind of guest it is.

Two ways lead to an agent: a socket of one's own (`RawAgent`), and the hypervisor (`AgentBehindHypervisor`). What is asked, and what is made
of the answers, is the same for both. The protocol: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Value, printable
from mom_plugins_guestagent.guestd import FILES
from mom_plugins_guestagent.guestd import figures as figures_in
from mom_plugins_guestagent.ways import AgentAddress, AgentKind, VisitAnswer
from mom_plugins_guestagent.wire import Misbehaves, NoAnswer, RefusedByAgent, Wire

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
Command: TypeAlias = "tuple[str, Mapping[str, Json]]"

PassOn: TypeAlias = "Callable[[Entity, str, float], str]"
"""`AgentAccess.agent_command`."""

Answers: TypeAlias = "list[Json | RefusedByAgent]"

Call: TypeAlias = "Callable[[Callable[[], Answers]], asyncio.Future[Answers]]"
"""Makes a call that blocks in a thread of its own."""

MOST_ANSWER_BYTES = 256 << 10
"""Of one answer. The largest real ones are the commands that an agent knows: a few KiB."""

_MOST_BYTES = 1 << 20
"""Of all answers of one visit."""

_SENTINEL = b"\xff"
"""Where the stream begins anew: no text has this byte."""

_MOST_STALE_LINES = 1000
"""So much a channel may still hold when it is taken over."""

_MOST_LEFT_OPEN = 16
"""So many files are closed that earlier visits left open: each leaves a few, and a guest may claim any number."""
_LARGEST_HANDLE = (1 << 63) - 1

_READ_BYTES = 16 << 10
"""/proc/vmstat, the longest of the files, has some 6 KiB."""

_LONGEST_TEXT = 120
_MOST_COMMANDS = 1000

FILE_COMMANDS = ("guest-file-open", "guest-file-read", "guest-file-close")
SYSTEM_COMMAND = "guest-get-osinfo"
LOAD_COMMAND, LOADS_FILE = "guest-get-load", "loadavg"
"""One command instead of the three that a file takes, where the agent knows it."""


class RawAgent:
    """An agent at the other end of a socket that is ours alone for this visit; raises `NoAnswer` and `Misbehaves`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.left: list[int] = []
        """Numbers among the answers that came too late: files that were opened for nobody. The agent refuses what is none."""

    @staticmethod
    def wire(place: AgentAddress) -> Wire:
        """A wire with the limits that answers of agents need."""
        return Wire(place.address, most_line=MOST_ANSWER_BYTES, most_bytes=_MOST_BYTES, process=place.process)

    async def synchronise(self) -> None:
        """Leave behind whatever the channel still holds: half a command of ours, answers to what another program has asked."""
        number = secrets.randbits(40)
        # The sentinel makes the agent forget half a command that came before.
        await self._wire.send(_SENTINEL + _text(("guest-sync-delimited", {"id": number})).encode())
        for _ in range(_MOST_STALE_LINES):
            _, sentinel, answer = (await self._wire.line()).rpartition(_SENTINEL)
            with suppress(RefusedByAgent, Misbehaves):  # not for us
                said = _returned(answer)
                if sentinel and said == number:
                    return
                if type(said) is int and 0 <= said <= _LARGEST_HANDLE and not sentinel:
                    self.left.append(said)
        raise Misbehaves("it does not synchronise")

    async def ask(self, *commands: Command, answers: Answers | None = None) -> Answers:
        """All commands at once; the agent answers one after the other.

        :param answers: filled as they come, so that those of a visit that is cut off are known
        """
        if self._wire.pending:
            raise Misbehaves("it answers what it was not asked")
        await self._wire.send("".join(map(_text, commands)).encode())
        found = [] if answers is None else answers
        for _ in commands:
            found.append(_answer(await self._wire.line()))  # what has come must be there when it is cut off
        return found


@dataclass(frozen=True, slots=True)
class AgentBehindHypervisor:
    """An agent to which the hypervisor passes commands.

    `call` makes a blocking call in a thread of its own; `pass_on` is `AgentAccess.agent_command`; `seconds` is how long to wait for each
    answer, and at `end`, on the monotonic clock, no further command is begun.
    """

    call: Call
    pass_on: PassOn
    guest: Entity
    seconds: float
    end: float

    async def ask(self, *commands: Command, answers: Answers | None = None) -> Answers:
        """One command after the other, each a call to the hypervisor; see `RawAgent.ask`."""
        found = [] if answers is None else answers

        def ask_all() -> Answers:
            for command in commands:
                found.append(self._ask(command))  # as above
            return found

        return await self.call(ask_all)

    def _ask(self, command: Command) -> Json | RefusedByAgent:
        """In a thread that may wait."""
        if time.monotonic() >= self.end:
            raise NoAnswer("it takes too long")
        try:
            answer = self.pass_on(self.guest, _text(command).rstrip("\n"), self.seconds)
        except (GuestBusy, GuestGone, NotSupported, PermissionDenied) as error:
            raise NoAnswer(str(error)) from error
        except HypervisorError as error:  # the agent refused, or the hypervisor is away: then nothing else succeeds either
            return RefusedByAgent(str(error))
        if len(answer) > MOST_ANSWER_BYTES:
            raise Misbehaves("it sends more than any answer can be")
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
    """The result in an answer. Raises `RefusedByAgent` when it is an error, and `Misbehaves` when it is no answer."""
    try:
        answer = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Misbehaves("its answer is no JSON") from error
    if isinstance(answer, dict) and "return" in answer:
        value: Json = answer["return"]
        return value
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise RefusedByAgent(printable(str(answer["error"].get("desc", "an error without a description")), _LONGEST_TEXT))
    raise Misbehaves("its answer is neither a result nor an error")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


# --- what is asked ---------------------------------------------------------------------------------------------------------------


class AgentWay:
    """To one guest's agent, over a socket of our own or through the hypervisor; remembers what the agent can, and what is not there.

    :param seconds: for one visit
    """

    def __init__(self, place: AgentAddress, seconds: float, guest: Entity, call: Call, pass_on: PassOn | None = None) -> None:
        self._place = place
        self._seconds = seconds
        self._guest = guest
        self._call = call
        self._pass_on = pass_on
        self._able: frozenset[str] | None = None
        self._version = ""
        self._missing: set[str] = set()
        self._refused: set[str] = set()
        """Files that the last visit could not open, though it could open others."""
        self._open: list[int] = []
        """Files in the guest that a visit left open, as it was cut off."""
        self.disabled: tuple[str, ...] = ()
        """Commands for reading figures that the agent has not, or has disabled."""

    async def visit(self, *, figures: bool, facts: bool) -> VisitAnswer:
        """Ask. Raises `NoAnswer`, `Misbehaves`, and `TimeoutError` when the time for one visit is up."""
        if self._place.kind is AgentKind.AGENT_SOCKET:
            async with asyncio.timeout(self._seconds), RawAgent.wire(self._place) as wire:
                raw = RawAgent(wire)
                await raw.synchronise()
                self._open = [*self._open, *raw.left][:_MOST_LEFT_OPEN]
                return await self.ask(raw, figures=figures, facts=facts)
        assert self._pass_on is not None  # noqa: S101  # where the hypervisor is the way, there is one
        # No time limit around it: a call that is under way cannot be taken back, and each has a limit of its own.
        behind = AgentBehindHypervisor(self._call, self._pass_on, self._guest, self._seconds / 3, time.monotonic() + self._seconds)
        return await self.ask(behind, figures=figures, facts=facts)

    async def ask(self, agent: RawAgent | AgentBehindHypervisor, *, figures: bool, facts: bool) -> VisitAnswer:
        """Ask for what is wanted, one after the other. Raises `NoAnswer` and `Misbehaves`."""
        known = await self._facts(agent) if facts else None
        return VisitAnswer((await self._figures(agent) or None) if figures else None, known)

    async def _facts(self, agent: RawAgent | AgentBehindHypervisor) -> dict[str, Value]:
        """Read what changes rarely, and what the agent can."""
        (info,) = await agent.ask(("guest-info", {}))
        if isinstance(info, RefusedByAgent):
            raise NoAnswer(f"the agent does not say what it can: {info.message}")
        self._learn(info)
        found: dict[str, Value] = {"guest_agent_version": self._version or None}
        if self._can(SYSTEM_COMMAND):
            (system,) = await agent.ask((SYSTEM_COMMAND, {}))
            found.update(_system(system))
        return {name: value for name, value in found.items() if value is not None}

    async def _figures(self, agent: RawAgent | AgentBehindHypervisor) -> Mapping[str, object]:
        """How memory is now; empty when the agent must not read files."""
        found: dict[str, object] = dict(figures_in(await self._files(agent) if self._can(*FILE_COMMANDS) else ""))
        if "load_1" not in found and self._can(LOAD_COMMAND):
            (load,) = await agent.ask((LOAD_COMMAND, {}))
            if isinstance(load, Mapping):
                found.update({f"load_{minutes}": load.get(f"load{minutes}m") for minutes in (1, 5, 15)})
        return found

    def _can(self, *names: str) -> bool:
        return self._able is None or all(name in self._able for name in names)

    def _learn(self, info: Json) -> None:
        commands = info.get("supported_commands") if isinstance(info, Mapping) else None
        if not isinstance(info, Mapping) or not isinstance(commands, Sequence) or isinstance(commands, str):
            raise Misbehaves("it does not say what it can")
        named = ((one.get("name"), one.get("enabled")) for one in commands[:_MOST_COMMANDS] if isinstance(one, Mapping))
        self._able = frozenset(name for name, enabled in named if isinstance(name, str) and enabled is True)
        self._version = _short(info.get("version"))
        self._missing.clear()
        self.disabled = tuple(name for name in FILE_COMMANDS if name not in self._able)

    async def _files(self, agent: RawAgent | AgentBehindHypervisor) -> str:
        """The files one after the other; what cannot be opened twice in a row is not tried again before the next facts."""
        if self._open:
            await agent.ask(*(("guest-file-close", {"handle": handle}) for handle in self._open))
            self._open = []
        spared = {LOADS_FILE} if self._able is not None and LOAD_COMMAND in self._able else frozenset()
        names = [name for name in FILES if name not in self._missing | spared]
        handles: Answers = []
        try:
            await agent.ask(*(("guest-file-open", {"path": f"/proc/{name}", "mode": "r"}) for name in names), answers=handles)
        finally:
            self._open = [handle for handle in handles if type(handle) is int]
        if self._open:
            # Once may have been a bad moment: libvirt may say the same where it has waited in vain for an agent under load.
            refused = {name for name, handle in zip(names, handles, strict=True) if type(handle) is not int}
            self._missing |= refused & self._refused
            self._refused = refused
        reading: list[Command] = []
        for handle in self._open:
            reading.append(("guest-file-read", {"handle": handle, "count": _READ_BYTES}))
            reading.append(("guest-file-close", {"handle": handle}))
        answers = await agent.ask(*reading) if reading else []
        self._open = [handle for handle, closed in zip(self._open, answers[1::2], strict=True) if isinstance(closed, RefusedByAgent)]
        return "\n".join(_decoded(answer.get("buf-b64")) for answer in answers[::2] if isinstance(answer, Mapping))


# --- what is made of the answers: whatever a guest says, these do not raise, and what they give is bounded -------------------------


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
