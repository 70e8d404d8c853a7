"""Addresses of agents, and results of queries."""

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
    """Path of a unix socket, or (address, port); neither through the hypervisor."""

    kind: AgentKind
    address: str | tuple[str, int] = ""
    process: int = 0
    """Owner of a path from the guest's description; 0 for an operator's path."""


@dataclass(frozen=True, slots=True)
class VisitAnswer:
    """Result of a query. None if not requested or not available."""

    figures: Mapping[str, object] | None = None
    facts: Mapping[str, Value] | None = None
