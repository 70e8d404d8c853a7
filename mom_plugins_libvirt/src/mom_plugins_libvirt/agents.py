"""Agent channels of guests, and commands for qemu-guest-agent, which libvirt passes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from xml.etree import ElementTree

from mom_core import Entity, HypervisorError
from mom_plugins_libvirt.api import Domain, qemu_binding
from mom_plugins_libvirt.changes import OrderedDomain
from mom_plugins_libvirt.spare_connections import SpareConnections

_LIBVIRTS_OWN = "org.qemu.guest_agent.0"
"""Channel to whose socket libvirt itself is connected: QEMU serves one client at a time."""

_LONGEST_SECONDS = 60
"""More patience is not asked of libvirtd."""

_SLACK_SECONDS = 1.0
"""How long after libvirtd's own timeout an answer may arrive before the connection is given up."""

_MOST_CHANNELS = 32
_LONGEST_TEXT = 256
"""A guest has a handful of channels. Further ones, and longer paths, lead to no agents."""


def channels_of(devices: ElementTree.Element | None) -> Mapping[str, str]:
    """Return the agent channels in a running guest's `<devices>`: name to the path of QEMU's listening unix socket.

    The path is empty where no other program can connect: the channel is libvirt's own, or QEMU is the client.
    """
    channels: dict[str, str] = {}
    for channel in [] if devices is None else devices.findall("channel"):
        target, source = channel.find("target"), channel.find("source")
        name = "" if target is None or target.get("type") != "virtio" else target.get("name", "")
        if channel.get("type") != "unix" or not 0 < len(name) <= _LONGEST_TEXT or len(channels) >= _MOST_CHANNELS:
            continue
        listens = source is not None and source.get("mode") == "bind" and name != _LIBVIRTS_OWN
        path = source.get("path", "") if source is not None and listens else ""
        channels[name] = path if len(path) <= _LONGEST_TEXT else ""
    return channels


class AgentCommands(SpareConnections):
    """Passes commands to agents. A busy or dead agent delays its call."""

    most = 8
    """Each holds one of libvirtd's threads while it waits; by default libvirtd has 20."""

    def command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Return the agent's answer to this JSON text, as JSON text. See `AgentAccess.agent_command`.

        libvirt counts whole seconds, and waits as long again while it synchronises with the agent: this takes at most twice the time, and a
        second.
        """
        doing = f"asking the agent of {guest}"
        seconds = min(_LONGEST_SECONDS, max(1, math.ceil(timeout_seconds)))
        qemu = qemu_binding(doing)

        def ask(domain: Domain) -> object:
            if isinstance(domain, OrderedDomain):
                return domain.ask_agent(command, seconds)
            return qemu.qemuAgentCommand(domain, command, seconds, 0)

        with self.borrowed(doing, seconds, 2 * seconds + _SLACK_SECONDS) as connection:
            answer: object = connection.call(doing, guest.id, ask)
        if not isinstance(answer, str):
            raise HypervisorError(f"{doing}: libvirt gave no answer")
        return answer
