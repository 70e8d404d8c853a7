"""Addresses of agents, and results of visits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mom_core import Value


class AgentKind(StrEnum):
    """Kind of way, and value of the field `guest_agent`."""

    GUESTD_CHANNEL = "guestd-channel"
    GUESTD_TCP = "guestd-tcp"
    AGENT_SOCKET = "agent-socket"
    AGENT_HYPERVISOR = "agent-hypervisor"


OF_AGENTS = frozenset({AgentKind.AGENT_SOCKET, AgentKind.AGENT_HYPERVISOR})


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Path of a unix socket, (address, port), or nothing through the hypervisor."""

    kind: AgentKind
    address: str | tuple[str, int] = ""
    process: int = 0
    """Must own a path from the guest's description; 0: an operator's path."""


@dataclass(frozen=True, slots=True)
class VisitAnswer:
    """Result of a visit. None: not requested or not available."""

    figures: Mapping[str, object] | None = None
    facts: Mapping[str, Value] | None = None
