"""The ways to one guest's figures: where to ask, and how."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from mom_core import Entity, Value
from mom_plugins_guestagent.guestd_client import GuestdClient
from mom_plugins_guestagent.qemu_agent import AgentBehindHypervisor, AgentVisits, Call, PassOn, RawAgent


class AgentKind(StrEnum):
    """Who is asked, over what. The value is what the field `guest_agent` says."""

    GUESTD_CHANNEL = "guestd-channel"
    GUESTD_TCP = "guestd-tcp"
    AGENT_SOCKET = "agent-socket"
    AGENT_HYPERVISOR = "agent-hypervisor"


OF_AGENTS = frozenset({AgentKind.AGENT_SOCKET, AgentKind.AGENT_HYPERVISOR})


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Where to ask: the path of a unix socket, an (address, port) pair, or nothing where the hypervisor finds the way."""

    kind: AgentKind
    address: str | tuple[str, int] = ""


@dataclass(frozen=True, slots=True)
class VisitAnswer:
    """What came of one visit. `figures` is None where they were not asked for, or the agent cannot give any; so is `facts`."""

    figures: Mapping[str, object] | None = None
    facts: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class VisitLimits:
    """`seconds` for one visit; whether the agent may be told to run `cat`; whether to ask for the guest's addresses."""

    seconds: float = 3.0
    allow_exec: bool = False
    addresses: bool = False


class Way(Protocol):
    """One way, with what was learnt on it."""

    async def visit(self, *, figures: bool, facts: bool) -> VisitAnswer:
        """Ask. Takes `Limits.seconds` at most, or `TimeoutError`; raises `NoAnswer` and `Misbehaves`."""
        ...


_FACTS_OF_GUESTD = {"guestd": "guest_agent_version", "os": "guest_os", "kernel": "guest_kernel"}


class GuestdWay:
    """To mom-guestd, or to MOM's."""

    def __init__(self, place: AgentAddress, limits: VisitLimits) -> None:
        self._client = GuestdClient(place.address, limits.seconds)
        self._seconds = limits.seconds

    async def visit(self, *, figures: bool, facts: bool) -> VisitAnswer:
        """Asks for figures in any case."""
        async with asyncio.timeout(self._seconds):
            said, properties = await self._client.read(facts=facts)
        known: dict[str, Value] | None = None
        if properties is not None:
            known = {ours: properties[name] for name, ours in _FACTS_OF_GUESTD.items() if properties.get(name)}
            vcpus = properties.get("vcpus", "")
            if vcpus.isascii() and vcpus.isdigit() and len(vcpus) < 6:
                known["guest_vcpus_online"] = int(vcpus)
        return VisitAnswer(said, known)


@dataclass(slots=True)
class AgentWay:
    """To qemu-guest-agent, over a socket of our own or through the hypervisor."""

    place: AgentAddress
    limits: VisitLimits
    guest: Entity
    call: Call
    pass_on: PassOn | None = None
    visits: AgentVisits = field(init=False)

    def __post_init__(self) -> None:
        self.visits = AgentVisits(allow_exec=self.limits.allow_exec, addresses=self.limits.addresses)

    async def visit(self, *, figures: bool, facts: bool) -> VisitAnswer:
        """Asks for what is wanted, one after the other."""
        seconds = self.limits.seconds
        if self.place.kind is AgentKind.AGENT_SOCKET:
            async with asyncio.timeout(seconds), RawAgent.wire(str(self.place.address)) as wire:
                raw = RawAgent(wire)
                await raw.synchronise()
                return await self._ask(raw, figures=figures, facts=facts)
        assert self.pass_on is not None  # noqa: S101  # where the hypervisor is the way, there is one
        # No time limit around it: a call that is under way cannot be taken back, and each has a limit of its own.
        end = time.monotonic() + seconds
        behind = AgentBehindHypervisor(self.call, self.pass_on, self.guest, seconds / 3, end)
        return await self._ask(behind, figures=figures, facts=facts)

    async def _ask(self, agent: RawAgent | AgentBehindHypervisor, *, figures: bool, facts: bool) -> VisitAnswer:
        known = await self.visits.facts(agent) if facts else None
        return VisitAnswer((await self.visits.figures(agent) or None) if figures else None, known)
