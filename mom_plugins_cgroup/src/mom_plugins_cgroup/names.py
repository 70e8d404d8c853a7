"""The names of fields and controls."""

from __future__ import annotations

MEMORY_HIGH = "cgroup_memory_high"
MEMORY_LOW = "cgroup_memory_low"
MEMORY_MIN = "cgroup_memory_min"
SWAP_MAX = "cgroup_swap_max"
CPU_WEIGHT = "cgroup_cpu_weight"
IO_MAX = "cgroup_io_max"
IO_LATENCY = "cgroup_io_latency"
RECLAIM = "cgroup_reclaim"

MEMORY_CONTROLS = (MEMORY_HIGH, MEMORY_LOW, MEMORY_MIN, SWAP_MAX)
LIST_CONTROLS = (IO_MAX, IO_LATENCY)
CONTROL_NAMES = (*MEMORY_CONTROLS, CPU_WEIGHT, *LIST_CONTROLS, RECLAIM)

CURRENT = "cgroup_memory_current"
ANON = "cgroup_memory_anon"
FILE = "cgroup_memory_file"
SHMEM = "cgroup_memory_shmem"
LOCKED = "cgroup_memory_locked"
SWAP = "cgroup_swap_current"
REFAULTS = "cgroup_refaults"
STALL = "cgroup_memory_stall"
RECLAIMED = "cgroup_reclaimed"
RECLAIM_STATE = "cgroup_reclaim_state"

NO_LIMIT = -1
"""What the kernel writes as `max`."""
