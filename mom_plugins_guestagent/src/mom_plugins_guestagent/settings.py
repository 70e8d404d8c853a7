"""Settings of the guestagent plugin."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import Duration, GuestSettings, PluginSettings
from mom_plugins_guestagent.ways import AgentKind, parse_address

_STALE_PERIODS: Final = 3
_STALE_LONG_PERIODS: Final = 2
"""Numbers of periods, and of long periods, after which statistics are stale."""


def _addresses(text: str) -> str:
    parse_address(text)
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


_Path = Annotated[str, AfterValidator(_absolute)]


class AgentSettings(PluginSettings):
    """Which agents to query, how often, and the timeouts."""

    period: Annotated[Duration, Field(ge=1, le=3600)] = 10.0
    """Time between two queries of each guest, in the background; up to 2m after failures."""
    hypervisor_period: Annotated[Duration, Field(ge=1, le=3600)] = 60.0
    """Replaces `period` for queries through the hypervisor to guests with balloon statistics: a query takes a dozen commands."""
    stale_after: Annotated[Duration, Field(gt=0)] | None = None
    """Age at which statistics become unknown. Unset: the timeout plus 3 times `period`, or twice `hypervisor_period` if that applies."""
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = 3.0
    """Timeout of one query."""
    facts_period: Annotated[Duration, Field(ge=10, le=86400)] = 300.0
    """Time between two reads of facts that rarely change: versions, and the agent's commands."""
    guestd: bool = True
    """Query mom-guestd if a guest has its channel or a `guestd_address`."""
    qemu_agent: bool = True
    """Query qemu-guest-agent if a guest has a channel for it."""
    guestd_channel: str = "org.mom.guestd.0"
    """Name of mom-guestd's channel in the guest's description."""
    agent_channels: list[str] = Field(default_factory=lambda: ["org.qemu.guest_agent.1"])
    """Names of channels with a qemu-guest-agent that only mom uses. mom connects to the channel's socket, not through libvirt."""

    tell_short: bool = False
    """Tell mom-guestd when the host is short of memory. If the guest's owner allows it, the guest then reports smaller pieces of free
    memory, and drops page cache that was unused for a long time."""

    def stale(self, by: AgentKind | None, *, by_hypervisor: bool) -> float:
        """Return the age in seconds at which statistics become stale.

        :param by: how mom got the statistics
        :param by_hypervisor: whether the hypervisor has fresh balloon statistics of the guest
        """
        if self.stale_after is not None:
            return self.stale_after
        if by_hypervisor and by is AgentKind.AGENT_HYPERVISOR:
            return _STALE_LONG_PERIODS * max(self.period, self.hypervisor_period) + self.timeout
        return _STALE_PERIODS * self.period + self.timeout


class AgentGuestSettings(GuestSettings):
    """Whether to ask a guest's agent, and at which address or socket."""

    ask_agent: bool = True
    """Query this guest's agent."""
    guestd_address: Annotated[str, AfterValidator(_addresses)] | None = None
    """Numeric address of the guest's mom-guestd, with or without a port: `10.0.0.7`, `[fd00::7]:2187`."""
    guestd_socket: _Path | None = None
    """Unix socket of the guest's mom-guestd channel, if the hypervisor does not report it."""
    agent_socket: _Path | None = None
    """Unix socket of a qemu-guest-agent that no other program uses, if the hypervisor does not report it."""
