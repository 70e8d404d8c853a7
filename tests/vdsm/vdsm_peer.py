"""A vdsm for tests. It speaks vdsm's protocol with all of vdsm's peculiarities that are known, over TCP or TLS, to any client; and it does
wrong what it is told to do wrong.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from vdsm_host import Disk, Machine, VdsmHost
from vdsm_manager import Manager
from vdsm_wire import VdsmServer

R = TypeVar("R")


def on_its_loop(method: Callable[..., Coroutine[Any, Any, R]]) -> Callable[..., R]:
    """Run it in the peer's thread, and wait for it."""

    @wraps(method)
    def called(self: Vdsm, *args: Any, **kwargs: Any) -> R:
        return asyncio.run_coroutine_threadsafe(method(self, *args, **kwargs), self._loop).result(60)

    return called


class Vdsm:
    """A vdsm that listens, in a thread of its own.

    :param ksm: the folder that stands for /sys/kernel/mm/ksm
    :param pki: the folder with keys and certificates; without it there is no TLS
    :param tls12: no newer TLS than 1.2
    :param mom: the socket on which vdsm asks mom
    :param sample_every: seconds between two looks at the guests
    """

    def __init__(
        self, ksm: Path | None = None, pki: Path | None = None, *, tls12: bool = False, mom: Path | None = None, sample_every: float = 15.0
    ) -> None:
        self._host = VdsmHost(ksm, Manager(str(mom)) if mom else None, sample_every)
        self._server = VdsmServer(self._host, None if pki is None else _context(pki, tls12=tls12))
        self._listening: asyncio.Server | None = None
        # Never listens: it keeps others from the port while nobody does.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        begun: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(begun)), daemon=True)
        self._thread.start()
        begun.result(60)
        self.start()

    async def _run(self, begun: Future[None]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        begun.set_result(None)
        await self._ended.wait()

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)
        self._place.close()

    # --- guests ------------------------------------------------------------------------------------------------------------------

    @on_its_loop
    async def add(self, *machines: Mapping[str, Any]) -> None:
        """Start guests: fields of `vdsm_host.Machine`."""
        for told in machines:
            disks = [Disk(**disk) for disk in told.get("disks", [])]
            self._host.machines[told["id"]] = Machine(**{**told, "disks": disks})

    @on_its_loop
    async def change(self, identity: str, **values: object) -> None:
        for name, value in values.items():
            setattr(self._host.machines[identity], name, value)

    @on_its_loop
    async def age(self, identity: str, seconds: float) -> None:
        self._host.machines[identity].started -= seconds

    @on_its_loop
    async def start_anew(self, identity: str) -> None:
        self._host.machines[identity].started = time.monotonic()

    @on_its_loop
    async def remove(self, identity: str) -> None:
        del self._host.machines[identity]

    @on_its_loop
    async def sample(self) -> None:
        for machine in self._host.machines.values():
            machine.sample()

    @on_its_loop
    async def machines(self) -> dict[str, dict[str, Any]]:
        return {
            m.id: {"target": m.target, "actual": m.actual, "seen": m.seen, "quota": m.quota, "period": m.period}
            | {"disks": {disk.name: dict(disk.current) for disk in m.disks}}
            for m in self._host.machines.values()
        }

    @on_its_loop
    async def call(self, method: str, **params: object) -> Any:
        """As the engine calls vdsm."""
        return await self._server.called(method, params)

    @on_its_loop
    async def calls(self, *methods: str) -> list[tuple[str, Any]]:
        """What was called since the last time, of these methods."""
        calls, self._host.calls = self._host.calls, []
        return [(method, params) for method, params in calls if not methods or method in methods]

    @on_its_loop
    async def event(self, identity: str, status: str) -> int:
        params = {identity: {"status": status}, "notify_time": 4711}
        body = json.dumps({"jsonrpc": "2.0", "method": f"|virt|VM_status|{identity}", "params": params}).encode()
        return self._server.publish("jms.queue.events", body)

    # --- faults ------------------------------------------------------------------------------------------------------------------

    @on_its_loop
    async def fault(self, method: str, times: int = 1, **fault: object) -> None:
        """What goes wrong with the next answers to this verb."""
        self._server.faults.answers[method].extend([fault] * times)

    @on_its_loop
    async def faults(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self._server.faults, name, value)

    @on_its_loop
    async def release(self) -> None:
        """Let the answers go that a fault with `held` keeps back."""
        self._server.faults.released.set()

    @on_its_loop
    async def recovering(self, value: bool) -> None:
        self._host.recovering = value

    @on_its_loop
    async def send(self, text: str) -> None:
        for client in self._server.clients:
            client.write(text.encode("latin-1"))

    @on_its_loop
    async def error(self, text: str) -> None:
        for client in self._server.clients:
            client.error(text)

    # --- connections -------------------------------------------------------------------------------------------------------------

    @on_its_loop
    async def wire(self) -> dict[str, Any]:
        """Connections, frames, and why connections were dropped."""
        server = self._server
        return {
            "connections": server.connections,
            "clients": len(server.clients),
            "drops": list(server.drops),
            "frames": list(server.frames),
            "dead": server.dead,
            "subscriptions": [sorted(client.subscriptions.values()) for client in server.clients],
        }

    @on_its_loop
    async def drop(self) -> None:
        self._server.drop_all()

    @on_its_loop
    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self._server.drop_all()

    @on_its_loop
    async def start(self) -> None:
        self._server.dead = False
        self._listening = await asyncio.start_server(self._server.accept, "127.0.0.1", self.port)


def _context(pki: Path, *, tls12: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "certs/vdsmcert.pem", pki / "keys/vdsmkey.pem")
    context.load_verify_locations(pki / "certs/cacert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
