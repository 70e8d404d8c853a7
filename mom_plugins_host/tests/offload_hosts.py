"""Hosts of files, and hypervisors that move cold memory themselves."""

from collections.abc import Sequence

from mom_core import Entity
from mom_devkit import FakeGuest, FakeHypervisor
from mom_kvm import SwapStore

SCOPE = "/machine.slice/machine-qemu.scope"
V1_MOUNT = "31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2_MOUNT = "31 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
ZRAM_SWAPS = f"{SWAPS}/dev/zram0                              partition\t6291452\t\t1048576\t\t100\n"
ZRAM = {
    "proc/swaps": ZRAM_SWAPS,
    "sys/block/zram0/mm_stat": f"{1 << 30} {300 << 20} {320 << 20} 0 {320 << 20} 0 0 0 0\n",
    "sys/class/block/zram0/queue/rotational": "0\n",
}


def process(pid: int, *, major_faults: int = 0, status: str = "") -> dict[str, str]:
    """Return the files of a process in /proc."""
    numbers = ["S", "1", str(pid), str(pid), "0", "-1", "4194560", "100", "0", str(major_faults), "0", "10", "5", "0", "0", "20", "0"]
    numbers += ["5", "0", "777", "0", "262144", *["0"] * 26]
    return {f"proc/{pid}/stat": f"{pid} (qemu) {' '.join(numbers)}\n", f"proc/{pid}/status": f"Name:\tqemu\nVmLck:\t0 kB\n{status}"}


class MovingHypervisor(FakeHypervisor):
    """Hypervisor that moves memory, and records requests."""

    def __init__(self, guests: Sequence[FakeGuest], stores: Sequence[SwapStore] | None = None) -> None:
        super().__init__(guests)
        self.stores = [SwapStore("zram0", SwapStore.Kind.ZRAM, 6 << 20, 5 << 20, 1 << 20, 400 << 10)] if stores is None else stores
        self.moved: list[tuple[str, int]] = []
        self.barren: dict[str, str] = {}
        """Reasons of guests that release nothing, keyed by name."""

    def swap_stores(self) -> Sequence[SwapStore]:
        return self.stores

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> SwapStore.Offloaded:
        self.moved.append((guest.name, kib))
        return SwapStore.Offloaded(0, 0.001, self.barren[guest.name]) if guest.name in self.barren else SwapStore.Offloaded(kib, 0.001)
