"""Host of files with two guests. Real plugins set limits, pins, sizes and control groups; commands can fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from mom_core import (
    CpuTune,
    Decision,
    Declaration,
    DiskTune,
    Entity,
    FieldSpec,
    Guest,
    GuestBusy,
    HypervisorError,
    NetTune,
    Refused,
    Scope,
    Snapshot,
    Value,
    hookimpl,
)
from mom_devkit import FakeGuest, FakeHypervisor, host_of
from mom_devkit.hypervisors import USUAL_UNITS
from mom_kvm import NodeTune

MIB, GIB = 1 << 10, 1 << 20

Part: TypeAlias = "tuple[str, str, str]"
"""Guest or host, control, and item of a list."""

GROUP_FILES: Final = {
    "cgroup_memory_high": "memory.high",
    "cgroup_memory_low": "memory.low",
    "cgroup_memory_min": "memory.min",
    "cgroup_swap_max": "memory.swap.max",
}
HOST_FILES: Final = {
    "ksm_run": "sys/kernel/mm/ksm/run",
    "ksm_pages_to_scan": "sys/kernel/mm/ksm/pages_to_scan",
    "ksm_sleep_millisecs": "sys/kernel/mm/ksm/sleep_millisecs",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
}
BOOTED: Final = {"ksm_run": 0, "ksm_pages_to_scan": 100, "ksm_sleep_millisecs": 20, "numa_balancing": 0}
ITEMS: Final = {"io_tune": ("vda", "vdb"), "net_tune": ("vnet0",)}


class Killed(BaseException):
    """mom is killed."""


class SequenceHost(FakeHypervisor):
    """Hypervisor whose guests follow their balloons slowly. Commands and writes to files fail on request.

    :param root: folder of its files
    """

    def __init__(self, root: Path) -> None:
        super().__init__([])
        self.root = root
        self.away = self.is_short = False
        self.killed = False
        """Whether mom was killed: its later actions have no effect."""
        self.writes_left: int | None = None
        """Number of writes, to state files and to the host, until mom is killed; None for no kill."""
        self.fates: list[str] = []
        """Results of the next commands."""
        self.asked: dict[str, int] = {}
        """Targets of guests' balloons in KiB."""
        self._starts = self._theirs = 0
        self.boot()

    def boot(self) -> None:
        """Reboot the host, and start its guests."""
        nodes = {
            f"sys/devices/system/node/node{node}/{file}": text.format(node=node)
            for node, cpus in ((0, "0-3"), (1, "4-7"))
            for file, text in {
                "meminfo": "Node {node} MemTotal: 67108864 kB\nNode {node} MemFree: 60000000 kB\nNode {node} MemUsed: 7108864 kB\n",
                "cpulist": f"{cpus}\n",
                "distance": "10 21\n",
            }.items()
        }
        ksm = dict.fromkeys(
            ("merge_across_nodes", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "full_scans"), "0\n"
        )
        files = {
            **nodes,
            **{f"sys/kernel/mm/ksm/{name}": text for name, text in ksm.items()},
            **{HOST_FILES[control]: f"{value}\n" for control, value in BOOTED.items()},
            "sys/devices/system/node/online": "0-1\n",
            "proc/self/mountinfo": "31 24 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "proc/meminfo": f"MemTotal: {64 * GIB} kB\nMemAvailable: {40 * GIB} kB\nSwapTotal: {9 * GIB} kB\nSwapFree: {8 * GIB} kB\n",
        }
        host_of(self.root, files)
        for name in ("a", "b"):
            self.end(name)
            self.start(name)

    def start(self, name: str) -> None:
        """Start a guest with default values."""
        self._starts += 1
        group = {"cgroup.controllers": "memory", "memory.current": f"{512 << 20}", "memory.swap.current": "0", "memory.stat": "anon 0"}
        group |= {"memory.high": "max", "memory.low": "0", "memory.min": "0", "memory.swap.max": "max"}
        host_of(self.root, {f"sys/fs/cgroup/{name}/{file}": f"{text}\n" for file, text in group.items()})
        fields: dict[str, Value] = {"stats_age": 1.0, "mem_usable": 1800 * MIB, "mem_available": 2 * GIB, "mem_unused": 1700 * MIB}
        none = dict.fromkeys(DiskTune.LIMITS, 0)
        self.known[name] = FakeGuest(
            name,
            name,
            balloon_kib=2 * GIB,
            maximum_kib=2 * GIB,
            cpu=CpuTune(-1, 100_000, 1024, 100.0),
            disks=tuple(DiskTune(disk, f"/{disk}", none) for disk in ITEMS["io_tune"]),
            fields=fields,
            properties={"cgroups": {"": f"/{name}"}},
            incarnation=str(self._starts),
        )
        self.asked[name] = 2 * GIB

    def end(self, name: str) -> None:
        """End a guest."""
        self.known.pop(name, None)
        self.asked.pop(name, None)

    def pass_time(self, seconds: float) -> None:
        """Let guests follow their balloons."""
        for name, asked in self.asked.items():
            one, step = self.known[name], int(seconds * 40 * MIB)
            one.balloon_kib = min(asked, one.balloon_kib + step) if asked > one.balloon_kib else max(asked, one.balloon_kib - step)

    # --- actions of mom -----------------------------------------------------------------------------------------------------------

    def count_write(self) -> None:
        """Count a write of mom. Raise `Killed` if mom is killed before it."""
        if self.writes_left == 0:
            self.killed = True
        if self.killed:
            raise Killed
        if self.writes_left is not None:
            self.writes_left -= 1

    def carry_out(self, command: Callable[[], object]) -> None:
        """Run a command of mom, or let it fail."""
        self.count_write()
        fate = self.fates.pop() if self.fates else "done"
        if fate == "refused":
            raise Refused("not now")
        if fate == "failed":
            raise HypervisorError("no")
        command()
        if fate == "answer lost":
            raise GuestBusy("no answer")

    def guests(self) -> Sequence[Guest]:
        self._look()
        return [guest for guest in super().guests() if not (self.is_short and guest.name == "a")]

    def _running(self, guests: Sequence[Entity]) -> list[FakeGuest]:
        self._look()
        return [guest for guest in super()._running(guests) if not (self.is_short and guest.name == "a")]

    def _look(self) -> None:
        if self.away:
            raise HypervisorError("it does not answer")

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        self._look()
        self.guest(guest)
        self.carry_out(lambda: self.asked.update({guest.name: target_kib}))

    def set_cpu_tune(self, *one: Any, **more: Any) -> None:
        self._look()
        self.carry_out(lambda: FakeHypervisor.set_cpu_tune(self, *one, **more))

    def set_io_tune(self, *one: Any) -> None:
        self._look()
        self.carry_out(lambda: FakeHypervisor.set_io_tune(self, *one))

    def set_net_tune(self, *one: Any) -> None:
        self._look()
        self.carry_out(lambda: FakeHypervisor.set_net_tune(self, *one))

    def set_cpu_pin(self, *one: Any) -> None:
        self._look()
        self.carry_out(lambda: FakeHypervisor.set_cpu_pin(self, *one))

    def set_node_tune(self, *one: Any) -> None:
        self._look()
        self.carry_out(lambda: FakeHypervisor.set_node_tune(self, *one))

    # --- present values -------------------------------------------------------------------------------------------------------------

    def stands(self) -> dict[Part, object]:
        """Return all values that plugins can set. For a balloon, the value is its target."""
        found: dict[Part, object] = {("host", control, ""): (self.root / file).read_text().strip() for control, file in HOST_FILES.items()}
        for name, one in self.known.items():
            plain = {"vcpu_quota": one.cpu.quota_us, "vcpu_period": one.cpu.period_us, "cpu_shares": one.cpu.shares}
            plain["balloon_target"] = self.asked[name]
            found |= {(name, control, ""): value for control, value in plain.items()}
            found |= {(name, "io_tune", disk.name): dict(disk.current) for disk in one.disks}
            limits = {
                net.name: [{key: value for key, value in way.items() if value} for way in (net.inbound, net.outbound)]
                for net in one.interfaces
            }
            found |= {(name, "net_tune", interface): both for interface, both in limits.items()}
            found |= {(name, "vcpu_pins", ""): [sorted(cpus) for cpus in one.pins], (name, "numa_nodeset", ""): sorted(one.nodes.nodes)}
            group = self.root / "sys/fs/cgroup" / name
            found |= {(name, control, ""): (group / file).read_text().strip() for control, file in GROUP_FILES.items()}
        return found

    def set_by_another(self, part: Part) -> None:
        """Set a value as another process does: to a value that mom never sets, if possible."""
        name, control, item = part
        self._theirs += 1
        number = self._theirs
        if name == "host":
            switch = control in {"ksm_run", "numa_balancing"}
            (self.root / HOST_FILES[control]).write_text(f"{number % 2 if switch else 5000 + number}\n")
            return
        one = self.known[name]
        if control == "balloon_target":
            one.balloon_kib = self.asked[name] = GIB - 20_000 * number
        elif control == "io_tune":
            theirs = {"total_bytes_sec": 50_000_000 + number}
            one.disks = tuple(replace(disk, current={**disk.current, **theirs}) if disk.name == item else disk for disk in one.disks)
        elif control == "net_tune":
            one.interfaces = (NetTune(item, {"average": 50_000 + number}, {}),)
        elif control == "vcpu_pins":
            one.pins = [frozenset({2, 4 + number % 4}), frozenset({3, 4 + number % 4})]
        elif control == "numa_nodeset":
            one.nodes = NodeTune("strict", frozenset({0, 1}))
        elif control in GROUP_FILES:
            (self.root / "sys/fs/cgroup" / name / GROUP_FILES[control]).write_text(f"{(1900 * MIB + 4 * number) << 10}\n")
        else:
            change = {"vcpu_quota": "quota_us", "vcpu_period": "period_us", "cpu_shares": "shares"}[control]
            one.cpu = replace(one.cpu, **{change: (5000 if change == "shares" else 500_000) + number})


def hypervisor_of(host: SequenceHost) -> type:
    """Return a plugin with this hypervisor."""

    class Here:
        def __init__(self, settings: object, context: object) -> None: ...

        @hookimpl
        def mom_hypervisor(self) -> SequenceHost:
            return host

        @hookimpl
        def mom_declare(self) -> list[Declaration]:
            return [FieldSpec(name, unit, Scope.GUEST, name) for name, unit in USUAL_UNITS.items()]

        @hookimpl
        def mom_collect_guests(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
            return {one.id: one.collected() for one in host._running([guest.entity for guest in guests])}

    return Here


def wishes_of(wanted: Mapping[tuple[str, str], Value], *, broken: bool = False) -> type:
    """Return a plugin that decides these values, keyed by guest and control. A broken one cannot be constructed."""

    class Wishes:
        def __init__(self, settings: object, context: object) -> None:
            if broken:
                raise RuntimeError("a mistake")

        @hookimpl
        def mom_evaluate(self, snapshot: Snapshot) -> list[Decision]:
            host = {"host": Entity(Scope.HOST, "host", "host")}
            entities = host | {guest.name: guest.entity for guest in snapshot.guests.values()}
            return [Decision(entities[name], control, value) for (name, control), value in wanted.items() if name in entities]

    return Wishes
