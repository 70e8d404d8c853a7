"""Fields that QEMU guests have under all hypervisors."""

from __future__ import annotations

from typing import ClassVar, Final

from mom_core import FieldSpec, Scope, Unit


class GuestField:
    """Names of guests' fields that code refers to, and the declarations of all fields."""

    ALL: ClassVar[tuple[FieldSpec, ...]]
    """Fields of each guest. Sources such as `balloon.current` are libvirt's names."""

    BALLOON: Final = "balloon_target"
    PERIOD: Final = "balloon_stats_period"
    REPORTING: Final = "balloon_reporting"
    AUTODEFLATE: Final = "balloon_autodeflate"
    LEAST: Final = "balloon_least"
    GIVE_BACK: Final = "give_back"
    HUGE_PAGES: Final = "host_huge_pages"
    QEMU_OVERHEAD: Final = "host_qemu_overhead"
    LIMIT_ROOM: Final = "host_limit_room"
    VOUCHED: Final = "mem_vouched"
    REBOOT_AGE: Final = "reboot_age"


def _process(name: str, unit: Unit, description: str, file: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, f"/proc/PID/{file} of the guest's QEMU process")


def _group(name: str, description: str, file: str) -> FieldSpec:
    return FieldSpec(name, Unit.PERCENT, Scope.GUEST, description, f"{file} of the guest's cgroup")


def _pressure(resource: str, kind: str, who: str, what: str) -> FieldSpec:
    description = f"time that {who} of the guest's tasks on the host waited for {what}, average of 10 s"
    return _group(f"host_psi_{resource}_{kind}_avg10", description, f"{resource}.pressure {kind} avg10")


MEMORY: Final = (
    ("mem_available", Unit.KIB, "all memory that the guest's kernel manages", "balloon.available"),
    ("mem_unused", Unit.KIB, "memory that the guest does not use", "balloon.unused"),
    ("mem_usable", Unit.KIB, "memory that the guest can release without swapping", "balloon.usable"),
    ("mem_disk_caches", Unit.KIB, "memory that the guest uses as disk cache", "balloon.disk_caches"),
)
"""Statistics from the guest's kernel. No value can exceed the guest's total memory, `mem_available`."""

COUNTERS: Final = (
    ("swap_in", Unit.KIB_PER_SECOND, "memory read back from the guest's swap", "balloon.swap_in"),
    ("swap_out", Unit.KIB_PER_SECOND, "memory written to the guest's swap", "balloon.swap_out"),
    ("major_fault", Unit.PER_SECOND, "page faults in the guest with I/O", "balloon.major_fault"),
    ("minor_fault", Unit.PER_SECOND, "page faults in the guest without I/O", "balloon.minor_fault"),
)
"""Fields that are growth rates of the kernel's counters, which start at the guest's boot."""

_SAID: Final = (
    ("balloon_cur", Unit.KIB, "the guest's present memory", "balloon.current"),
    ("balloon_max", Unit.KIB, "the guest's memory with an empty balloon", "balloon.maximum"),
    (GuestField.LEAST, Unit.KIB, "smallest size that the balloon can reach: it cannot take memory plugged by virtio-mem;"
     " unknown without a limit", "virtio-mem devices"),
    (GuestField.GIVE_BACK, Unit.TEXT, "reason why mom must return the guest's memory and then keep its size, such as an imminent migration;"
     " unknown without a reason", "virtio-mem devices, or the guest's platform"),
    ("balloon_rate", Unit.KIB_PER_SECOND, "rate at which the guest's size changes; negative while it shrinks", "balloon.current"),
    (GuestField.REPORTING, Unit.FLAG, "1: free page reporting is on: the guest's kernel (Linux 5.7 or later) returns freed memory; 0: off",
     "balloon device"),
    (GuestField.AUTODEFLATE, Unit.FLAG, "1: the balloon deflates when the guest runs out of memory; 0: it does not",
     "balloon device"),
    ("rss", Unit.KIB, "host memory that the guest's QEMU process holds", "balloon.rss"),
    *MEMORY,
    ("mem_usable_soon", Unit.KIB, "`mem_usable` expected at the time of the next statistics that mom can act on, if memory use grows as"
     " between the last two; known only for watched guests whose memory use grows", "balloon.usable, twice"),
    *COUNTERS,
    ("stats_age", Unit.SECONDS, "age of the guest's own statistics", "balloon.last-update"),
    (GuestField.REBOOT_AGE, Unit.SECONDS, "time since the guest's last reboot; unknown if mom has seen no reboot", "balloon.minor_fault"),
    ("stats_rejected", Unit.COUNT, "impossible statistics from the guest since mom first saw it", "balloon.*"),
    (GuestField.PERIOD, Unit.SECONDS, "period of the guest's balloon statistics; 0: off", "balloon device"),
    ("vcpu_count", Unit.COUNT, "virtual CPUs of the guest", "vcpu.current"),
    ("cpu_usage", Unit.PERCENT, "CPU time of the guest; 100 is one host CPU", "cpu.time"),
)  # fmt: skip
"""Fields from the hypervisor: name, unit, description and source."""

_SEEN: Final = (
    _process("host_minor_faults", Unit.COUNT, "the QEMU process's page faults without I/O since the last sample", "stat"),
    _process("host_major_faults", Unit.COUNT, "the QEMU process's page faults with I/O since the last sample", "stat"),
    _process("host_cpu_usage", Unit.PERCENT, "CPU time of the QEMU process with all its threads; 100 is one host CPU", "stat"),
    _process("host_swap", Unit.KIB, "memory of the guest that is in the host's swap", "status VmSwap"),
    _process("host_ksm_merged", Unit.KIB, "memory of the guest that KSM has merged", "ksm_stat ksm_merging_pages"),
    _process("host_ksm_profit", Unit.KIB, "memory that KSM saves in the guest, minus the memory for KSM's own data; may be negative",
             "ksm_stat ksm_process_profit"),
    FieldSpec(GuestField.LIMIT_ROOM, Unit.KIB, Scope.GUEST, "memory that the guest's cgroup can still take before the kernel kills"
              " processes at the limit of this or a parent cgroup; unknown without a limit",
              "memory.max, memory.current and memory.stat inactive_file of the guest's cgroups"),
    FieldSpec(GuestField.HUGE_PAGES, Unit.KIB, Scope.GUEST, "host memory that the guest's QEMU process holds in transparent huge pages",
              "memory.stat anon_thp of the guest's cgroup, or /proc/PID/smaps AnonHugePages of its QEMU process"),
    _process(GuestField.QEMU_OVERHEAD, Unit.KIB, "host memory and swap of the QEMU process outside of the guest's memory, measured"
             " occasionally; unknown until measured", "smaps Rss and Swap"),
    _group("host_cgroup_cpu_usage", "CPU time of the guest's cgroup: QEMU and its helpers; 100 is one host CPU",
           "cpu.stat usage_usec"),
    _group("host_cgroup_throttled", "time that a CPU quota throttled the guest's cgroup; more than 100 % if it throttled several CPUs",
           "cpu.stat throttled_usec"),
    *(_pressure(resource, kind, who, awaited)
      for resource, awaited in (("memory", "memory"), ("cpu", "CPU"), ("io", "I/O"))
      for kind, who in (("some", "at least one"), ("full", "all"))),
)  # fmt: skip


GuestField.ALL = (*(FieldSpec(name, unit, Scope.GUEST, description, source) for name, unit, description, source in _SAID), *_SEEN)
