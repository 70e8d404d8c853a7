"""The ways to one guest's figures: where to ask, and what comes of a visit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mom_core import Value


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
    process: int = 0
    """The guest's process, where the path is by the guest's own description or command line; 0: an operator has written it."""


@dataclass(frozen=True, slots=True)
class VisitAnswer:
    """The result of one visit. `figures` is None where they were not asked for, or the agent cannot give any; so is `facts`."""

    figures: Mapping[str, object] | None = None
    facts: Mapping[str, Value] | None = None
