"""What talking to vdsm costs: CPU time of a thousand guests' statistics over TLS, and memory over thousands of cycles and reconnections.

    python benchmarks/vdsm/bench_vdsm.py [--guests 1000] [--rounds 30] [--cycles 10000] [--reconnects 1000] [--json]

vdsm is the test peer of tests/vdsm, a process of its own, over TLS with client certificates. One guest's entry has the shape of a
guest with two disks and two network interfaces under vdsm 4.50. CPU time is that of mom's whole process, all threads: reading, decrypting,
frames, JSON, mapping to fields.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/vdsm"))

TARGET_CPU_MS = 60.0
TARGET_GROWTH_MIB = 2.0
"""Memory of a process is not flat to the byte: what the allocator keeps moves by some hundred KiB."""

FEW_GUESTS = 20
"""For cycles and reconnections: what counts there is what each of them leaves behind."""


def extra(number: int) -> dict[str, object]:
    """What vdsm says of a guest beside what mom uses: disks, network interfaces, displays."""

    def disk(name: str) -> dict[str, object]:
        return {
            "truesize": "8503496704", "apparentsize": "21474836480", "readLatency": "0", "writeLatency": "421133", "flushLatency": "120410",
            "readRate": "0.0", "writeRate": "4164.26", "readOps": "9301", "writeOps": "120311", "readBytes": "283121664",
            "writtenBytes": "1811939328", "imageID": str(uuid.UUID(int=number * 7 + len(name))),
        }  # fmt: skip

    def interface(name: str) -> dict[str, object]:
        return {
            "name": name, "macAddr": f"56:6f:5c:00:{number // 256 % 256:02x}:{number % 256:02x}", "rxRate": "0.0", "txRate": "0.1",
            "rxErrors": "0", "txErrors": "0", "rxDropped": "0", "txDropped": "0", "rx": "912131", "tx": "112233", "speed": "1000",
            "state": "unknown", "sampleTime": 4301231.12,
        }  # fmt: skip

    return {
        "disks": {"vda": disk("vda"), "sdb": disk("sdb1")},
        "network": {"vnet0": interface("vnet0"), "vnet1": interface("vnet1")},
        "displayInfo": [
            {"tlsPort": "5901", "ipAddress": "192.0.2.17", "type": "spice", "port": "-1"},
            {"tlsPort": "-1", "ipAddress": "192.0.2.17", "type": "vnc", "port": "5902"},
        ],
        "guestIPs": "192.0.2.55 fe80::1a:4aff:fe16:1", "clientIp": "192.0.2.1", "appsList": ["kernel-6.1.0", "qemu-guest-agent-7.2"],
        "guestOs": "6.1.0-18-amd64", "monitorResponse": "0", "statusTime": "4301231120", "vmJobs": {}, "balloonInfoAge": "3",
        "diskMappingHash": "-1230998123123", "displaySecurePort": "5901", "lastLogin": 1718000000.11, "session": "UserLoggedOn",
        "ioTune": [{"path": "/rhev/data-center/mnt/blockSD/x", "name": "vda", "read_bytes_sec": "0", "total_bytes_sec": "104857600"}],
    }  # fmt: skip


def machines(count: int) -> list[dict[str, object]]:
    """Guests for the peer."""
    return [{"id": str(uuid.UUID(int=number + 1)), "name": f"guest-{number}", "extra": extra(number)} for number in range(count)]


class Setting:
    """A peer with guests, and a hypervisor that talks to it."""

    def __init__(self, folder: Path, guests: int) -> None:
        from vdsm_pki import make_ca, write_pki
        from vdsm_process import Vdsm

        from mom_core import PluginContext, StateFile
        from mom_kvm import Address
        from mom_plugins_vdsm.connection import VdsmConnection, VdsmConnectionSettings
        from mom_plugins_vdsm.hypervisor import HypervisorSettings, VdsmHypervisor
        from mom_plugins_vdsm.incarnations import FORM, Incarnations
        from mom_plugins_vdsm.tls import TlsFiles

        pki = write_pki(folder / "pki", make_ca())
        self.vdsm = Vdsm("--pki", str(pki), "--sample-every", "0")
        self.vdsm.add(*machines(guests))
        log = logging.getLogger("bench")
        files = TlsFiles(pki / "keys/vdsmkey.pem", pki / "certs/vdsmcert.pem", pki / "certs/cacert.pem")
        self.connection = VdsmConnection(VdsmConnectionSettings(Address(host="127.0.0.1", port=self.vdsm.port), files), log)
        self.connection.start()
        marks = Incarnations(StateFile(folder / "guests.json", "guests' starts", FORM), "", time.monotonic)
        settings = HypervisorSettings(answer_timeout=30.0, statistics_kept=0.0)
        self.hypervisor = VdsmHypervisor(self.connection, settings, marks, PluginContext("vdsm"))

    def cycle(self) -> int:
        """List the guests and map their fields, as one cycle does; how many there are."""
        guests = self.hypervisor.guests()
        return len(self.hypervisor.fields(guests))

    def end(self) -> None:
        """Leave nothing behind."""
        self.connection.close()
        self.vdsm.end()


def rss_kib() -> int:
    """What this process holds of the machine's memory."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def measure_cpu(guests: int, rounds: int) -> dict[str, float]:
    """CPU time of one bulk answer, and its size."""
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        setting = Setting(Path(folder), guests)
        try:
            assert setting.cycle() == guests
            setting.cycle()
            gc.freeze()  # as `mom run` does once everything is set up
            spent = []
            for _ in range(rounds):
                began = time.process_time()
                assert setting.cycle() == guests
                spent.append((time.process_time() - began) * 1e3)
            answer = json.dumps(setting.connection.call("Host.getAllVmStats", {}, 30.0, "measuring"))
        finally:
            setting.end()
    return {"guests": guests, "kib": len(answer) / 1024, "mean_ms": statistics.mean(spent), "worst_ms": max(spent)}


def soak(what: str, turns: int, turn: Callable[[Setting], None]) -> dict[str, float | str]:
    """Memory before and after many turns: after the first tenth, which fills caches and pools, and at the end."""
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        setting = Setting(Path(folder), FEW_GUESTS)
        try:
            settled = 0
            began = time.monotonic()
            for number in range(turns):
                turn(setting)
                if number == turns // 10:
                    gc.collect()
                    settled = rss_kib()
            gc.collect()
            grown = (rss_kib() - settled) / 1024
            seconds = time.monotonic() - began
            descriptors = len(list(Path("/proc/self/fd").iterdir()))
        finally:
            setting.end()
    return {"what": what, "turns": turns, "growth_mib": grown, "rss_mib": rss_kib() / 1024, "seconds": seconds, "files": descriptors}


def one_cycle(setting: Setting) -> None:
    """A cycle that also changes something."""
    assert setting.cycle() == FEW_GUESTS
    guest = setting.hypervisor.guests()[0].entity
    setting.hypervisor.set_balloon(guest, 3 << 20)


def one_reconnection(setting: Setting) -> None:
    """vdsm ends the connection, and the next cycle opens another one."""
    opened = setting.connection.opened
    setting.cycle()
    assert setting.connection.opened == opened + 1
    setting.vdsm.do("drop")
    until = time.monotonic() + 10
    while setting.connection._session is not None:
        assert time.monotonic() < until
        time.sleep(0.001)


def measure_apart(kind: str, *numbers: int) -> dict[str, float]:
    """Measure in a process of its own, so that memory is that of this measurement only."""
    command = [sys.executable, __file__, "--one", kind, *map(str, numbers)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def one(kind: str, numbers: list[int]) -> dict[str, float | str] | dict[str, float]:
    """One measurement."""
    logging.disable(logging.ERROR)
    if kind == "cpu":
        return measure_cpu(*numbers)
    turn = one_cycle if kind == "cycles" else one_reconnection
    return soak(kind, numbers[0], turn)


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description="CPU time and memory of talking to vdsm.")
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--reconnects", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        json.dump(one(arguments.one[0], [int(number) for number in arguments.one[1:]]), sys.stdout)
        return 0
    cpu = measure_apart("cpu", arguments.guests, arguments.rounds)
    soaks = [measure_apart("cycles", arguments.cycles), measure_apart("reconnections", arguments.reconnects)]
    if arguments.json:
        json.dump({"cpu": cpu, "soaks": soaks}, sys.stdout, indent=2)
        print()
        return 0
    print(f"Python {platform.python_version()}; CPU time of the whole process, all threads\n")
    print(f"{cpu['guests']:,.0f} guests, {cpu['kib']:,.0f} KiB over TLS: mean {cpu['mean_ms']:.1f} ms, worst {cpu['worst_ms']:.1f} ms")
    for s in soaks:
        print(
            f"{s['turns']:,.0f} {s['what']} in {s['seconds']:.0f} s: {s['growth_mib']:+.2f} MiB after the first tenth, "
            f"{s['rss_mib']:.1f} MiB in all, {s['files']:.0f} open files"
        )
    met = cpu["mean_ms"] <= TARGET_CPU_MS * cpu["guests"] / 1000 and all(s["growth_mib"] <= TARGET_GROWTH_MIB for s in soaks)
    print("\nmet" if met else "\nMISSED", f"targets: {TARGET_CPU_MS:.0f} ms for 1,000 guests; {TARGET_GROWTH_MIB:.0f} MiB of growth")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
