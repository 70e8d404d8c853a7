"""What an account for each host costs the fleet's server: to enroll one host, its memory with all of them, to change a group, a
host's write, and how soon a host that is put out is out.

python benchmarks/fleet/bench_accounts.py [--hosts 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench_fleet import free_port

from mom_plugins_fleet.accounts import USER, FleetRoot, host_credentials, new_seed, resolver
from mom_plugins_fleet.link import Access, linked
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.subjects import STATES

LOG = logging.getLogger("bench")
WRITES = 200
WAIT_SECONDS = 120.0


def memory_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def measured(hosts: int, url: list[str], root: FleetRoot, server: int) -> None:
    seed = new_seed(USER)
    operator = Access(url, None, root.operator(Signer(seed).public, "operator"))
    async with linked(operator, "operator", LOG, patient=True) as store:
        await store.make(1)
    async with linked(Access(url, None, root.system_user()), "root", LOG, patient=True) as store:
        took = []
        for number in range(hosts):
            account, credentials = host_credentials(f"h{number}")
            given = root.host_account(account, f"h{number}", f"g{number % 20}", 1)
            began = time.monotonic()
            await root.give(store, given)
            took.append(time.monotonic() - began)
        first, last = statistics.median(took[:100]), statistics.median(took[-100:])
        print(
            f"{hosts} hosts: to enroll one takes {first * 1e3:.1f} ms at first, and {last * 1e3:.1f} ms at last; {sum(took):.1f} s in all"
        )
        print(f"the server's memory: {memory_mib(server):.0f} MiB")
        host = f"h{hosts - 1}"
        began = time.monotonic()
        await root.give(store, root.host_account(account, host, "another", 2))
        print(f"to change a host's group: {(time.monotonic() - began) * 1e3:.1f} ms")
        async with linked(Access(url, None, credentials), host, LOG, patient=True) as own:
            wrote = []
            for _ in range(WRITES):
                began = time.monotonic()
                await own.put(STATES, host, b"{}")
                wrote.append(time.monotonic() - began)
            print(f"a host's write: {statistics.median(wrote) * 1e3:.2f} ms")
            began = time.monotonic()
            await root.take(store, account)
            while own.connected:
                await asyncio.sleep(0.001)
            print(f"a host that is put out is out after {(time.monotonic() - began) * 1e3:.1f} ms")


def run(hosts: int, folder: Path) -> None:
    FleetRoot.make(folder / "root.key")
    root = FleetRoot(folder / "root.key")
    port = free_port()
    accounts = resolver(folder / "accounts") + root.server_config()
    (folder / "nats.conf").write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js" }}\n{accounts}')
    path = shutil.which("nats-server") or "/usr/sbin/nats-server"
    server = subprocess.Popen([path, "-c", str(folder / "nats.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(asyncio.wait_for(measured(hosts, [f"nats://127.0.0.1:{port}"], root, server.pid), WAIT_SECONDS))
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2000)
    with tempfile.TemporaryDirectory() as made:
        run(parser.parse_args().hosts, Path(made))
