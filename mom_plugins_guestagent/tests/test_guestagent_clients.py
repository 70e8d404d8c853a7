"""Requests to agents over real sockets: correct, slow and hostile ones."""

import asyncio
import json
import os
import socket
import subprocess
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

import pytest
from agent_servers import LOADAVG, MEMINFO, PRESSURE, VMSTAT, QemuAgent, Servers, Speak, dripping, saying, silent, without_end

from mom_core import Entity, GuestBusy, HypervisorError, NotSupported, Scope, Value
from mom_plugins_guestagent.clients import AgentWay, GuestdWay, Misbehaves, NoAnswer, Wire
from mom_plugins_guestagent.fields import judge
from mom_plugins_guestagent.guestd import figures
from mom_plugins_guestagent.ways import AgentAddress, AgentKind, Way, parse_address

T = TypeVar("T")

GUEST = Entity(Scope.GUEST, "uuid", "guest")
STRANGER = 65533
"""ID of a user who is neither mom nor QEMU."""
LONG_SECONDS = 60.0
"""Longer than any call here that does not hang, also on a busy machine."""

ALL = figures(MEMINFO + VMSTAT + PRESSURE + LOADAVG)


def run(made: Awaitable[T], seconds: float = 2 * LONG_SECONDS) -> T:
    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await made

    return asyncio.run(limited())


@pytest.fixture
def way(socket_of_agent: str) -> AgentWay:
    """Return the way to `agent`."""
    return agent_way(socket_of_agent)


def agent_way(path: str, seconds: float = LONG_SECONDS) -> AgentWay:
    return AgentWay(AgentAddress(AgentKind.AGENT_SOCKET, path), seconds, GUEST, lambda function: asyncio.Future(), lambda *_: "")


def guestd_way(address: str | tuple[str, int], seconds: float = LONG_SECONDS) -> GuestdWay:
    kind = AgentKind.GUESTD_CHANNEL if isinstance(address, str) else AgentKind.GUESTD_TCP
    return GuestdWay(AgentAddress(kind, address), seconds)


class VisitAnswer(NamedTuple):
    """Statistics and facts after a visit."""

    figures: Mapping[str, object]
    facts: Mapping[str, Value]


def visit(way: Way) -> VisitAnswer:
    return VisitAnswer(run(way.visit()), way.facts)


# --- qemu-guest-agent over its socket ----------------------------------------------------------------------------------------------


def test_an_agents_figures_and_facts_are_read(agent: QemuAgent, way: AgentWay) -> None:
    said = visit(way)
    assert said.figures == ALL
    assert said.facts == {"guest_agent_version": "7.2.1", "guest_os": "Debian GNU/Linux 12", "guest_kernel": "6.1.0"}
    assert agent.open == {}, "no file is left open in the guest"


def test_a_missing_file_leaves_the_others(agent: QemuAgent, way: AgentWay) -> None:
    agent.files = {"/proc/meminfo": MEMINFO, "/proc/vmstat": VMSTAT}
    assert visit(way).figures == figures(MEMINFO + VMSTAT)


def test_disabled_commands_are_tolerated_and_remembered(agent: QemuAgent, way: AgentWay) -> None:
    agent.disabled = {"guest-file-open"}
    said = visit(way)
    assert said.figures == {}
    assert said.facts == {"guest_agent_version": "7.2.1", "guest_os": "Debian GNU/Linux 12", "guest_kernel": "6.1.0"}
    assert way.disabled == ("guest-file-open",)
    visit(way)
    assert "guest-file-open" not in agent.asked


def test_a_file_that_was_opened_too_late_for_a_visit_is_closed_by_the_next(servers: Servers) -> None:
    class Late(QemuAgent):
        def answer(self, line: bytes) -> bytes:
            said = super().answer(line)
            if b"guest-file-open" in line and self.visits == 1:
                self.stale += said  # QEMU keeps it for the next client
                raise ConnectionError
            return said

    agent = Late()
    way = agent_way(servers.unix(agent.speak))
    with pytest.raises(NoAnswer):
        visit(way)
    assert len(agent.open) == 1
    assert visit(way).figures == ALL
    assert agent.open == {}


def test_a_guest_cannot_have_more_files_closed_than_visits_leave_open(agent: QemuAgent, way: AgentWay) -> None:
    agent.stale = b'{"return": 7}\n' * 500
    assert visit(way).figures == ALL
    assert agent.asked.count("guest-file-close") == 16 + 4


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close the connection at once."""


HOSTILE: dict[str, Speak] = {
    "says nothing": silent,
    "talks without end": without_end(b"x" * 65536),
    "answers what was not asked": without_end(b'\xff{"return": 5}\n'),
    "drips": dripping(b'\xff{"return": 5}\n'),
    "opens brackets": saying(b'\xff{"return": ' + b"[" * 100_000 + b"\n"),
    "sends a number of a megabyte": saying(b'\xff{"return": ' + b"9" * 1_000_000 + b"}\n"),
    "hangs up": hanging_up,
}


WAYS: dict[str, Callable[[Servers, Speak], Way]] = {
    "agent": lambda servers, speak: agent_way(servers.unix(speak), 0.4),
    "guestd": lambda servers, speak: guestd_way(servers.unix(speak), 0.4),
    "guestd over TCP": lambda servers, speak: guestd_way(servers.tcp(speak), 0.4),
}


@pytest.mark.long
@pytest.mark.parametrize("asked", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_guest_costs_little_and_gives_nothing(servers: Servers, name: str, asked: Callable[[Servers, Speak], Way]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((NoAnswer, Misbehaves, TimeoutError)):
            visit(asked(servers, HOSTILE[name]))
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


class Hostile(QemuAgent):
    """Agent that synchronises correctly, and answers one command with a test's bytes."""

    def __init__(self, command: str, answer: bytes) -> None:
        super().__init__()
        self._command = command
        self._answer = answer

    def answer(self, line: bytes) -> bytes:
        honest = super().answer(line)
        return self._answer if f'"{self._command}"'.encode() in line else honest


@pytest.mark.parametrize("command", ["guest-info", "guest-get-osinfo", "guest-file-open", "guest-file-read"])
@pytest.mark.parametrize(
    "answer",
    [
        b"\n", b"{}\n", b'{"return": NaN}\n', b'{"return": [[], 5, {"mountpoint": {}}]}\n', b'{"return": {"buf-b64": "%%%"}}\n',
        b'{"return": {"buf-b64": 7, "supported_commands": "x"}}\n', b'{"error": {"desc": {"a": "\\u0000"}}}\n',
        b'{"return": {}}\n{"return": {}}\n', b'{"return": 1e999}\n', b"\xff\xff\n", b'{"error": 5}\n',
        b'{"return": {"supported_commands": [{"name": [], "enabled": true}, null], "version": 5}}\n',
        json.dumps({"return": {"supported_commands": [], "pretty-name": "x" * 300}}).encode() + b"\n",
    ],
)  # fmt: skip
def test_nonsense_in_any_answer_is_contained(servers: Servers, command: str, answer: bytes) -> None:
    way = agent_way(servers.unix(Hostile(command, answer).speak), 2.0)
    try:
        said = visit(way)
    except (NoAnswer, Misbehaves, TimeoutError):
        return
    judge(said.figures, 1.0)
    assert all(isinstance(text, str) and len(text) <= 120 and text.isprintable() for text in said.facts.values())


# --- through the hypervisor --------------------------------------------------------------------------------------------------------


def way_through(answer: Callable[[str], str], seconds: float = LONG_SECONDS) -> AgentWay:
    def call(function: Callable[[], list[Any]]) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001  # as the threads do
            future.set_exception(error)
        return future

    place = AgentAddress(AgentKind.AGENT_HYPERVISOR)
    return AgentWay(place, seconds, GUEST, call, lambda guest, command, seconds: answer(command))


def visit_through(answer: Callable[[str], str], seconds: float = LONG_SECONDS) -> VisitAnswer:
    return visit(way_through(answer, seconds))


@pytest.mark.parametrize("error", [GuestBusy("busy"), NotSupported("no agent"), HypervisorError("away")])
def test_an_agent_that_is_not_there_gives_no_answer(error: HypervisorError) -> None:
    def fail(command: str) -> str:
        raise error

    with pytest.raises(NoAnswer):
        visit_through(fail)


@pytest.mark.parametrize("command", ["guest-file-open", "guest-file-read", "guest-file-close"])
def test_a_visit_through_the_hypervisor_that_is_cut_off_leaves_no_file_open_for_good(command: str) -> None:
    agent, asked = QemuAgent(), []

    def answer(text: str) -> str:
        asked.append(text)
        if sum(f'"{command}"' in one for one in asked) == 3 and f'"{command}"' in text:
            raise GuestBusy("no answer in time")
        return agent.answer(text.encode()).decode()

    way = way_through(answer)
    with pytest.raises(NoAnswer):
        visit(way)
    assert len(agent.open) == 2
    assert visit(way).figures == ALL
    assert agent.open == {}


def test_nothing_is_begun_after_the_time_is_up() -> None:
    with pytest.raises(NoAnswer):
        visit_through(lambda command: pytest.fail("it is asked all the same"), seconds=0.0)


# --- mom-guestd --------------------------------------------------------------------------------------------------------------------


def test_a_list_of_names_without_end_is_no_answer(servers: Servers) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        token = (await reader.readline()).split()[1]
        writer.write(b"begin:" + token + b"\n" + b"a:1\n" * 300 + b"end:" + token + b"\n")
        await silent(reader, writer)

    with pytest.raises(Misbehaves):
        visit(guestd_way(servers.unix(speak)))


def test_nobody_at_all_is_no_answer(tmp_path: Path) -> None:
    for address in (str(tmp_path / "nothing"), "x" * 200, "a\0b", ("127.0.0.1", 1)):
        with pytest.raises(NoAnswer):
            visit(guestd_way(address, 2))
    with pytest.raises(NoAnswer):
        visit(agent_way(str(tmp_path / "nothing")))


# --- addresses ---------------------------------------------------------------------------------------------------------------------


def test_addresses_are_numeric_with_or_without_a_port() -> None:
    assert parse_address("10.0.0.7") == ("10.0.0.7", 2187)
    assert parse_address("10.0.0.7:") == ("10.0.0.7", 2187)
    assert parse_address("10.0.0.7:99") == ("10.0.0.7", 99)
    assert parse_address("fe80::7") == ("fe80::7", 2187)
    assert parse_address("[fe80::7]") == ("fe80::7", 2187)
    assert parse_address("[fe80::7]:99") == ("fe80::7", 99)


@pytest.mark.parametrize("text", ["", "guest", "10.0.0.7:0x1", "10.0.0.7:70000", "[::1", "[::1]x", "fe80::1%eth0"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        parse_address(text)


# --- a socket for QEMU's user and root only -------------------------------------------------------------------------------


def test_helper_connects_to_a_socket_that_mom_may_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"hello\n")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr("mom_plugins_guestagent.clients.Helper.reached", object)
    monkeypatch.setattr("mom_plugins_guestagent.clients.Address", lambda path: SimpleNamespace(connect=lambda: ours))

    async def first_line() -> bytes:
        async with Wire("/run/guest", most_line=100, most_bytes=1000) as wire:
            return await wire.line()

    with theirs:
        assert run(first_line()) == b"hello"


@pytest.mark.skipif(os.geteuid() != 0, reason="sockets of several users are needed")
@pytest.mark.processes
def test_a_guests_own_word_leads_to_no_socket_of_another_user(servers: Servers, tmp_path: Path) -> None:
    """A guest that has escaped could write another program's socket into its command line, and mom may have more rights."""
    path = servers.unix(saying(b""))
    link = tmp_path / "link"
    link.symlink_to(path)
    with subprocess.Popen(["sleep", "600"], user=STRANGER, group=STRANGER, extra_groups=[]) as guest:
        try:
            for where in (path, str(link)):
                with pytest.raises(NoAnswer):
                    run(connected(where, guest.pid))
            os.chown(path, STRANGER, STRANGER)
            run(connected(path, guest.pid))  # like libvirt's for its guest
            os.chown(path, 0, 0)
            run(connected(path, os.getpid()))
            run(connected(str(link), 0))  # as an operator configures it
        finally:
            guest.kill()


async def connected(path: str, process: int) -> None:
    async with Wire(path, most_line=1, most_bytes=1, process=process):
        pass
