"""How much CPU time mom needs for guests on libvirt.

    python benchmarks/libvirt/bench_libvirt.py [--cycles 24] [--guests 12] [--domains 1000] [--no-real] [--json] [--record]

conversion  what a real libvirtd answered for twelve guests (answer.json), taken for 1,000: to fields; and the whole listing with fields of
            that, with the guests' XML known; time of this thread
watch       one look at 1,000 guests from which memory was taken, with new statistics of all, and with none; time of all threads
host        what the host sees of 1,000 guests: real processes of this machine, one of which stands for many; time of this thread
cycle       whole cycles of a real engine with all plugins that need nothing but a host, on real guests of a libvirtd of its own (as in
            tests/real), each with a qemu-guest-agent that is asked through libvirt, which is the dearest way; `mode: observe`, one cycle
            every 5 s; CPU time of the whole process, all threads, everything between the cycles included. Skipped where there is no
            hypervisor.

`--record` writes answer.json anew from those guests.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mom_core import PluginContext, Report

HERE = Path(__file__).parent
ANSWER = HERE / "answer.json"
INTERVAL = 5
ROUNDS = 12

GUEST_MIB = 256
AGENTS_SECONDS = 90.0
"""By when all guests' agents must have been heard."""

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"

CONVERSION_TARGET_MS = 15.0
CYCLE_TARGET_MS = 15.0
"""Of at most so many ms for 1,000 domains, and for twelve real guests."""

Record = Mapping[str, object]


def answers(rounds: int, many: int) -> list[list[Record]]:
    """The recorded answer as it would be for so many guests in so many cycles: everything that counts has grown by what it grew then."""
    recorded: Sequence[Record] = json.loads(ANSWER.read_text(encoding="utf-8"))
    counters = ("time", "swap_in", "swap_out", "major_fault", "minor_fault", "delay", "user", "system")

    def later(record: Record, cycle: int, guest: int) -> Record:
        grown = dict(record)
        for key, value in record.items():
            name = key.rpartition(".")[2]
            if isinstance(value, int) and name in counters:
                grown[key] = value + cycle * (guest + 1000)
            elif name == "last-update" and isinstance(value, int):
                grown[key] = value + INTERVAL * cycle
        return grown

    return [[later(recorded[guest % len(recorded)], cycle, guest) for guest in range(many)] for cycle in range(rounds)]


def conversion(many: int) -> list[float]:
    """Milliseconds for so many records to become fields, in each of the cycles after the first."""
    from mom_kvm import convert
    from mom_kvm.statistics import Reading

    rounds = answers(ROUNDS, many)
    base = max(value for record in rounds[0] if isinstance(value := record.get("balloon.last-update"), int))
    readings: list[Reading | None] = [None] * many
    spent = []
    for cycle, records in enumerate(rounds):
        now = 1000.0 + INTERVAL * cycle
        wall = base + 1.0 + INTERVAL * cycle
        began = time.thread_time()
        for guest, record in enumerate(records):
            _, readings[guest] = convert(record, readings[guest], wall=wall, monotonic=now, stale_after=10.0)
        spent.append((time.thread_time() - began) * 1e3)
    return spent[1:]


class RecordedDomain:
    """A guest whose answers were recorded."""

    xml = "<domain><devices><memballoon model='virtio'><stats period='2'/></memballoon></devices></domain>"

    def __init__(self, number: int) -> None:
        self.number = number
        self.uuid = str(uuid.UUID(int=number))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Any] = {
            "name": f"guest-{self.number}", "UUIDString": self.uuid, "ID": self.number + 1, "XMLDesc": self.xml, "jobStats": {"type": 0},
        }  # fmt: skip
        return lambda *_: answers[name]


class RecordedLibvirt:
    """Takes the place of libvirt's binding: the answers that were recorded, one after the other."""

    libvirtError = OSError  # noqa: N815  # as below
    VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE = VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT = 0

    def __init__(self, many: int) -> None:
        self.rounds = [iter(answers(ROUNDS, many))]
        self.domains = [RecordedDomain(number) for number in range(many)]

    def __getattr__(self, name: str) -> int:
        if name.startswith("VIR_"):
            return 0
        raise AttributeError(name)

    def open(self, uri: str) -> RecordedLibvirt:
        """It is its own connection."""
        return self

    def isAlive(self) -> int:  # noqa: N802  # libvirt's name
        """It always is."""
        return 1

    def close(self) -> int:
        """Nothing was opened."""
        return 0

    def domainEventRegisterAny(self, *_: object) -> int:  # noqa: N802  # libvirt's name
        """No event ever comes."""
        return 0

    domainEventDeregisterAny = domainEventRegisterAny  # noqa: N815  # as above

    def getAllDomainStats(self, *_: object) -> list[tuple[RecordedDomain, Record]]:  # noqa: N802  # libvirt's name
        """The next answer."""
        return list(zip(self.domains, next(self.rounds[0]), strict=True))

    domainListGetStats = getAllDomainStats  # noqa: N815  # as above


def listing(many: int) -> list[float]:
    """Milliseconds for so many guests to be listed with their fields, in each of the cycles after the first, once all were described."""
    from mom_plugins_libvirt import Connection, ConnectionSettings
    from mom_plugins_libvirt.domains import SamplingSettings
    from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

    module = RecordedLibvirt(many)
    first = next(module.rounds[0])
    base = max(value for record in first if isinstance(value := record.get("balloon.last-update"), int))
    module.rounds[0] = iter([first] * 20 + answers(ROUNDS, many))
    log = logging.getLogger("bench")
    connection = Connection(ConnectionSettings("bench://elsewhere/", call_timeout=10.0), log, module)
    clock = [1000.0]
    sampling = SamplingSettings(wall=lambda: base + clock[0] - 999)
    hypervisor = LibvirtHypervisor(connection, sampling, PluginContext("libvirt", monotonic=lambda: clock[0]))
    for _ in range(20):
        hypervisor.guests()
    assert sum(guest.description is not None for guest in hypervisor.seen()) == many
    spent = []
    for _ in range(ROUNDS):
        clock[0] += INTERVAL
        began = time.process_time()  # the call itself is made by another thread
        guests = hypervisor.guests()
        hypervisor.fields(guests)
        spent.append((time.process_time() - began) * 1e3)
    connection.close()
    return spent[1:]


def watch(many: int) -> tuple[list[float], list[float]]:
    """Milliseconds of a look at so many guests that all have something new to tell, and of one at the same guests before they have."""
    from mom_core import Guest, Snapshot
    from mom_kvm.watch import GuestWatch
    from mom_plugins_libvirt import Connection, ConnectionSettings

    module = RecordedLibvirt(many)
    module.rounds[0] = iter([answer for answer in answers(ROUNDS, many) for _ in range(2)])
    log = logging.getLogger("bench")
    connection = Connection(ConnectionSettings("bench://elsewhere/", call_timeout=10.0), log, module)
    looking = GuestWatch(connection, 0.25, lambda _: None, log)
    fields = {"balloon_cur": 128 << 10, "mem_usable": 64 << 10, "balloon_max": 192 << 10}
    seen = Snapshot(guests={domain.uuid: Guest(domain.uuid, domain.name(), fields) for domain in module.domains})
    looking.follow(Report(1, 0.0, "enforce", seen, (), (), (), (), (), 0.0))
    spent = []
    for _ in range(2 * ROUNDS):
        began = time.process_time()
        looking.look()
        spent.append((time.process_time() - began) * 1e3)
    looking.stop()
    return spent[2::2], spent[3::2]


def host_side(many: int) -> list[float]:
    """Milliseconds for what the host sees of so many guests: each is this very process, with a command line that has its UUID in it."""
    from mom_kvm import HostSide
    from mom_plugins_libvirt.qemu_process import pid_of

    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        pids, proc = Path(folder, "pids"), Path(folder, "proc")
        pids.mkdir()
        for number in range(many):
            fake = proc / str(number + 1)
            fake.mkdir(parents=True)
            for name in ("stat", "status", "ksm_stat", "ksm_merging_pages", "cgroup", "smaps_rollup"):
                (fake / name).symlink_to(f"/proc/{os.getpid()}/{name}")
            (fake / "cmdline").write_bytes(b"qemu\0-uuid\0" + str(uuid.UUID(int=number)).encode() + b"\0")
            (pids / f"g{number}.pid").write_text(str(number + 1))
        Path(folder, "sys").symlink_to("/sys")
        side = HostSide(partial(pid_of, pids, proc), Path(folder), time.monotonic)
        uuids = [str(uuid.UUID(int=number)) for number in range(many)]
        spent = []
        for _ in range(ROUNDS):
            began = time.thread_time()
            side.follow((identity, f"g{number}", 1) for number, identity in enumerate(uuids))
            side.fields(uuids)
            spent.append((time.thread_time() - began) * 1e3)
        return spent[1:]


ALL_PLUGINS = ("host", "ksm", "qos", "cgroup", "numa", "guestagent", "balloon", "policy")


def real_cycles(count: int, cycles: int, record: bool) -> tuple[list[float], dict[str, float], list[str]] | str:
    """Milliseconds of each cycle on real guests, the mean of each plugin's part in it and the plugins; or why there are none."""
    sys.path.insert(0, str(HERE.parents[1] / "tests" / "real"))
    from agent_image import build_with_agents
    from guest_image import CannotBuild, cache_folder
    from private_libvirtd import CannotStart, PrivateLibvirtd
    from real_guests import Lab

    try:
        image = build_with_agents()
        libvirtd = PrivateLibvirtd(cache_folder())
    except (CannotBuild, CannotStart) as error:
        return str(error)
    try:
        libvirtd.start()
        lab = Lab(libvirtd, image)
        guests = [
            lab.start(f"bench{number}", mib=GUEST_MIB, period=2, workload=(20, 10, 10, 10), devices=CHANNEL) for number in range(count)
        ]
        for guest in guests:
            guest.wait_until_it_works()
        if record:
            import libvirt  # type: ignore[import-untyped]  # it has no types

            found = [answer for _, answer in lab.connection.getAllDomainStats(0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE)]
            ANSWER.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return _measured(libvirtd, cycles)
    except CannotStart as error:
        return str(error)
    finally:
        libvirtd.stop()


def _measured(libvirtd: Any, cycles: int) -> tuple[list[float], dict[str, float], list[str]]:
    from mom_core import Engine, load_config
    from mom_daemon.run import spare_the_garbage_collector

    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        plugins: dict[str, object] = {"libvirt": {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder)}}
        plugins |= {name: {} for name in ALL_PLUGINS}
        config = load_config(
            {
                "interval": f"{INTERVAL}s",
                "mode": "observe",
                "state_directory": f"{folder}/state",
                "run_directory": f"{folder}/run",
                "plugins": plugins,
            }
        )
        with Engine(config) as engine:
            end = time.monotonic() + AGENTS_SECONDS
            while not _all_agents_told(engine.cycle()):
                if time.monotonic() > end:
                    raise RuntimeError("not all agents have answered")
                time.sleep(1.0)
            spare_the_garbage_collector()
            spent, parts = [], dict.fromkeys(plugins, 0.0)
            for _ in range(cycles):
                began = time.process_time()
                started = time.monotonic()
                report = engine.cycle()
                time.sleep(max(0.0, INTERVAL - (time.monotonic() - started)))
                spent.append((time.process_time() - began) * 1e3)
                for plugin in report.plugins:
                    parts[plugin.name] += sum(plugin.durations.values()) * 1e3 / cycles
            return spent, parts, list(plugins)


def _all_agents_told(report: Report) -> bool:
    return all("guest_psi_memory_some_avg10" in guest.fields and "guest_os" in guest.fields for guest in report.snapshot.guests.values())


def main() -> int:
    """Measure, print, and say whether the targets were met."""
    parser = argparse.ArgumentParser(description="CPU time that guests on libvirt cost mom.")
    parser.add_argument("--cycles", type=int, default=24, help="cycles to measure on real guests")
    parser.add_argument("--guests", type=int, default=12, help="real guests")
    parser.add_argument("--domains", type=int, default=1000, help="recorded guests")
    parser.add_argument("--no-real", action="store_true", help="without real guests")
    parser.add_argument("--record", action="store_true", help="write answer.json anew")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    real = "not asked for" if arguments.no_real else real_cycles(arguments.guests, arguments.cycles, arguments.record)
    many = arguments.domains
    new, nothing_new = watch(many)
    parts = {
        "conversion": conversion(many),
        "listing with fields": listing(many),
        "watch, all is new": new,
        "watch, nothing is new": nothing_new,
        "host's view": host_side(many),
    }
    figures = {name: {"mean": statistics.mean(spent), "worst": max(spent)} for name, spent in parts.items()}
    if not isinstance(real, str):
        figures["cycle"] = {"mean": statistics.mean(real[0]), "worst": max(real[0])}
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{many:,} domains, ms of CPU time in one cycle")
        for name in parts:
            print(f"  {name:<22} {figures[name]['mean']:6.1f}   worst {figures[name]['worst']:6.1f}")
        if isinstance(real, str):
            print(f"real guests: skipped: {real}")
        else:
            print(f"{arguments.guests} real guests with {', '.join(real[2])}: ms of CPU time in one cycle, of the whole process")
            print(f"  {'cycle':<22} {figures['cycle']['mean']:6.1f}   worst {figures['cycle']['worst']:6.1f}")
            print("  (time that passed in each plugin: " + ", ".join(f"{name} {ms:.1f}" for name, ms in real[1].items()) + ")")
    met = figures["conversion"]["mean"] <= CONVERSION_TARGET_MS
    met = met and (isinstance(real, str) or figures["cycle"]["mean"] <= CYCLE_TARGET_MS)
    if not arguments.json:
        print("targets met" if met else "targets MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
