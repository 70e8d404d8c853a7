"""What an account for each host costs the fleet's server: its configuration, how long it takes to start, its memory, and a host's write.

python benchmarks/fleet/bench_accounts.py [--hosts 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import nkeys  # type: ignore[import-untyped]  # it has no types
from bench_fleet import free_port

from mom_plugins_fleet.link import Access, linked
from mom_plugins_fleet.records import Member
from mom_plugins_fleet.subjects import STATES, server_accounts

LOG = logging.getLogger("bench")
WRITES = 200
START_SECONDS = 120.0


def new_key(file: Path) -> str:
    """A key in a file; its public part."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    file.write_bytes(seed)
    file.chmod(0o600)
    return str(nkeys.from_seed(seed).public_key.decode())


def memory_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def started(access: Access) -> None:
    """The server answers, and has the buckets."""
    async with linked(access, "operator", LOG, patient=True) as store:
        await store.make(1)


async def write_ms(access: Access, host: str) -> float:
    """The median of a host's writes, in ms."""
    took = []
    async with linked(access, host, LOG, patient=True) as store:
        for _ in range(WRITES):
            began = time.monotonic()
            await store.put(STATES, host, b"{}")
            took.append(time.monotonic() - began)
    return statistics.median(took) * 1e3


def run(hosts: int, folder: Path) -> None:
    operator = new_key(folder / "operator.key")
    members = {f"h{n}": Member(group=f"g{n % 20}", key=new_key(folder / "host.key")) for n in range(hosts)}
    text = server_accounts(members, [operator])
    (folder / "hosts.conf").write_text(text)
    port = free_port()
    (folder / "nats.conf").write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/js" }}\ninclude hosts.conf\n')
    url = [f"nats://127.0.0.1:{port}"]
    path = shutil.which("nats-server") or "/usr/sbin/nats-server"
    began = time.monotonic()
    server = subprocess.Popen([path, "-c", str(folder / "nats.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(asyncio.wait_for(started(Access(url, None, folder / "operator.key")), START_SECONDS))
        print(f"{hosts} hosts: a configuration of {len(text) / 1024**2:.1f} MiB")
        print(f"the server is there after {time.monotonic() - began:.1f} s (looked at once a second)")
        print(f"its memory: {memory_mib(server.pid):.0f} MiB")
        last = f"h{hosts - 1}"  # whose key is the one in the file
        print(f"a host's write: {asyncio.run(write_ms(Access(url, None, folder / 'host.key'), last)):.2f} ms")
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=2000)
    with tempfile.TemporaryDirectory() as made:
        run(parser.parse_args().hosts, Path(made))
