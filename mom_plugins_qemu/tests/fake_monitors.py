"""Monitors of simulated guests. Each answers on a socket like QEMU, or with faults."""

import asyncio
import json
import mmap
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mom_core import PluginContext
from mom_devkit import HandClock
from mom_plugins_qemu.hypervisor import QemuHypervisor

MIB = 1024
GREETING = b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n'
BALLOON = "/machine/peripheral-anon/device[1]"
_MAPPED = mmap.mmap(-1, 1 << 40, mmap.MAP_PRIVATE, prot=0)
"""Unused mapping: QEMU maps all memory of its guest, and this process stands for QEMU of all guests."""


@dataclass
class FakeGuest:
    """Guest with the behaviour of its monitor. Sizes in KiB."""

    name: str
    path: Path
    uuid: str = ""
    memory: int = 1024 * MIB
    size: int = 1024 * MIB
    balloon: bool = True
    period: int = 1
    switches: dict[str, Any] = field(default_factory=lambda: {"free-page-reporting": False, "deflate-on-oom": False})
    """Fixed properties of its balloon device. Its QEMU does not know missing ones."""
    status: str = "running"
    migration: str = ""
    devices: list[dict[str, Any]] = field(default_factory=list)
    memory_devices: list[dict[str, Any]] = field(default_factory=list)
    statistics: dict[str, int] = field(default_factory=dict)
    updated: int = 0
    hangs: bool = False
    """Whether it never greets clients."""
    says: bytes | None = None
    """Bytes that it sends instead of anything else."""
    slow: float = 0.0
    """Delay of each answer in seconds."""
    without_end: bytes = b""
    """Bytes that it repeats after its greeting."""
    sent: int = 0
    """Number of repeated bytes that were sent."""
    disks: list[dict[str, Any]] = field(default_factory=list)
    throttled: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    clients: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    def reports(self, usable: int, total: int | None = None, **more: int) -> None:
        """Set new statistics, in KiB."""
        total = self.size if total is None else total
        self.statistics = {"stat-total-memory": total << 10, "stat-free-memory": usable << 9, "stat-available-memory": usable << 10}
        self.statistics |= {f"stat-{name.replace('_', '-')}": value for name, value in more.items()}
        self.updated = max(int(HandClock(100.0).wall()), self.updated + 1)

    def answer(self, command: str, arguments: dict[str, Any]) -> Any:
        """Return the result of a command, or the class of an error as text."""
        path, name = arguments.get("path"), arguments.get("property")
        self.asked[command] += 1
        self.asked[f"{command} {name}"] += 1
        if command == "qom-set" and name == "requested-size":
            device = next(one["data"] for one in self.memory_devices if path == f"/machine/peripheral/{one['data']['id']}")
            if arguments["value"] % device["block-size"]:
                return "GenericError"
            device["requested-size"] = device["size"] = arguments["value"]
            return {}
        if command in {"qom-get", "qom-set"}:
            return self._property(command, name, arguments.get("value")) if path == BALLOON else "DeviceNotFound"
        if command == "qom-list":
            balloons = [{"name": "device[1]", "type": "child<virtio-balloon-pci>"}] if self.balloon else []
            return [{"name": "type", "type": "string"}, *(self.devices if path == "/machine/peripheral" else balloons)]
        if command == "block_set_io_throttle":
            self.throttled.append(arguments)
            disk = next(disk for disk in self.disks if disk["device"] == arguments.get("device", ""))
            disk["inserted"] |= {key: value for key, value in arguments.items() if key not in {"device", "id"}}
            return {}
        if command in {"stop", "cont"}:
            self.status = "paused" if command == "stop" else "running"
        if command == "balloon":
            self.size = arguments["value"] >> 10
        answers: dict[str, Any] = {
            "qmp_capabilities": {},
            "query-name": {"name": self.name},
            "query-uuid": {"UUID": self.uuid or str(uuid.UUID(int=0))},
            "query-status": {"status": self.status, "singlestep": False, "running": self.status == "running"},
            "query-migrate": {"status": self.migration} if self.migration else {},
            "query-memory-size-summary": {"base-memory": self.memory << 10, "plugged-memory": 0},
            "query-memory-devices": self.memory_devices,
            "query-cpus-fast": [{"thread-id": 1, "cpu-index": 0}],
            "query-balloon": {"actual": self.size << 10} if self.balloon else "DeviceNotActive",
            "query-block": self.disks,
            "balloon": {},
            "stop": {},
            "cont": {},
        }
        return answers.get(command, "CommandNotFound")

    def _property(self, command: str, name: str | None, value: Any) -> Any:
        if command == "qom-set":
            self.period = value
            return {}
        if name in {"free-page-reporting", "deflate-on-oom"}:
            return self.switches.get(name, "GenericError")
        return {"stats": self.statistics, "last-update": self.updated} if name == "guest-stats" else self.period


class FakeHost:
    """Folder of monitors, served by a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.guests: dict[str, FakeGuest] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._conversations: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def hypervisor(self, *, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> QemuHypervisor:
        """Return the plugin's hypervisor on these monitors."""
        return QemuHypervisor(PluginContext("qemu", monotonic=monotonic), [f"{self.folder}/*.qmp"], wall=wall)

    def add(self, name: str, **more: Any) -> FakeGuest:
        """Start a guest."""
        more.setdefault("uuid", str(uuid.uuid5(uuid.NAMESPACE_DNS, name)))
        guest = FakeGuest(name, self.folder / f"{name}.qmp", **more)
        self.guests[name] = guest
        self._servers[name] = self._do(lambda: asyncio.start_unix_server(lambda r, w: self._serve(guest, r, w), guest.path, backlog=1))
        return guest

    def end(self, name: str) -> None:
        """End a guest's QEMU."""

        async def close() -> None:
            self._servers.pop(name).close()

        self._do(close)
        self.guests.pop(name).path.unlink(missing_ok=True)

    def close(self) -> None:
        """End all guests."""
        for name in list(self.guests):
            self.end(name)

        async def cancel() -> None:
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                # Cancelling asyncio's task that has just accepted a connection would leak its socket.
                for task in self._conversations:
                    task.cancel()
                await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)

        self._do(cancel)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, function: Callable[[], Any]) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(function(), self._loop)
        return done.result(5)

    async def _serve(self, guest: FakeGuest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        try:
            async with guest.busy:  # one client at a time; others get no greeting
                guest.clients += 1
                await self._speak(guest, reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _speak(self, guest: FakeGuest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if guest.hangs:
            await reader.read()
            return
        writer.write(GREETING if guest.says is None else guest.says)
        piece = guest.without_end * max(1, (64 << 10) // max(1, len(guest.without_end)))
        while piece:
            writer.write(piece)
            await writer.drain()
            guest.sent += len(piece)
        while line := await reader.readline():
            command = json.loads(line)
            await asyncio.sleep(guest.slow)
            answer = guest.answer(command["execute"], command.get("arguments", {}))
            if isinstance(answer, str):
                content = {"id": command["id"], "error": {"class": answer, "desc": f"no {command['execute']}"}}
            else:
                content = {"return": answer, "id": command["id"]}
            writer.write(json.dumps(content).encode() + b"\r\n")
            await writer.drain()
