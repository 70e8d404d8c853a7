"""The fields and controls: what the kernel tells of a guest's control group, and the files that limit and protect its memory."""

from __future__ import annotations

from typing import Final

from mom_core import ControlSpec, FieldSpec, Scope, Unit

CURRENT: Final = "cgroup_memory_current"
ANON: Final = "cgroup_memory_anon"
FILE: Final = "cgroup_memory_file"
SHMEM: Final = "cgroup_memory_shmem"
LOCKED: Final = "cgroup_memory_locked"
SWAP: Final = "cgroup_swap_current"
STALL: Final = "host_psi_memory_some_avg10"
"""The hypervisor's plugin collects it: the percentage of the last ten seconds in which a task of the guest waited for memory."""

MEMORY_HIGH: Final = "cgroup_memory_high"
MEMORY_LOW: Final = "cgroup_memory_low"
MEMORY_MIN: Final = "cgroup_memory_min"
SWAP_MAX: Final = "cgroup_swap_max"

NO_LIMIT: Final = -1
"""The kernel writes it as `max`."""

KNOBS: Final = {
    MEMORY_HIGH: ("memory.high", "above this, memory is taken from the guest and it is slowed down; -1: no limit"),
    MEMORY_LOW: ("memory.low", "below this, memory is taken from the guest only as a last resort; -1: all of it"),
    MEMORY_MIN: ("memory.min", "below this, memory is never taken from the guest; -1: all of it"),
    SWAP_MAX: ("memory.swap.max", "the most of the guest that may be in the host's swap; -1: no limit"),
}
"""Of each control the file, and what it does."""


def _field(name: str, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, Unit.KIB, Scope.GUEST, description, source)


FIELDS: Final = (
    _field(CURRENT, "host memory that the guest's cgroup holds: guest, QEMU and caches", "memory.current"),
    _field(ANON, "anonymous memory of cgroup_memory_current, as a guest's usually is", "memory.stat anon"),
    _field(FILE, "page cache of cgroup_memory_current", "memory.stat file"),
    _field(SHMEM, "shared memory of cgroup_memory_file, which needs swap to be taken", "memory.stat shmem"),
    _field(LOCKED, "what of cgroup_memory_current cannot be taken, such as memory that devices access directly", "memory.stat unevictable"),
    _field(SWAP, "memory of the guest's cgroup that is in the host's swap", "memory.swap.current"),
    *(_field(name, description, file) for name, (file, description) in KNOBS.items()),
)

# No bounds of limits here: a limit that is moved to a bound by itself would be another one than was meant. Such values are refused.
CONTROLS: Final = tuple(
    ControlSpec(name, Unit.KIB, Scope.GUEST, description, name, file=file) for name, (file, description) in KNOBS.items()
)
