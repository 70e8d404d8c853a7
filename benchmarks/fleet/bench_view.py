"""How a coordinator keeps up with a large fleet: its CPU and memory, how soon it sees a change, how soon a host is in, a policy in force on
half of the fleet, and a drained host has its first orders; and what it cost to read everything anew each minute instead.

    python benchmarks/fleet/bench_view.py [--hosts 1000 10000] [--guests 30] [--seconds 60]

Each host is a connection of its own to a real nats-server, by the same subjects as the plugin's agent, and tells every 5 s that its guests
have other sizes, as busy hosts do. All of them are one process, which signs and checks nothing: on a fleet each host does so itself. The
coordinator is the real one, in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from bench_accounts import memory_mib
from bench_fleet import cpu_seconds, free_port, new_operator

from mom_kvm import Destination
from mom_plugins_fleet.coordinator import Coordinator
from mom_plugins_fleet.link import Access, Store, linked
from mom_plugins_fleet.records import Group, HostedGuest, HostState, Member
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, ROSTER, STATES, StoredEntry, direct, subject
from mom_plugins_fleet.view import Bucket

LOG = logging.getLogger("bench")
TELL_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.2
PROBES: Final = 40
READS_AT_ONCE: Final = 256
VARIANTS: Final = 8
_MESSAGE = re.compile(rb"(H?)MSG (\S+) \S+(?: +(\S+))?(?: +(\d+))? +(\d+)\r\n")


class Host(asyncio.Protocol):
    """A host's connection, in as few steps as can be."""

    def __init__(self, number: int, fleet: Fleet) -> None:
        self.name, self.group = f"h{number}", f"g{number % 2}"
        self.fleet = fleet
        self.rest = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inbox = f"_INBOX_mom_{self.name}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        heard = [subject(ROSTER, self.name), subject(GROUPS, self.group), subject(ORDERS, self.name), subject(AUTHORIZED, COORDINATORS)]
        connect = json.dumps({"verbose": False, "headers": True, "no_responders": True, "name": self.name}).encode()
        subscriptions = b"".join(b"SUB %s %d\r\n" % (one, number) for number, one in enumerate([self.inbox, *map(str.encode, heard)], 1))
        transport.write(b"CONNECT " + connect + b"\r\n" + subscriptions + b"PING\r\n")

    def data_received(self, data: bytes) -> None:
        rest = self.rest + data
        while rest:
            line, end, after = rest.partition(b"\r\n")
            if not end:
                break
            found = _MESSAGE.match(rest)
            if found is not None:
                size = int(found[5])
                if len(after) < size + 2:
                    break
                self.heard(found[2].decode(), after[:size])
                after = after[size + 2 :]
            elif line == b"PING":
                self.transport.write(b"PONG\r\n")
            elif line == b"PONG" and not self.ready.done():
                self.ready.set_result(None)
            rest = after
        self.rest = rest

    def heard(self, where: str, data: bytes) -> None:
        """What the agent does then: it reads all that directs it."""
        if where == subject(ORDERS, self.name):
            self.fleet.ordered.setdefault(self.name, time.monotonic())
        elif where == subject(GROUPS, self.group):
            asyncio.get_running_loop().call_later(POLL_SECONDS * random.random(), self.read)  # noqa: S311  # as the agent spreads its load
        elif where == self.inbox.decode() and self.fleet.policy and self.fleet.policy in data:
            self.fleet.applied.setdefault(self.name, time.monotonic())

    def read(self) -> None:
        for bucket, key in ((ROSTER, self.name), (GROUPS, self.group), (ORDERS, self.name), (AUTHORIZED, COORDINATORS)):
            self.transport.write(b"PUB %s %s 0\r\n\r\n" % (direct(bucket, key).encode(), self.inbox))

    def tell(self, data: bytes) -> None:
        self.transport.write(b"PUB %s %s %d\r\n%s\r\n" % (subject(STATES, self.name).encode(), self.inbox, len(data), data))


class Fleet:
    """All hosts."""

    def __init__(self, guests: int) -> None:
        self.hosts: list[Host] = []
        self.policy = b""
        self.applied: dict[str, float] = {}
        self.ordered: dict[str, float] = {}
        self._states = [self._state(guests, variant) for variant in range(VARIANTS)]

    @staticmethod
    def _state(guests: int, variant: int) -> bytes:
        chance = random.Random(variant)  # noqa: S311  # numbers of a benchmark
        told = tuple(
            HostedGuest(
                id=f"hostname-0000-4000-8000-{number:012d}",
                name=f"vm-hostname-{number}",
                size=chance.randrange(1, 256) << 14,
                maximum=4 << 20,
                guarantee=1 << 20,
            )
            for number in range(guests)
        )
        available = (300 << 20) + (chance.randrange(1, 1 << 10) << 14)
        return HostState(mode="enforce", total=512 << 20, available=available, guests=told).packed()

    def state(self, host: str) -> bytes:
        return random.choice(self._states).replace(b"hostname", host.encode())  # noqa: S311  # numbers of a benchmark

    async def connect(self, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        for begin in range(0, count, 200):
            made = [loop.create_connection(partial(Host, n, self), "127.0.0.1", port) for n in range(begin, min(begin + 200, count))]
            self.hosts += [host for _, host in await asyncio.gather(*made)]
            await asyncio.gather(*(host.ready for host in self.hosts[begin:]))

    async def tell(self, seconds: float) -> None:
        """Each host every five seconds, evenly."""
        loop = asyncio.get_running_loop()
        began, done, hosts = loop.time(), 0, self.hosts
        while (passed := loop.time() - began) < seconds:
            due = int(len(hosts) * passed / TELL_SECONDS)
            for number in range(done, due):
                host = hosts[number % len(hosts)]
                if host.name != "h0":  # whose changes are timed
                    host.tell(self.state(host.name))
            done = due
            await asyncio.sleep(0.02)


class Watched:
    """A coordinator in a process of its own, and when it has seen what, in monotonic seconds, which are the same in all processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.seen: dict[str, float] = {}
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def end(self) -> None:
        self.process.terminate()
        await self.process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            what, at = line.decode().rsplit(" ", 1)
            self.seen[what] = float(at)
            self._news.set()

    async def until(self, what: str, seconds: float = 120.0) -> float:
        async with asyncio.timeout(seconds):
            while what not in self.seen:
                self._news.clear()
                await self._news.wait()
        return self.seen[what]


def coordinate(url: str, seed: str, operator: str, hosts: int) -> None:
    """The process of a coordinator."""

    told = Bucket.told

    def say(what: str) -> None:
        print(f"{what} {time.monotonic()}", flush=True)

    def told_and_said(bucket: Bucket[Any], key: str, kept: StoredEntry, *, live: bool) -> None:
        told(bucket, key, kept, live=live)
        if live and bucket.name == ROSTER:
            say(f"member {key}")
        elif live and bucket.name == STATES and key == "h0":
            say(f"state {bucket.records[key][1].available}")

    async def work() -> None:
        one = Coordinator(Access([url]), "bench", LOG, Signer(seed), [operator])
        running = asyncio.create_task(one.run())
        while not (one.view.current and len(one.view.states.records) >= hosts):
            await asyncio.sleep(0.01)
        say("all")
        while not one.works:
            await asyncio.sleep(0.01)
        say("works")
        await running

    with patch.object(Bucket, "told", told_and_said):
        asyncio.run(work())


async def read_anew(store: Store, bucket: str) -> Mapping[str, bytes | None]:
    """As coordinators did each minute before they watched: each key is asked for."""
    jetstream, stream, begin = store.client.jetstream(timeout=30), f"KV_{bucket}", subject(bucket, "")
    held = (await jetstream.stream_info(stream, subjects_filter=f"{begin}>")).state.subjects or {}
    room = asyncio.Semaphore(READS_AT_ONCE)

    async def one(name: str) -> tuple[str, bytes | None]:
        async with room:
            return name, (await jetstream.get_msg(stream, subject=name)).data

    return dict(await asyncio.gather(*map(one, held)))


class Measurement:
    """Of one fleet, in the order of its methods."""

    def __init__(self, store: Store, url: str, hosts: int, guests: int, server: int) -> None:
        self.store, self.url, self.count, self.server = store, url, hosts, server
        self.fleet = Fleet(guests)
        self.seed = new_operator()
        self.operator = Signer(self.seed)
        self.found: dict[str, str] = {}
        self.address = Destination.parse("qemu+tls://target.example.org/system")

    async def enrolled(self, port: int) -> None:
        """All hosts are in, connected, and have told how they are."""
        store, operator = self.store, self.operator
        await store.make(1)
        for begin in range(0, self.count, 500):
            numbers = range(begin, min(begin + 500, self.count))
            members = {f"h{number}": Member(group=f"g{number % 2}", address=self.address) for number in numbers}
            await asyncio.gather(*(store.put(ROSTER, name, operator.signed(ROSTER, name, one, 1)) for name, one in members.items()))
        for group in ("g0", "g1"):
            await store.put(GROUPS, group, operator.signed(GROUPS, group, Group(), 1))
        await self.fleet.connect(port, self.count)
        for begin in range(0, self.count, 500):
            for host in self.fleet.hosts[begin : begin + 500]:
                host.tell(self.fleet.state(host.name))
            await asyncio.sleep(0.2)
        self.found["a host's state"] = f"{len(self.fleet.state('h1'))} bytes"

    async def begun(self) -> Watched:
        """A coordinator is started, and works."""
        began = time.monotonic()
        command = [sys.executable, __file__, "--coordinate", self.url, self.seed, self.operator.public, str(self.count)]
        watched = Watched(await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE))
        self.found["a new coordinator knows all after"] = f"{await watched.until('all') - began:.1f} s"
        self.found["its CPU until then"] = f"{cpu_seconds(watched.process.pid):.1f} s"
        await watched.until("works")
        return watched

    async def kept_up(self, watched: Watched, seconds: float) -> None:
        """It hears of all hosts all the time; the changes of one of them are timed."""
        found, pid = self.found, watched.process.pid
        telling = asyncio.create_task(self.fleet.tell(seconds))
        await asyncio.sleep(2)
        cpu, served, at = cpu_seconds(pid), cpu_seconds(self.server), time.monotonic()
        seen = []
        for probe in range(PROBES):
            sent = time.monotonic()
            self.fleet.hosts[0].tell(HostState(mode="enforce", available=probe).packed())
            seen.append(await watched.until(f"state {probe}") - sent)
            await asyncio.sleep(max(0.0, (seconds - 6) / PROBES - seen[-1]))
        passed = time.monotonic() - at
        found["states that hosts tell"] = f"{self.count / TELL_SECONDS:,.0f} /s"
        found["the coordinator's CPU"] = f"{100 * (cpu_seconds(pid) - cpu) / passed:.0f} % of a core"
        found["its memory"] = f"{memory_mib(pid):.0f} MiB"
        found["the server's CPU"] = f"{100 * (cpu_seconds(self.server) - served) / passed:.0f} % of a core"
        found["its memory, with a connection for each host"] = f"{memory_mib(self.server):.0f} MiB"
        found["from a host's change to the view: median, longest"] = f"{1e3 * statistics.median(seen):.1f} ms, {1e3 * max(seen):.0f} ms"
        await telling

    async def joined(self, watched: Watched) -> None:
        """One more host is enrolled, by an operator who connects for that."""
        took = []
        for number in range(5):
            name, sent = f"new{number}", time.monotonic()
            async with linked(Access([self.url]), "another", LOG, patient=False) as own:
                await own.put(ROSTER, name, self.operator.signed(ROSTER, name, Member(group="g1"), 1))
            took.append(await watched.until(f"member {name}") - sent)
        self.found["to enrol one host, until the view has it"] = f"{1e3 * statistics.median(took):.0f} ms"

    async def given_a_policy(self) -> None:
        """Every second host is of the group."""
        text = "(defvar a 2)"
        self.fleet.policy = text.encode()
        sent = time.monotonic()
        await self.store.put(GROUPS, "g0", self.operator.signed(GROUPS, "g0", Group(policies={"60_fleet_a": text}), 2))
        half = sum(host.group == "g0" for host in self.fleet.hosts)
        async with asyncio.timeout(120):
            while len(self.fleet.applied) < half:
                await asyncio.sleep(0.02)
        times = sorted(at - sent for at in self.fleet.applied.values())
        self.found["a policy for every second host: half of them have it after"] = f"{times[half // 2]:.2f} s, all after {times[-1]:.2f} s"

    async def drained(self) -> None:
        """One host, while all others tell how they are."""
        telling = asyncio.create_task(self.fleet.tell(60))
        await asyncio.sleep(TELL_SECONDS + 1)
        sent = time.monotonic()
        member = Member(group="g1", address=self.address, cordoned=True, draining=True)
        await self.store.put(ROSTER, "h1", self.operator.signed(ROSTER, "h1", member, 2))
        async with asyncio.timeout(60):
            while "h1" not in self.fleet.ordered:
                await asyncio.sleep(0.01)
        self.found["a drained host has its first orders after"] = f"{self.fleet.ordered['h1'] - sent:.1f} s"
        telling.cancel()

    async def read_whole(self) -> None:
        """What an operator's verb does, and what a coordinator did each minute."""
        ways: dict[str, Callable[[str], Awaitable[Mapping[str, object]]]] = {
            "to read all states once": self.store.load,
            "key by key, as was done each minute": lambda one: read_anew(self.store, one),
        }
        for label, way in ways.items():
            began, used = time.monotonic(), time.process_time()
            assert len(await way(STATES)) == self.count
            self.found[label] = f"{time.monotonic() - began:.1f} s, {time.process_time() - used:.1f} s of CPU"


async def measured(hosts: int, guests: int, seconds: float, port: int, server: int) -> dict[str, str]:
    url = f"nats://127.0.0.1:{port}"
    async with linked(Access([url]), "operator", LOG, patient=True) as store:
        one = Measurement(store, url, hosts, guests, server)
        await one.enrolled(port)
        watched = await one.begun()
        try:
            await one.kept_up(watched, seconds)
            await one.joined(watched)
            await one.given_a_policy()
            await one.drained()
        finally:
            await watched.end()
        await one.read_whole()
        for host in one.fleet.hosts:
            host.transport.abort()
    return one.found


def run(hosts: int, guests: int, seconds: float, folder: Path) -> dict[str, str]:
    port = free_port()
    (folder / "nats.conf").write_text(f'listen: "127.0.0.1:{port}"\nmax_connections: 65536\njetstream {{ store_dir: "{folder}/js" }}\n')
    path = shutil.which("nats-server") or "/usr/sbin/nats-server"
    server = subprocess.Popen([path, "-c", str(folder / "nats.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return asyncio.run(measured(hosts, guests, seconds, port, server.pid))
    finally:
        server.terminate()
        server.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--guests", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--coordinate", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.coordinate:
        url, seed, operator, hosts = chosen.coordinate
        coordinate(url, seed, operator, int(hosts))
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    columns = []
    for hosts in chosen.hosts:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(run(hosts, chosen.guests, chosen.seconds, Path(folder)))
    print(
        f"{os.cpu_count()} CPUs, shared by all\n\n| | "
        + " | ".join(f"{hosts:,} hosts x {chosen.guests} guests" for hosts in chosen.hosts)
        + " |"
    )
    print("| --- " * (len(columns) + 1) + "|")
    for label in columns[0]:
        print(f"| {label} | " + " | ".join(column[label] for column in columns) + " |")


if __name__ == "__main__":
    main()
