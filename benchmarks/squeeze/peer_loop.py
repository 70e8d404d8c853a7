"""Run another manager's law on real guests, as often as that manager does:  peer_loop.py mom|pve|ksm LIBVIRT_URI PID_FOLDER

Runs without mom until SIGTERM. Balloons then stay as they are, as those managers leave them.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import peers

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from ksm import read_ksm, write_ksm  # only found from here on
from steady_host import pids_in  # as above


def host_seen(meminfo: Path = Path("/proc/meminfo")) -> peers.HostSeen:
    kib = {line.split(":")[0]: float(line.split()[1]) for line in meminfo.read_text().splitlines()}
    return peers.HostSeen(kib["MemTotal"], kib["MemFree"] + kib["Buffers"] + kib["Cached"], kib["MemAvailable"])


def guests_seen(connection: Any, least: float) -> dict[str, peers.GuestSeen]:
    """Return the guests with statistics, of any age: these managers do not check the age."""
    seen = {}
    for domain, record in connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_BALLOON, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT):
        if "balloon.unused" in record and "balloon.current" in record:
            maximum = record["balloon.maximum"]
            seen[domain.name()] = peers.GuestSeen(record["balloon.current"], maximum, record["balloon.unused"], least * maximum)
    return seen


def resize(connection: Any, targets: Mapping[str, float]) -> None:
    for name, size in targets.items():
        with suppress(libvirt.libvirtError):  # a guest that is gone or busy keeps what it has
            connection.lookupByName(name).setMemoryFlags(int(size), libvirt.VIR_DOMAIN_AFFECT_LIVE)


def committed(pids: Sequence[int]) -> float:
    """Return the address space of guests' processes in KiB, which ksmtuned counts as what they may use."""
    total = 0
    for pid in pids:
        with suppress(OSError):  # it may have ended
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                total += int(line.split()[1]) if line.startswith("VmSize:") else 0
    return total


def tune_ksm(pids: Sequence[int], host: peers.HostSeen) -> None:
    """Set KSM as ksmtuned does once a minute."""
    wish = peers.ksmtuned(int(read_ksm()["pages_to_scan"]), host.total, committed(pids), host.free)
    write_ksm({"pages_to_scan": str(wish.pages), "sleep_millisecs": str(wish.sleep_ms), "run": str(int(wish.run))})


def main(law: str, uri: str, pid_folder: Path) -> None:
    libvirt.registerErrorHandler(lambda *arguments: None, None)
    connection = libvirt.open(uri)
    history: deque[peers.Sample] = deque(maxlen=peers.MOM_SAMPLES)
    due = time.monotonic()
    round_ = 0
    while True:
        host = host_seen()
        if law == "mom":
            history.append((host, guests_seen(connection, 0.0)))
            if round_ % round(peers.MOM_SECONDS / peers.MOM_SAMPLE_SECONDS) == 1:
                resize(connection, peers.mom_targets(list(history)))
                tune_ksm(pids_in(pid_folder), host)
            due += peers.MOM_SAMPLE_SECONDS
        elif law == "pve":
            resize(connection, peers.pve_targets(host, guests_seen(connection, peers.PVE_LEAST)))
            due += peers.PVE_SECONDS
        else:
            tune_ksm(pids_in(pid_folder), host)
            due += peers.KSMTUNED_SECONDS
        round_ += 1
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
