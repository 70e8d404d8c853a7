"""The way to agents inside guests: which channels a guest has, and commands for its qemu-guest-agent, which libvirt passes on.

An agent that is busy or dead keeps its call waiting, and a connection carries one call at a time. So commands have a few connections
of their own, and never hold up the one that everything else goes through.
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

from mom_core import Entity, GuestBusy, HypervisorError, NotSupported
from mom_plugins_libvirt.connection import Connection

LIBVIRTS_OWN = "org.qemu.guest_agent.0"
"""libvirt itself is connected to the socket of this channel, and QEMU serves one client at a time."""

NO_CHANNELS: Mapping[str, str] = MappingProxyType({})

_MOST_CONNECTIONS = 8
"""So many commands are under way at once. Each holds one of libvirtd's threads while it waits; by default libvirtd has 20."""

_LONGEST_SECONDS = 60
"""More patience is not asked of libvirtd."""

_SLACK_SECONDS = 1.0
"""How much longer than libvirtd's own limit an answer may take to arrive, before its connection is given up."""

_MOST_CHANNELS = 32
_LONGEST_TEXT = 256
"""A guest has a handful of channels; what is more, or longer than a path can sensibly be, is not a channel to an agent."""


def channels_of(devices: ElementTree.Element | None) -> Mapping[str, str]:
    """The agent channels in a running guest's `<devices>`: name to the path of the unix socket on which QEMU listens.

    The path is empty where there is none that another program could use: the channel is libvirt's own, or QEMU is the one that connects.
    """
    found: dict[str, str] = {}
    for channel in [] if devices is None else devices.findall("channel"):
        target, source = channel.find("target"), channel.find("source")
        name = "" if target is None or target.get("type") != "virtio" else target.get("name", "")
        if channel.get("type") != "unix" or not 0 < len(name) <= _LONGEST_TEXT or len(found) >= _MOST_CHANNELS:
            continue
        listens = source is not None and source.get("mode") == "bind" and name != LIBVIRTS_OWN
        path = source.get("path", "") if source is not None and listens else ""
        found[name] = path if len(path) <= _LONGEST_TEXT else ""
    return MappingProxyType(found) if found else NO_CHANNELS


class AgentCommands:
    """Passes commands to agents, on connections that are opened when they are needed and kept.

    :param main: the connection that everything else goes through; these are like it
    :param qemu: the module `libvirt_qemu`, or what stands in for it
    """

    def __init__(self, main: Connection, log: logging.Logger, qemu: Any = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._main = main
        self._log = log
        self._qemu = qemu
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False

    def command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """The agent's answer to this JSON text, as JSON text. See `AgentAccess.agent_command`.

        libvirt counts whole seconds here, and first has the agent synchronise, for which it waits as long again: this takes twice that,
        and a second, at most.
        """
        doing = f"asking the agent of {guest}"
        seconds = min(_LONGEST_SECONDS, max(1, math.ceil(timeout_seconds)))
        qemu = self._binding(doing)
        connection = self._borrowed(doing, seconds)
        connection.settings = replace(self._main.settings, call_timeout=2 * seconds + _SLACK_SECONDS)
        try:
            answer: object = connection.call(doing, guest.id, lambda domain: qemu.qemuAgentCommand(domain, command, seconds, 0))
        finally:
            with self._changed:
                self._idle.append(connection)
                self._changed.notify()
        if not isinstance(answer, str):
            raise HypervisorError(f"{doing}: libvirt gave no answer")
        return answer

    def close(self) -> Callable[[], None]:
        """Begin to let the connections go; the result waits until they are gone, a fifth of a second at most."""
        with self._changed:
            self._closed = True
            connections = tuple(self._all)
            self._changed.notify_all()
        threads = [threading.Thread(target=connection.close, name="libvirt-agent-close", daemon=True) for connection in connections]
        for thread in threads:
            thread.start()

        def wait() -> None:
            for thread in threads:
                thread.join()

        return wait

    def _borrowed(self, doing: str, seconds: float) -> Connection:
        """A connection that no other call uses; waits for one that long where as many as there may be are in use."""
        end = self._monotonic() + seconds
        with self._changed:
            while True:
                if self._closed:
                    raise HypervisorError(f"{doing}: the connection to libvirt is closed")
                if self._idle:
                    return self._idle.pop()
                if len(self._all) < _MOST_CONNECTIONS:
                    self._all.append(Connection(self._main.settings, self._log, self._main.module))
                    return self._all[-1]
                if not self._changed.wait(max(0.0, end - self._monotonic())):
                    raise GuestBusy(f"{doing}: as many agents as may be are being asked already")

    def _binding(self, doing: str) -> Any:
        if self._qemu is None:
            try:
                self._qemu = importlib.import_module("libvirt_qemu")
            except ImportError as error:
                raise NotSupported(f"{doing}: libvirt's Python binding has no part for QEMU: {error}") from error
        return self._qemu
