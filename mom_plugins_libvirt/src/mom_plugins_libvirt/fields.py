"""What the plugin declares to collect."""

from __future__ import annotations

from mom_core import FieldSpec, Scope, Unit

PERIOD = "balloon_stats_period"

_PROCESS = "/proc/PID/{} of the guest's QEMU process"
_GROUP = "{} of the guest's cgroup"


def _libvirt(name: str, unit: Unit, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, f"libvirt {source}")


def _process(name: str, unit: Unit, description: str, file: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, _PROCESS.format(file))


def _pressure(resource: str, kind: str, who: str, what: str) -> FieldSpec:
    description = f"time that {who} of the guest's tasks on the host waited for {what}, average of 10 s"
    source = _GROUP.format(f"{resource}.pressure {kind} avg10")
    return FieldSpec(f"host_psi_{resource}_{kind}_avg10", Unit.PERCENT, Scope.GUEST, description, source)


GUEST_FIELDS = (
    _libvirt("balloon_cur", Unit.KIB, "the guest's memory with its balloon as it is now", "balloon.current"),
    _libvirt("balloon_max", Unit.KIB, "the guest's memory with an empty balloon", "balloon.maximum less unplugged virtio-mem"),
    _libvirt("balloon_rate", Unit.KIB_PER_SECOND, "how fast the guest grows; negative: shrinks", "balloon.current"),
    _libvirt("rss", Unit.KIB, "host memory that the guest's QEMU process holds", "balloon.rss"),
    _libvirt("mem_available", Unit.KIB, "all memory that the guest's kernel manages", "balloon.available"),
    _libvirt("mem_unused", Unit.KIB, "memory that the guest uses for nothing", "balloon.unused"),
    _libvirt("mem_usable", Unit.KIB, "memory that the guest can give without swapping", "balloon.usable"),
    _libvirt(
        "mem_usable_soon",
        Unit.KIB,
        "what will be usable when mom can act on the guest's next statistics, if it goes on as between its last two; known only of guests"
        " that are watched, while they use up memory",
        "balloon.usable, twice",
    ),
    _libvirt("mem_disk_caches", Unit.KIB, "memory that the guest uses as disk cache", "balloon.disk_caches"),
    _libvirt("swap_in", Unit.KIB_PER_SECOND, "read back from the guest's swap", "balloon.swap_in"),
    _libvirt("swap_out", Unit.KIB_PER_SECOND, "written to the guest's swap", "balloon.swap_out"),
    _libvirt("major_fault", Unit.PER_SECOND, "page faults in the guest that needed I/O", "balloon.major_fault"),
    _libvirt("minor_fault", Unit.PER_SECOND, "page faults in the guest that needed none", "balloon.minor_fault"),
    _libvirt("stats_age", Unit.SECONDS, "age of what the guest itself reported", "balloon.last-update"),
    _libvirt("stats_rejected", Unit.COUNT, "figures that the guest reported since mom knows it and that cannot be true", "balloon.*"),
    _libvirt(PERIOD, Unit.SECONDS, "how often libvirt has the guest report; 0: never", "the domain XML"),
    _libvirt("vcpu_count", Unit.COUNT, "virtual CPUs of the guest", "vcpu.current"),
    _libvirt("cpu_usage", Unit.PERCENT, "CPU time of the guest, 100 being one host CPU", "cpu.time"),
    _process("host_minor_faults", Unit.COUNT, "the QEMU process's page faults without I/O since the last sample", "stat"),
    _process("host_major_faults", Unit.COUNT, "the QEMU process's page faults with I/O since the last sample", "stat"),
    _process("host_cpu_usage", Unit.PERCENT, "CPU time of the QEMU process with all its threads, 100 being one host CPU", "stat"),
    _process("host_swap", Unit.KIB, "memory of the guest that is in the host's swap", "status VmSwap"),
    _process("host_ksm_merged", Unit.KIB, "memory of the guest that KSM has merged", "ksm_stat ksm_merging_pages"),
    _process("host_ksm_profit", Unit.KIB, "what KSM saves there, less its own costs; may be negative", "ksm_stat ksm_process_profit"),
    FieldSpec(
        "host_cgroup_cpu_usage",
        Unit.PERCENT,
        Scope.GUEST,
        "CPU time of the guest's cgroup: QEMU and its helpers, 100 being one host CPU",
        _GROUP.format("cpu.stat usage_usec, or cpuacct.usage"),
    ),
    FieldSpec(
        "host_cgroup_throttled",
        Unit.PERCENT,
        Scope.GUEST,
        "time that a CPU quota held the guest's cgroup back; more than 100 where it held back several CPUs",
        _GROUP.format("cpu.stat throttled_usec"),
    ),
    _pressure("memory", "some", "at least one", "memory"),
    _pressure("memory", "full", "all", "memory"),
    _pressure("cpu", "some", "at least one", "CPU"),
    _pressure("cpu", "full", "all", "CPU"),
    _pressure("io", "some", "at least one", "I/O"),
    _pressure("io", "full", "all", "I/O"),
)

HOST_FIELDS = (
    FieldSpec("guests_silent", Unit.COUNT, Scope.HOST, "guests whose balloon driver does not answer", "libvirt balloon.last-update"),
    FieldSpec("guests_distrusted", Unit.COUNT, Scope.HOST, "guests that report what cannot be true", "libvirt balloon.*"),
)
