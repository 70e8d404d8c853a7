"""Servers on real sockets that act like agents in guests, also with faults, in a thread with asyncio."""

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

from mom_devkit import host_of
from mom_plugins_guestagent.guestd import GuestFigures, Relief

MEMINFO = """MemTotal:        1000000 kB
MemFree:          300000 kB
MemAvailable:     600000 kB
Buffers:           50000 kB
Cached:           250000 kB
SwapCached:         1000 kB
SwapTotal:        200000 kB
SwapFree:         150000 kB
HugePages_Total:       0
"""
VMSTAT = "nr_free_pages 75010\npgfault 5000\npgmajfault 100\npswpin 10\npswpout 20\noom_kill 1\n"
PRESSURE = "some avg10=1.50 avg60=0.70 avg300=0.10 total=123456\nfull avg10=0.50 avg60=0.20 avg300=0.00 total=3456\n"
LOADAVG = "0.50 0.40 0.30 1/123 4567\n"

FILES = {"/proc/meminfo": MEMINFO, "/proc/vmstat": VMSTAT, "/proc/pressure/memory": PRESSURE, "/proc/loadavg": LOADAVG}

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class QemuAgent:
    """qemu-guest-agent, as far as mom uses it. Tests change its attributes."""

    def __init__(self, files: Mapping[str, str] = FILES) -> None:
        self.files = dict(files)
        self.disabled: set[str] = set()
        self.answers: dict[str, Any] = {"guest-get-osinfo": {"pretty-name": "Debian GNU/Linux 12", "kernel-release": "6.1.0"}}
        self.asked: list[str] = []
        self.visits = 0
        self.open: dict[int, str] = {}
        self.piece = 1 << 20
        """Number of bytes sent at once."""
        self.hangs_up = False
        """Whether it closes the connection at once."""
        self.stale = b""
        """Bytes sent before any request."""

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        if self.hangs_up:
            return
        writer.write(self.stale)
        while line := await reader.readline():
            answer = self.answer(line)
            for start in range(0, len(answer), self.piece):
                writer.write(answer[start : start + self.piece])
                await writer.drain()
                if self.piece < len(answer):
                    await asyncio.sleep(0.0005)

    def answer(self, line: bytes) -> bytes:
        before = b""
        if b"\xff" in line:
            line = line[line.rindex(b"\xff") + 1 :]
            before = b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n'
        try:
            command = json.loads(line)
        except ValueError:
            return before + b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n'
        name, arguments = command["execute"], command.get("arguments", {})
        self.asked.append(name)
        try:
            if name in self.disabled:
                raise KeyError(f"The command {name} has been disabled for this instance")
            returned = json.dumps({"return": self.run(name, arguments)}) + "\n"
        except KeyError as error:
            returned = json.dumps({"error": {"class": "GenericError", "desc": str(error)}}) + "\n"
        return before + (b"\xff" if name == "guest-sync-delimited" else b"") + returned.encode()

    def run(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if name == "guest-sync-delimited":
            return arguments["id"]
        if name == "guest-info":
            known = ["guest-info", "guest-file-open", "guest-file-read", "guest-file-close", *self.answers]
            return {"version": "7.2.1", "supported_commands": [{"name": each, "enabled": each not in self.disabled} for each in known]}
        if name == "guest-file-open":
            if arguments["path"] not in self.files:
                raise KeyError("failed to open file")
            handle = 1000 + len(self.asked)
            self.open[handle] = self.files[arguments["path"]]
            return handle
        if name == "guest-file-read":
            text = self.open[arguments["handle"]][: arguments["count"]].encode()
            return {"count": len(text), "buf-b64": base64.b64encode(text).decode(), "eof": True}
        if name == "guest-file-close":
            del self.open[arguments["handle"]]
            return {}
        return self.answers[name]


class Guestd:
    """Answers of the real mom-guestd, from files in a folder."""

    def __init__(self, root: Path, relief: Relief | None = None) -> None:
        self.guest = GuestFigures(str(host_of(root, FILES)), 4, relief)
        self.visits = 0
        self.asked: list[str] = []

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        while line := await reader.readline():
            self.asked += line.decode().split()[:1]
            writer.write(self.guest.answer(line.decode()).encode())


class Servers:
    """Servers for any number of guests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agent-servers")
        self._servers: list[asyncio.Server] = []
        self._conversations: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        async def end() -> None:
            # Closing a server would leave accepted connections open that no task serves yet.
            while asyncio.all_tasks() - self._conversations - {asyncio.current_task()}:
                await asyncio.sleep(0)
            for server in self._servers:
                server.close()
            for task in self._conversations:
                task.cancel()
            await asyncio.gather(*self._conversations)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def unix(self, speak: Speak) -> str:
        """Return the path of a socket where `speak` answers."""
        path = str(self._folder / f"agent{len(self._servers)}")
        self._servers.append(self._wait(asyncio.start_unix_server(self._contained(speak), path)))
        return path

    def tcp(self, speak: Speak) -> tuple[str, int]:
        """Return address and port where `speak` answers."""
        server: asyncio.Server = self._wait(asyncio.start_server(self._contained(speak), "127.0.0.1"))
        self._servers.append(server)
        address, port = server.sockets[0].getsockname()
        return address, port

    def _wait(self, made: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(made, self._loop).result(10)

    def _contained(self, speak: Speak) -> Speak:
        async def contained(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)
            try:
                with suppress(ConnectionError, asyncio.CancelledError):
                    await speak(reader, writer)
                    writer.close()
                    await writer.wait_closed()
            finally:
                writer.transport.abort()  # unread output would keep it open forever

        return contained


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read everything, and never answer."""
    while await reader.read(4096):
        pass


def saying(data: bytes) -> Speak:
    """Return a server that sends these bytes for any request."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(data)
        await writer.drain()
        await silent(reader, writer)

    return speak


def without_end(*pieces: bytes, pause: float = 0.0) -> Speak:
    """Return a server that repeats these pieces forever, with a pause after each."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for data in cycle(pieces):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause)  # lets other tasks run: drain waits only for large buffers

    return speak


def dripping(data: bytes) -> Speak:
    """Return a server that repeats these bytes one by one, forever."""
    return without_end(*(bytes([byte]) for byte in data), pause=0.01)
