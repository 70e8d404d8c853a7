"""One guest of QEMU as its monitor shows it: who it is, how it was when it was seen last, and what follows from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mom_core import Value, printable
from mom_kvm import GuestField, Record, SeenGuest
from mom_plugins_qemu.command_line import Identity
from mom_plugins_qemu.description import Description, VirtioMem
from mom_plugins_qemu.fields import KEEPS_ALL, PLUGGED, PLUGGED_MAXIMUM, SIZED_BY, VIRTIO_MEM
from mom_plugins_qemu.guest_files import Defined, GuestFile
from mom_plugins_qemu.proxmox import GuestDefinition
from mom_plugins_qemu.states import why_left_alone
from mom_plugins_qemu.visits import Visit

FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 10.0
"""How long a monitor that did not answer is left in peace: doubled from the first to the last. A backup holds one for minutes."""


PAUSED: Final = "paused"
"""QEMU's word for a guest whose CPUs stand still."""


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
    if description is None or description.balloon_works or description.immovable or len(devices) != 1:
        return None
    if guest is None or guest.memory is None:
        return None
    (device,) = devices
    if not device.path:
        return None
    sold = min(guest.memory >> 10, description.fixed_kib + device.maximum_kib)
    why = description.pinned or "the guest has no balloon device"
    return ByVirtioMem(device, description.fixed_kib, max(sold, description.fixed_kib), why)


@dataclass(slots=True, eq=False, kw_only=True)
class MonitoredGuest(SeenGuest):
    """The guest behind one monitor, since its QEMU was started. Belongs to the sampler's lock."""

    path: str
    process: int
    started: int
    identity: Identity
    guessed: bool = False
    """Its id is by its process alone, as it was started without a UUID and has not said yet who it is."""
    own_name: str = ""
    """Its name by QEMU; `name` is what the operator calls it, where that is another one."""
    description: Description | None = None
    described_at: float = 0.0
    describe_at: float = 0.0
    looking: tuple[bytes, int] = (b"", 0)
    status: str = ""
    migration: str = ""
    polling: int | None = None
    """Its statistics period; None: unknown."""
    virtio_mem: tuple[VirtioMem, ...] = ()
    switches: Mapping[str, Value] | None = None
    """The fields of what its balloon device does by itself; None: not asked yet."""
    number: str = ""
    """Its VMID, where it is Proxmox VE's."""
    definition: GuestDefinition | None = None
    defined: Defined | None = None
    """The operator's definition."""
    failure: str = ""
    """Why its monitor gave no answer to the last visit; empty where it did."""
    possible_kib: int = 0
    """The most memory that it could have at the last look, which is repeated where the guest is to have more."""
    turn_at: float = 0.0
    """When its monitor was visited last, in monotonic seconds."""
    retry_at: float = 0.0
    retry_after: float = FIRST_RETRY_SECONDS

    @property
    def without_balloon(self) -> bool:
        """virtio-mem sizes it."""
        return self.way is not None

    @property
    def plugged_kib(self) -> int:
        """KiB that virtio-mem has plugged in."""
        return sum(device.size_kib for device in self.virtio_mem)

    def visit(self, questions: tuple[bytes, int]) -> Visit:
        """A visit to its monitor, at which its own process is asked, and no other."""
        return Visit(self.path, questions, self.process, self.started)

    def left_alone(self) -> str:
        """By its monitor's silence, and QEMU's status."""
        return self.failure or why_left_alone(self.status, self.migration)

    @property
    def way(self) -> ByVirtioMem | None:
        """How virtio-mem sizes it; None: it does not."""
        return by_virtio_mem(self.description, self.virtio_mem, None if self.defined is None else self.defined.guest)

    def with_maximum(self, record: Record) -> Record:
        """This record, with the size that virtio-mem may bring the guest to as its maximum."""
        way, size = self.way, record.get("balloon.current")
        if way is None or not isinstance(size, int):
            return record
        return {**record, "balloon.maximum": max(way.sold_kib, size)}

    def contradicts(self, record: Record) -> bool:
        """What it says now, taken by `take`, does not fit the size that it was described with: it lies, or it was given memory since."""
        size, maximum = record.get("balloon.current"), record.get("balloon.maximum")
        larger = isinstance(size, int) and isinstance(maximum, int) and size > maximum
        return larger or (self.reading is not None and bool(self.reading.impossible))

    def obstacle(self, *, while_paused: bool = False, while_moved: bool = False) -> str:
        """Why nothing can be changed of it now; empty where something can.

        :param while_paused: that it is paused is in the way of nothing
        :param while_moved: nor is that it is being migrated, as long as it runs here
        """
        if self.defined is not None and self.defined.wrong:
            return f"the guest's definition is wrong, so what it is promised is not known: {self.defined.wrong}"
        if self.definition is not None and self.definition.lock:
            return f"Proxmox VE has locked the guest: {printable(self.definition.lock)[:40]}"
        if self.number and self.definition is None:
            return "the guest's definition cannot be read, so what it is promised is not known"
        status = "running" if while_paused and self.status == PAUSED else self.status
        return self.failure or why_left_alone(status, "" if while_moved else self.migration)

    def all_fields(self) -> dict[str, Value]:
        """Its fields by its monitor and its definition."""
        fields = {**self.fields, **(self.switches or {})}
        if self.polling is not None and not self.failure:
            fields[GuestField.PERIOD] = self.polling
        if self.least is not None and not self.failure:
            fields[GuestField.LEAST] = self.least
        if len(self.virtio_mem) == 1 and not self.failure:
            (device,) = self.virtio_mem
            fields |= {PLUGGED: device.size_kib, PLUGGED_MAXIMUM: device.maximum_kib}
            works = self.description is not None and self.description.balloon_works
            if self.way is not None or works:
                fields[SIZED_BY] = VIRTIO_MEM if self.way is not None else "balloon"
        if self.defined is not None and self.defined.guest.memory is not None:
            fields[GuestField.VOUCHED] = self.defined.guest.memory >> 10
        elif self.definition is not None and self.definition.memory_mib is not None:
            fields[GuestField.VOUCHED] = self.definition.memory_mib << 10
        if self.definition is not None and self.definition.reclaim_cost is not None:
            fields["reclaim_cost"] = self.definition.reclaim_cost
        if self.definition is not None and self.definition.keeps_all and self.balloon:
            fields[KEEPS_ALL] = f"it has no Minimum memory, so it gives none; to change that: {self.definition.how_to_give(self.number)}"
        return fields
