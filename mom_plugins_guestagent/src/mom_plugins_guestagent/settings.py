"""Settings of the guestagent plugin."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from mom_core import Duration, GuestSettings, PluginSettings
from mom_plugins_guestagent.ways import parse_address


def _addresses(text: str) -> str:
    parse_address(text)
    return text


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


_Path = Annotated[str, AfterValidator(_absolute)]


class AgentSettings(PluginSettings):
    """Which agents to query, and how often."""

    period: Annotated[Duration, Field(ge=1, le=60)] = 10.0
    """Time between two queries of each guest, in the background; up to 2m after failures."""
    qemu_agent: bool = True
    """Query qemu-guest-agent if a guest has a channel for it. Queries through libvirt mark the guest as tainted."""
    tell_short: bool = False
    """Tell mom-guestd when the host is short of memory. If the guest's owner allows it, the guest then reports smaller pieces of free
    memory, and drops page cache that was unused for a long time."""


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
