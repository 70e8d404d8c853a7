"""Commands to qemu-guest-agent through libvirt, channels to agents, and extra connections for long calls.

A long call would block the main connection.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from xml.etree import ElementTree

from mom_core import Entity, GuestBusy, HypervisorError
from mom_kvm import CallPatience
from mom_plugins_libvirt.api import Domain, qemu_binding
from mom_plugins_libvirt.changes import OrderedDomain
from mom_plugins_libvirt.connection import Connection

_LIBVIRTS_OWN = "org.qemu.guest_agent.0"
"""mom cannot use libvirt's own channel, because QEMU serves only one client per channel."""

_LONGEST_SECONDS = 60
"""Longest timeout that mom requests from libvirtd for an agent command."""

_SLACK_SECONDS = 1.0
"""How long mom waits for the answer after libvirtd's own timeouts."""

_MOST_CHANNELS = 32
_LONGEST_TEXT = 256


def channels_of(devices: ElementTree.Element | None) -> Mapping[str, str]:
    """Return the paths of QEMU's unix sockets, keyed by agent channel. A path is empty if only libvirt can connect."""
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


class SpareConnections:
    """Pool of extra connections with the main connection's settings, opened on demand."""

    most: int
    """Maximum number of concurrent calls."""

    def __init__(self, main: Connection) -> None:
        self._main = main
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False

    @contextmanager
    def borrowed(self, doing: str, patience: float, call_timeout: float) -> Iterator[Connection]:
        """Lend a connection for one call.

        Raise `GuestBusy` if none is free within `patience` seconds, `HypervisorError` if all are closed.
        """
        connection = self._free(doing, patience)
        connection.settings = replace(self._main.settings, call_timeout=call_timeout)
        try:
            yield connection
        finally:
            with self._changed:
                self._idle.append(connection)
                self._changed.notify()

    def close(self) -> Sequence[threading.Thread]:
        """Close the connections in threads. Return the threads, which end within a fifth of a second."""
        with self._changed:
            self._closed = True
            connections = tuple(self._all)
            self._changed.notify_all()
        threads = [threading.Thread(target=connection.close, name="libvirt-close", daemon=True) for connection in connections]
        for thread in threads:
            thread.start()
        return threads

    def _free(self, doing: str, patience: float) -> Connection:
        end = time.monotonic() + patience
        with self._changed:
            while True:
                if self._closed:
                    raise HypervisorError(f"{doing}: the connection to libvirt is closed")
                if self._idle:
                    return self._idle.pop()
                if len(self._all) < self.most:
                    whole = CallPatience(lasts=0.0)  # earlier timeouts do not shorten a call's timeout
                    self._all.append(Connection(self._main.settings, self._main.log, self._main.module, patience=whole))
                    return self._all[-1]
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise GuestBusy(f"{doing}: {self.most} such calls are already running")


class AgentCommands(SpareConnections):
    """Sender of commands to agents in guests. Uses its own connections."""

    most = 8

    def command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send a JSON command to the guest's agent; return the answer.

        The call may take twice the timeout (in whole seconds) plus a second, because libvirt first synchronizes with the agent.
        """
        doing = f"querying the agent of {guest}"
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
