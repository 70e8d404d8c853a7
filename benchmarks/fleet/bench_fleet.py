"""Measure what a fleet costs its server, and how soon a policy is in force on all hosts.

    python benchmarks/fleet/bench_fleet.py [--hosts 200] [--guests 30] [--seconds 60] [--changing 0.3]

Each host is the plugin's own agent with a connection to a real nats-server, and reports made-up guests. The second column extrapolates to
10,000 hosts: everything but the connections' memory grows linearly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types

sys.path.append(str(Path(__file__).resolve().parents[1] / "shared"))

from processes import cpu_seconds  # only found from here on
from tables import table  # as above

from mom_core import PluginContext
from mom_plugins_fleet.buckets import GROUPS, ROSTER
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.host.agent import FleetAgent
from mom_plugins_fleet.host.group_policies import GroupPolicies
from mom_plugins_fleet.host.orders import HostOrders
from mom_plugins_fleet.link import linked
from mom_plugins_fleet.records import MOST_TOLD, Group, GroupStatus, HostedGuest, HostState, Member
from mom_plugins_fleet.signatures import Opened, SeenRevisions, Signer
from mom_plugins_fleet.view import FleetView

LOG = logging.getLogger("bench")
GUEST_KIB = 4 << 20


class Host(GroupPolicies):
    """Host with guests, a part of which changes between two reports."""

    def __init__(self, name: str, guests: int, changing: float, seed: int, operator: str) -> None:
        super().__init__(PluginContext(name="fleet"), [operator])
        self.name, self.changing = name, changing
        self.random = random.Random(seed)  # noqa: S311  # numbers of a benchmark
        self.guests = [HostedGuest(id=f"{seed:08d}-0000-4000-8000-{n:012d}", name=f"vm-{seed}-{n}", size=GUEST_KIB) for n in range(guests)]
        self.applied: dict[int, float] = {}

    def apply(self, group: str, opened: Opened[Group], data: bytes | None) -> None:
        self.applied.setdefault(opened.revision, time.monotonic())

    def state(self) -> HostState:
        for n, guest in enumerate(self.guests):
            if self.random.random() < self.changing:
                size = self.random.randrange(1, 256) << 14
                self.guests[n] = guest.model_copy(update={"size": size, "maximum": GUEST_KIB, "guarantee": 1 << 20})
        available = self.random.randrange(1, 1 << 12) << 14
        return HostState(
            mode="enforce",
            total=512 << 20,
            available=available,
            guests=tuple(self.guests[:MOST_TOLD]),
            others=len(self.guests[MOST_TOLD:]),
            group=GroupStatus(revision=1),
        )


def varz(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/varz", timeout=5) as answer:
        figures = json.load(answer)
    return {key: figures[key] for key in ("in_msgs", "out_msgs", "in_bytes", "out_bytes", "mem")}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def new_operator() -> str:
    """Return the seed of a key."""
    return str(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--guests", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--changing", type=float, default=0.3, help="share of guests whose size has changed since the last look")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(chosen.hosts, chosen.guests, chosen.seconds, chosen.changing, Path(folder))


def run(hosts: int, guests: int, seconds: float, changing: float, folder: Path) -> None:
    port, monitor = free_port(), free_port()
    server_path = shutil.which("nats-server") or "/usr/sbin/nats-server"
    (folder / "nats.conf").write_text(
        f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor}"\njetstream {{ store_dir: "{folder}/js" }}\n'
    )
    server = subprocess.Popen([server_path, "-c", str(folder / "nats.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    access = Access([f"nats://127.0.0.1:{port}"])
    operator = Signer(new_operator())
    agents: list[FleetAgent] = []
    try:
        time.sleep(1)
        made = [Host(f"h{n}", guests, changing, n, operator.public) for n in range(hosts)]

        async def enroll() -> None:
            async with linked(access, "operator", LOG, patient=True) as store:
                await store.make(1)
                for one in made:
                    await store.put(ROSTER, one.name, operator.signed(one.name, Member(group="g"), 1))
                await store.put(GROUPS, "g", operator.signed("g", Group(policies={"60_fleet_a": "(defvar a 1)"}), 1))

        asyncio.run(enroll())
        for one in made:
            revisions = SeenRevisions()
            orders = HostOrders(one.name, [operator.public], revisions, LOG, lambda move: "", print)
            agent = FleetAgent(access, one.name, LOG, revisions=revisions, group=one, orders=orders, state=one.state)
            agent.start()
            agents.append(agent)
        while not all(one.applied for one in made):
            time.sleep(0.2)
        before, cpu, began = varz(monitor), cpu_seconds(server.pid), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        after, used = varz(monitor), cpu_seconds(server.pid) - cpu

        async def change() -> tuple[float, float]:
            async with linked(access, "operator", LOG, patient=True) as store:
                await store.put(GROUPS, "g", operator.signed("g", Group(policies={"60_fleet_a": "(defvar a 2)"}), 2))
                changed = time.monotonic()
                await FleetView(frozenset({operator.public})).load(store)
                return changed, time.monotonic() - changed

        changed, loading = asyncio.run(change())
        while not all(2 in one.applied for one in made) and time.monotonic() - changed < 60:
            time.sleep(0.05)
        reached = sorted(one.applied[2] - changed for one in made if 2 in one.applied)
        size = sum(path.stat().st_size for path in (folder / "js").rglob("*") if path.is_file())
        record = len(made[0].state().packed())
    finally:
        for agent in agents:
            agent.close()
        server.send_signal(signal.SIGTERM)
        server.wait(10)
    rate = {key: (after[key] - before[key]) / passed for key in ("in_msgs", "out_msgs", "in_bytes", "out_bytes")}
    figures = (
        ("messages to the server", rate["in_msgs"], "/s"),
        ("messages from it", rate["out_msgs"], "/s"),
        ("to the server", rate["in_bytes"] / 1024, "KiB/s"),
        ("from it", rate["out_bytes"] / 1024, "KiB/s"),
        ("its CPU", 100 * used / passed, "% of a core"),
        ("storage", size / 1024**2, "MiB"),
        ("a coordinator reads all of it in", loading, "s"),
    )
    rows = [[label, f"{value:.1f} {unit}", f"{value * 10_000 / hosts:,.0f} {unit}"] for label, value, unit in figures]
    rows.append(["its memory", f"{after['mem'] / 1024**2:.0f} MiB", ""])
    rows.append(["a host's state", f"{record} bytes", ""])
    rows.append(["a policy is in force on half, all", f"{statistics.median(reached):.2f}, {reached[-1]:.2f} s ({len(reached)} hosts)", ""])
    print(table(["", f"{hosts} hosts x {guests} guests", "10,000 hosts"], rows))


if __name__ == "__main__":
    main()
