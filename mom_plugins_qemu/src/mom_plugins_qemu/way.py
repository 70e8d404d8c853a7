"""Which of the two ways to size a guest is used for it: its balloon, or virtio-mem. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mom_plugins_qemu.description import Description, VirtioMem
from mom_plugins_qemu.guest_files import GuestFile


@dataclass(frozen=True, slots=True)
class ByVirtioMem:
    """A guest that virtio-mem sizes. Its size is what it has by itself (`fixed_kib`) and what is plugged in; KiB."""

    device: VirtioMem
    fixed_kib: int
    sold_kib: int
    why: str

    def plugged_for(self, target_kib: int) -> int:
        """KiB that have to be plugged in for that size, in the device's steps; less than what cannot be unplugged is that."""
        step = max(1, self.device.block_kib)
        return min(-(-max(target_kib - self.fixed_kib, 0) // step) * step, self.device.maximum_kib)

    def guaranteed_kib(self, guest: GuestFile) -> int:
        """Memory that stays with the guest whatever is asked: what it is promised, and what cannot be unplugged."""
        promised = None if guest.guarantee is None else guest.guarantee.kib_of(self.sold_kib)
        return max(self.fixed_kib, int(promised or 0))


def by_virtio_mem(description: Description | None, devices: Sequence[VirtioMem], guest: GuestFile | None) -> ByVirtioMem | None:
    """How virtio-mem sizes this guest; None where its balloon does, or nothing can.

    A balloon is preferred where it works: it moves by the page, and the guest's kernel gives what it can do without, while virtio-mem needs
    whole blocks in which nothing is that cannot be moved. What the guest was sold has to be known from its file: what is plugged in now
    may be what an earlier mom has left.
    """
    if description is None or description.balloon_works or description.confidential or len(devices) != 1:
        return None
    if guest is None or guest.memory is None:
        return None
    (device,) = devices
    sold = min(guest.memory >> 10, description.fixed_kib + device.maximum_kib)
    why = description.pinned or "the guest has no balloon device"
    return ByVirtioMem(device, description.fixed_kib, max(sold, description.fixed_kib), why)
