"""Ways to reach agents, their addresses, and results of queries."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from mom_core import Value
from mom_plugins_guestagent.guestd import PORT


class AgentKind(StrEnum):
    """How mom reaches an agent. Values of the field `guest_agent`."""

    GUESTD_CHANNEL = "guestd-channel"
    GUESTD_TCP = "guestd-tcp"
    AGENT_SOCKET = "agent-socket"
    AGENT_HYPERVISOR = "agent-hypervisor"


OF_AGENTS = frozenset({AgentKind.AGENT_SOCKET, AgentKind.AGENT_HYPERVISOR})


@dataclass(frozen=True, slots=True)
class AgentAddress:
    """Address of an agent: unix socket, or (address, port); empty if mom reaches the agent through the hypervisor."""

    kind: AgentKind
    address: str | tuple[str, int] = ""
    process: int = 0
    """PID of the process that must own the socket, for a path from the guest's description; 0 for a path that an operator has set."""


_FACTS_EVERY: Final = 10
"""Facts rarely change. Each tenth query reads them again."""


class Way(ABC):
    """Way to query one guest's agent, with the outcome of earlier queries."""

    def __init__(self, place: AgentAddress, seconds: float) -> None:
        self.place = place
        self.failures = 0
        """Number of failures since the last answer."""
        self.not_before = 0.0
        self.answered_at: float | None = None
        """Time of the last answer by the loop's clock; None while the way fails."""
        self.answers = 0
        """Number of answers since the last failure."""
        self.facts: Mapping[str, Value] = {}
        """Versions of the agent, its system and its kernel, if known."""
        self.why = ""
        self.disabled: tuple[str, ...] = ()
        """Commands that the agent lacks or may not run."""
        self._seconds = seconds

    @property
    def wants_facts(self) -> bool:
        """Whether the next query also reads facts."""
        return self.answers % _FACTS_EVERY == 0

    @abstractmethod
    async def visit(self) -> Mapping[str, object]:
        """Return the guest's statistics, and update `facts` if wanted. Raise `NoAnswer`, `Misbehaves`, or `TimeoutError`."""


_WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:]+))(?::([0-9]{0,5}))?")


def parse_address(text: str) -> tuple[str, int]:
    """Return address and port of `10.0.0.7`, `10.0.0.7:2187`, `fe80::7` or `[fe80::7]:2187`. Raise `ValueError` if invalid.

    Host names are refused: a lookup may wait for an absent network.
    """
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1] or match[2], int(match[3] or PORT)) if match else (text, PORT)
    try:
        if "%" in host:
            raise ValueError("an interface's name would have to be looked up")
        address = str(ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r:.60} is not a numeric address; write it like 10.0.0.7, 10.0.0.7:{PORT} or [fd00::7]:{PORT}") from None
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is not a valid port")
    return address, port
