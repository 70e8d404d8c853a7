"""Hypervisors' capability that the plugin uses, tested with `isinstance`. Calls come from several threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from mom_core import Entity


@runtime_checkable
class AgentAccess(Protocol):
    """Access to agents inside guests."""

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return paths of unix sockets, keyed by guest id and channel name (`org.qemu.guest_agent.0`).

        A path is empty if only the hypervisor can connect.
        """

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send JSON text to the guest's qemu-guest-agent, and return its JSON answer.

        Raises `GuestBusy` after the timeout, `NotSupported` without an agent, or another `HypervisorError`.
        """
