"""How long one process takes to ask a thousand guests' agents, of which some never answer, and what that costs it.

    python benchmarks/agents/bench_agents.py [--guests 1000] [--hanging 5] [--period 5]

The guests are test servers on unix sockets in a process of their own. Measured are
the time until the last guest that answers has figures, the asking process's CPU time for that and for the next round, its largest memory,
and what a cycle of the engine pays (`mom_collect_guests`, which only hands out).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

from mom_core import Entity, Guest, NotSupported, PluginContext
from mom_plugins_guestagent import GuestAgentPlugin
from mom_plugins_guestagent.guestd import FILES
from mom_plugins_guestagent.guestd import GuestFigures as Inside

COMMANDS = ["guest-info", "guest-file-open", "guest-file-read", "guest-file-close", "guest-get-osinfo"]

Answer = Callable[[bytes], bytes]


def answers_of_qemu_agent() -> Answer:
    """Answers as qemu-guest-agent does, with this host's files; made ahead, as the test server is not what is measured."""
    contents = [base64.b64encode(Path("/proc", name).read_bytes()).decode() for name in FILES if Path("/proc", name).exists()]
    info = {"version": "7.2", "supported_commands": [{"name": name, "enabled": True, "success-response": True} for name in COMMANDS]}
    system = {"pretty-name": "Debian GNU/Linux 12", "kernel-release": "6.1.0"}
    made = {"guest-info": info, "guest-file-close": {}, "guest-get-osinfo": system}
    ready = {name.encode(): b'{"return": ' + json.dumps(value).encode() + b"}\n" for name, value in made.items()}
    read = [f'{{"return": {{"count": 1, "buf-b64": "{content}", "eof": true}}}}\n'.encode() for content in contents]

    def answer(line: bytes) -> bytes:
        name = line.split(b'"', 4)[3]
        if name == b"guest-sync-delimited":
            return b'\xff{"return": ' + line.rpartition(b":")[2].strip(b" }\n") + b"}\n"
        if name == b"guest-file-open":
            known = [path for path in FILES if path.encode() in line]
            return b'{"return": %d}\n' % FILES.index(known[0])
        if name == b"guest-file-read":
            return read[int(line.partition(b'"handle": ')[2].partition(b",")[0])]
        return ready[name]

    return answer


async def serve(folder: Path, count: int, hanging: int, protocol: str, ready: Event) -> None:
    """Listen at so many sockets; the first `hanging` of them take everything and say nothing."""
    inside = Inside()
    answer = answers_of_qemu_agent()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass

    async def guestd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(inside.answer(line.decode()).encode())
        writer.close()

    async def qemu_agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        while data := await reader.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            writer.write(b"".join(map(answer, lines)))
        writer.close()

    speak = guestd if protocol == "guestd" else qemu_agent
    for number in range(count):
        await asyncio.start_unix_server(hang if number < hanging else speak, str(folder / str(number)))
    ready.set()
    await asyncio.sleep(3600)


def serve_in_process(folder: Path, count: int, hanging: int, protocol: str, ready: Event) -> None:
    asyncio.run(serve(folder, count, hanging, protocol, ready))


class Channels:
    """A hypervisor that knows the sockets."""

    uri = "bench:"

    def __init__(self, folder: Path, name: str, guests: list[Guest]) -> None:
        self._guests = guests
        self._channels = {guest.id: {name: str(folder / guest.id)} for guest in guests}

    def guests(self) -> list[Guest]:
        return self._guests

    def agent_channels(self, guests: list[Entity]) -> dict[str, dict[str, str]]:
        return self._channels

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        raise NotSupported("all channels are sockets here: nothing is asked through the hypervisor")


def ask(folder: Path, count: int, hanging: int, protocol: str, period: float) -> None:
    """Ask them all, twice, and print one line."""
    settings = GuestAgentPlugin.Settings.model_validate({"period": f"{period:g}s", "facts_period": "600s"})
    plugin = GuestAgentPlugin(settings, PluginContext("guestagent"))
    plugin.mom_setup()
    guests = [Guest(str(number), f"guest{number}") for number in range(count)]
    channel = settings.guestd_channel if protocol == "guestd" else settings.agent_channels[0]
    hypervisor = Channels(folder, channel, guests)
    assert plugin._collector is not None
    states = plugin._collector.states

    def round_of_all(least: int) -> tuple[float, float]:
        cpu, began = time.process_time(), time.monotonic()
        while sum(1 for state in states().values() if state.sample is not None and state.rounds >= least) < count - hanging:
            assert time.monotonic() - began < 60
            time.sleep(0.005)
        last = max(state.sample.monotonic for state in states().values() if state.sample is not None)
        return last - began, time.process_time() - cpu

    plugin.mom_collect_guests(hypervisor, guests)
    first, first_cpu = round_of_all(1)
    _, second_cpu = round_of_all(2)
    began = time.perf_counter()
    cycles = 20
    for _ in range(cycles):
        plugin.mom_collect_guests(hypervisor, guests)
    handed_out = (time.perf_counter() - began) / cycles * 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = (count, hanging, f"{first:.2f}", f"{first_cpu:.2f}", f"{second_cpu:.2f}", f"{peak:.0f}", f"{handed_out:.1f}")
    print(f"{protocol:<12} " + " ".join(f"{figure:>11}" for figure in figures), flush=True)
    plugin.mom_teardown()


def main() -> None:
    """Each protocol in a process of its own, so that its memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--hanging", type=float, default=5.0, help="percent (default: %(default)s)")
    parser.add_argument("--period", type=float, default=5.0, help="seconds between two questions (default: %(default)s)")
    chosen = parser.parse_args()
    logging.basicConfig()
    hanging = round(chosen.guests * chosen.hanging / 100)
    spawning = multiprocessing.get_context("spawn")
    titles = ("guests", "hanging", "all asked s", "CPU s", "next CPU s", "peak MiB", "a cycle ms")
    print(f"{'agent':<12} " + " ".join(f"{title:>11}" for title in titles))
    print(f"{'target':<12} " + " ".join(f"{target:>11}" for target in ("", "", "1.00", "", "", "100", "")), flush=True)
    for protocol in ("guestd", "qemu-agent"):
        with tempfile.TemporaryDirectory(prefix="mom-agents-") as folder:
            ready = spawning.Event()
            server = spawning.Process(target=serve_in_process, args=(Path(folder), chosen.guests, hanging, protocol, ready))
            server.start()
            ready.wait(60)
            asking = spawning.Process(target=ask, args=(Path(folder), chosen.guests, hanging, protocol, chosen.period))
            asking.start()
            asking.join()
            server.terminate()
            server.join()
            if asking.exitcode:
                raise SystemExit(f"{protocol}: the process that asks has failed")


if __name__ == "__main__":
    main()
