"""What the plugin declares to collect and to set."""

from __future__ import annotations

from mom_core import ControlSpec, FieldSpec, Scope, Unit
from mom_plugins_cgroup.devices import free
from mom_plugins_cgroup.names import (
    ANON,
    CPU_WEIGHT,
    CURRENT,
    FILE,
    IO_LATENCY,
    IO_MAX,
    LIST_CONTROLS,
    LOCKED,
    MEMORY_HIGH,
    MEMORY_LOW,
    MEMORY_MIN,
    RECLAIM,
    RECLAIM_STATE,
    RECLAIMED,
    REFAULTS,
    SHMEM,
    STALL,
    SWAP,
    SWAP_MAX,
)


def _field(name: str, unit: Unit, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


def _pressure(resource: str, kind: str, who: str, what: str) -> FieldSpec:
    name = f"host_psi_{resource}_{kind}_avg10"
    description = f"time that {who} of the guest's tasks on the host waited for {what}, average of 10 s"
    return _field(name, Unit.PERCENT, description, f"{resource}.pressure {kind} avg10 of the guest's cgroup")


_KNOBS = (
    (MEMORY_HIGH, Unit.KIB, "above this, memory is taken from the guest and it is slowed down; -1: no limit", "memory.high"),
    (MEMORY_LOW, Unit.KIB, "below this, memory is taken from the guest only as a last resort; -1: all of it", "memory.low"),
    (MEMORY_MIN, Unit.KIB, "below this, memory is never taken from the guest; -1: all of it", "memory.min"),
    (SWAP_MAX, Unit.KIB, "the most of the guest that may be in the host's swap; -1: no limit", "memory.swap.max"),
    (CPU_WEIGHT, Unit.PERCENT, "the guest's weight when CPUs are short, of the usual one", "cpu.weight"),
    (IO_MAX, Unit.LIST, "limits on the host's disks: `device`, `rbps`, `wbps` (B/s), `riops`, `wiops` (1/s); -1: no limit", "io.max"),
    (IO_LATENCY, Unit.LIST, "latency targets on the host's disks: `device` and `target` (us); -1: none", "io.latency"),
)

_V1 = {MEMORY_HIGH: "memory.soft_limit_in_bytes", CPU_WEIGHT: "cpu.shares", IO_MAX: "blkio.throttle.*"}

FIELDS = (
    _field(CURRENT, Unit.KIB, "host memory that the guest's cgroup holds: guest, QEMU and caches", "memory.current"),
    _field(ANON, Unit.KIB, "of that, anonymous memory, as a guest's usually is", "memory.stat anon"),
    _field(FILE, Unit.KIB, "of that, page cache", "memory.stat file"),
    _field(SHMEM, Unit.KIB, "of that page cache, shared memory, which needs swap to be taken", "memory.stat shmem"),
    _field(LOCKED, Unit.KIB, "what of it cannot be taken, such as what devices were given to the guest for", "memory.stat unevictable"),
    _field(SWAP, Unit.KIB, "memory of the guest's cgroup that is in the host's swap", "memory.swap.current"),
    _field(
        REFAULTS, Unit.PAGES_PER_SECOND, "pages that were needed again soon after the host took them", "memory.stat workingset_refault_*"
    ),
    _field(STALL, Unit.PERCENT, "time since the last sample in which a task of the guest waited for memory", "memory.pressure some total"),
    _pressure("memory", "some", "at least one", "memory"),
    _pressure("memory", "full", "all", "memory"),
    _pressure("cpu", "some", "at least one", "CPU"),
    _pressure("cpu", "full", "all", "CPU"),
    _pressure("io", "some", "at least one", "I/O"),
    _pressure("io", "full", "all", "I/O"),
    *(
        _field(name, unit, description, f"{file} ({_V1[name]} with cgroups v1)" if name in _V1 else file)
        for name, unit, description, file in _KNOBS
    ),
    _field(RECLAIM, Unit.KIB_PER_SECOND, "how fast mom may take memory that the guest does not touch; 0: not at all", "mom"),
    _field(RECLAIMED, Unit.KIB, "what mom has taken so since it knows the guest", "memory.reclaim"),
    _field(RECLAIM_STATE, Unit.TEXT, "why nothing was taken in the last step; unknown if something was, or nothing is to be", "mom"),
)

_MOST_PACE = 1 << 30
"""1 TiB a second is more than any host could take."""

_WEIGHT_TOLERANCE = 0.05
"""A share of 1024 is 0.098 %; half of that tells two of them apart."""

# No bounds of limits here: a limit that is moved to a bound by itself would be another one than was meant. Such values are refused.
CONTROLS = (
    *(
        ControlSpec(
            name,
            unit,
            Scope.GUEST,
            description,
            name,
            tolerance=_WEIGHT_TOLERANCE if name == CPU_WEIGHT else 0.0,
            key="device" if name in LIST_CONTROLS else "",
            absent=free(name) if name in LIST_CONTROLS else None,
        )
        for name, unit, description, _ in _KNOBS
    ),
    ControlSpec(
        RECLAIM,
        Unit.KIB_PER_SECOND,
        Scope.GUEST,
        "take memory that the guest does not touch, at most so fast, in this cycle; to be decided in each",
        RECLAIM,
        0,
        _MOST_PACE,
        renewed=True,
    ),
)
