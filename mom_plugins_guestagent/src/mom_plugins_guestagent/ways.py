"""Ways to a guest's figures: addresses, and results of visits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mom_core import Value


class AgentKind(StrEnum):
    """Kind of way. Its value is that of the field `guest_agent`."""

    GUESTD_CHANNEL = "guestd-channel"
    GUESTD_TCP = "guestd-tcp"
    AGENT_SOCKET = "agent-socket"
    AGENT_HYPERVISOR = "agent-hypervisor"


OF_AGENTS = frozenset({AgentKind.AGENT_SOCKET, AgentKind.AGENT_HYPERVISOR})


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Address of an agent: the path of a unix socket, an (address, port) pair, or nothing for a way through the hypervisor."""

    kind: AgentKind
    address: str | tuple[str, int] = ""
    process: int = 0
    """Process that must own a path from the guest's description or command line; 0: an operator wrote the path."""


@dataclass(frozen=True, slots=True)
class VisitAnswer:
    """Result of one visit. `figures` and `facts` are None if they were not asked for, or the agent has none."""

    figures: Mapping[str, object] | None = None
    facts: Mapping[str, Value] | None = None
