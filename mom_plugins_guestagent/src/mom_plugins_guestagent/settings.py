"""Settings of agents in YAML."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import Duration, GuestSettings, PluginSettings
from mom_plugins_guestagent.addresses import parse_address
from mom_plugins_guestagent.ways import AgentKind

_STALE_PERIODS: Final = 3
_STALE_LONG_PERIODS: Final = 2
"""Periods, and long periods through the hypervisor, after which figures are stale. One visit may fail without harm."""


def _addresses(text: str) -> str:
    parse_address(text)
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


_Path = Annotated[str, AfterValidator(_absolute)]


class AgentSettings(PluginSettings):
    """Whom to ask, how often, and how patiently."""

    period: Annotated[Duration, Field(ge=1, le=3600)] = 10.0
    """How often each guest is asked, in the background. A guest that does not answer is asked less often, every 2m at least."""
    hypervisor_period: Annotated[Duration, Field(ge=1, le=3600)] = 60.0
    """The same for guests that are asked through the hypervisor and report by their balloon too: each visit is a dozen commands."""
    stale_after: Annotated[Duration, Field(gt=0)] | None = None
    """From which age on figures count as unknown. Unset: three periods, or two of `hypervisor_period`, and one timeout."""
    timeout: Annotated[Duration, Field(ge=0.1, le=60)] = 3.0
    """How long one guest may take to answer everything."""
    facts_period: Annotated[Duration, Field(ge=10, le=86400)] = 300.0
    """How often to read what changes rarely: versions, and what the agent can."""
    guestd: bool = True
    """Ask mom-guestd, where a guest has its channel or a `guestd_address`."""
    qemu_agent: bool = True
    """Ask qemu-guest-agent, where a guest has a channel for it."""
    guestd_channel: str = "org.mom.guestd.0"
    """The name of mom-guestd's channel in the guest's description."""
    agent_channels: list[str] = Field(default_factory=lambda: ["org.qemu.guest_agent.1"])
    """Names of channels on which a qemu-guest-agent listens that is mom's alone: its socket is used, not libvirt."""

    tell_short: bool = False
    """While the host is short of memory, say so to mom-guestd. Where the guest's owner lets it, it reports smaller pieces of free memory
    then, and drops page cache that was not used for long."""

    def stale(self, by: AgentKind | None, *, by_hypervisor: bool) -> float:
        """Return the age in seconds from which on figures of this way are stale.

        :param by_hypervisor: the hypervisor has fresh statistics of the guest
        """
        if self.stale_after is not None:
            return self.stale_after
        if by_hypervisor and by is AgentKind.AGENT_HYPERVISOR:
            return _STALE_LONG_PERIODS * max(self.period, self.hypervisor_period) + self.timeout
        return _STALE_PERIODS * self.period + self.timeout


class AgentGuestSettings(GuestSettings):
    """Where to ask single guests, and whether."""

    ask_agent: bool = True
    """Ask this guest at all."""
    guestd_address: Annotated[str, AfterValidator(_addresses)] | None = None
    """The numeric address, with or without a port, at which the guest's mom-guestd listens: `10.0.0.7`, `[fd00::7]:2187`."""
    guestd_socket: _Path | None = None
    """The unix socket of the guest's mom-guestd channel, where the hypervisor cannot tell."""
    agent_socket: _Path | None = None
    """The unix socket of a qemu-guest-agent that no other program uses, where the hypervisor cannot tell."""
