"""Guests of QEMU according to the last answers of their monitors. Guests may lack a UUID, or claim the same UUID."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Value, printable
from mom_kvm import GuestField, SeenGuest, StatisticsRecord
from mom_plugins_qemu.description import Description, VirtioMem
from mom_plugins_qemu.fields import KEEPS_ALL, PLUGGED, PLUGGED_MAXIMUM, SIZED_BY, VIRTIO_MEM
from mom_plugins_qemu.proxmox import GuestDefinition, ProxmoxGuest
from mom_plugins_qemu.qemu_process import Identity
from mom_plugins_qemu.visits import Failure, Visit

MOVED_AWAY: Final = "postmigrate"
"""State of a guest that has migrated to another QEMU process, perhaps on this host."""

COMING: Final = "inmigrate"
"""State of a guest that is being migrated in, and waits for its memory from another QEMU process."""

_STATES: Final = {
    "running": ("running", ""),
    "paused": ("paused", "the guest is paused"),
    "suspended": ("suspended", "the guest is suspended"),
    "shutdown": ("shutting down", "the guest is shutting down"),
    COMING: ("paused", "the guest is being migrated in"),
    MOVED_AWAY: ("paused", "the guest was migrated out"),
    **dict.fromkeys(("guest-panicked", "internal-error"), ("crashed", "the guest is crashed")),
}


def state_of(status: str) -> tuple[str, str]:
    """Return a readable name of QEMU's RunState, and why the state forbids changes (empty if it permits them)."""
    return _STATES.get(status, ("paused", f"QEMU says that the guest is in the state {printable(status, 40)!r}"))


_MIGRATING: Final = frozenset(
    {"setup", "active", "pre-switchover", "device", "wait-unplug", "cancelling", "postcopy-active", "postcopy-paused", "postcopy-recover"}
)
"""Values of QEMU's MigrationStatus during a migration. Afterwards QEMU reports `completed`, `failed` or `cancelled`."""


def _why_left_alone(status: str, migration: str) -> str:
    """Return why this state forbids changes; empty if it allows them.

    :param migration: status of the last migration; empty if none
    """
    return state_of(status)[1] or ("the guest is being migrated" if migration in _MIGRATING else "")


def index_guests(guests: Collection[MonitoredGuest]) -> tuple[dict[str, MonitoredGuest], Mapping[str, str]]:
    """Choose one monitor for each guest, and set the guests' names.

    Return the guests, keyed by ID, and messages about monitors that claim another guest's ID, keyed by monitor path.

    If two processes claim an ID, the process started with this ID wins. Otherwise, a guest that has migrated away, or is waiting to be
    migrated in, loses.
    """
    by_id: dict[str, MonitoredGuest] = {}
    duplicates: dict[str, str] = {}
    for guest in sorted(guests, key=_precedence):
        if not guest.id:
            continue
        guest.name = guest.own_name or guest.id
        first = by_id.setdefault(guest.id, guest)
        if first.process != guest.process:
            duplicates[guest.path] = f"it claims to be guest {printable(first.name)}, whose monitor is {first.path}"
        elif first is not guest:
            guest.proxmox = guest.proxmox or first.proxmox
            first.proxmox = first.proxmox or guest.proxmox
            if first.failure and not guest.failure:
                by_id[guest.id] = guest
    return by_id, duplicates


def _precedence(guest: MonitoredGuest) -> tuple[bool, bool, bool]:
    return guest.id != guest.identity.uuid, guest.status == MOVED_AWAY, guest.status == COMING


def id_by_process(guest: MonitoredGuest, guests: Iterable[MonitoredGuest]) -> str:
    """Return an ID for a guest without a UUID. All monitors of its process yield the same ID."""
    same = [guest, *(other for other in guests if (other.process, other.started) == (guest.process, guest.started))]
    confirmed = next((other.id for other in same if other.id and not other.guessed), "")
    return confirmed or str(uuids.uuid5(uuids.NAMESPACE_URL, f"qmp:{min(other.path for other in same)}"))


def guess_ids(guests: Collection[MonitoredGuest]) -> None:
    """Assign IDs to guests whose monitors have not answered since mom started. mom needs an ID to restore a guest's size."""
    for guest in guests:
        silent = guest.failure in {Failure.OCCUPIED, Failure.LATE}
        if guest.guessed or (not guest.id and silent and guest.identity.monitored):
            guest.id, guest.guessed = id_by_process(guest, guests), True
            guest.own_name = guest.identity.name or Path(guest.path).stem


FIRST_RETRY_SECONDS: Final = 0.5
LAST_RETRY_SECONDS: Final = 10.0
"""Longest pause after a monitor did not answer. Each pause is twice as long as the one before."""

PAUSED: Final = "paused"

LIES: Final = "its monitor says that"
"""Beginning of a guest's `failure` if its monitor gave an impossible answer."""


@dataclass(frozen=True, slots=True)
class VirtioMemSizing:
    """How virtio-mem resizes a guest. The size is `fixed_kib` plus the plugged memory. `sold_kib` is the assigned memory."""

    device: VirtioMem
    fixed_kib: int
    sold_kib: int

    def plugged_for(self, target_kib: int) -> int:
        """Return how many KiB must be plugged for a target size: whole blocks, rounded up."""
        step = max(1, self.device.block_kib)
        return min(-(-max(target_kib - self.fixed_kib, 0) // step) * step, self.device.maximum_kib)


def virtio_mem_sizing(description: Description | None, devices: Sequence[VirtioMem], assigned_kib: int | None) -> VirtioMemSizing | None:
    """Return how virtio-mem resizes a guest; None if it does not.

    The assigned memory must be known, because an earlier run of mom may have unplugged memory.
    """
    # mom prefers a working balloon, because virtio-mem needs whole blocks of movable pages.
    if description is None or description.balloon_works or description.immovable or len(devices) != 1:
        return None
    (device,) = devices
    if assigned_kib is None or not device.path:
        return None
    sold = min(assigned_kib, description.fixed_kib + device.maximum_kib)
    return VirtioMemSizing(device, description.fixed_kib, max(sold, description.fixed_kib))


@dataclass(slots=True, eq=False, kw_only=True)
class MonitoredGuest(SeenGuest):
    """One run of a guest, as one monitor reports it. The sampler's lock protects it."""

    path: str
    process: int
    started: int
    """Start time of the process in clock ticks; 0 if unknown."""
    identity: Identity
    guessed: bool = False
    """Whether `guess_ids` has assigned the ID, because the guest's own UUID is still unknown."""
    own_name: str = ""
    """The guest's name in QEMU."""
    description: Description | None = None
    described_at: float = 0.0
    cycle_questions: tuple[bytes, int] = (b"", 0)
    """Queries of each cycle, as bytes, and their number."""
    status: str = ""
    migration: str = ""
    virtio_mem: tuple[VirtioMem, ...] = ()
    switches: Mapping[str, Value] | None = None
    """The balloon device's features; None if not read yet."""
    proxmox: ProxmoxGuest | None = None
    assigned_kib: int | None = None
    """Assigned memory in the section `guests`; None if not set."""
    failure: str = ""
    """Why the last query failed; empty if it was answered."""
    possible_kib: int = 0
    """Largest size that the process and the host have allowed so far."""
    asked_at: float = 0.0
    retry_at: float = 0.0
    retry_pause: float = FIRST_RETRY_SECONDS
    """Monotonic times of the last query to the monitor, and of the next after a failure; the pause before the one after that."""

    @property
    def without_balloon(self) -> bool:
        """Whether virtio-mem resizes the guest."""
        return self.sizing is not None

    @property
    def plugged_kib(self) -> int:
        """KiB plugged by virtio-mem."""
        return sum(device.size_kib for device in self.virtio_mem)

    def visit(self, questions: tuple[bytes, int]) -> Visit:
        """Return a visit that makes these queries only to this guest's process."""
        return Visit(self.path, questions, self.process)

    def postpone(self, now: float) -> None:
        """Schedule the next query after a failed one. Each further pause is twice as long."""
        self.retry_at, self.retry_pause = now + self.retry_pause, min(2 * self.retry_pause, LAST_RETRY_SECONDS)

    def left_alone(self) -> str:
        """Return why the monitor or QEMU's status forbids changes; empty if neither does."""
        return self.failure or _why_left_alone(self.status, self.migration)

    def remarks(self, monotonic: float) -> Iterator[SeenGuest.Remark]:
        """Yield why mom cannot rely on the guest."""
        yield from super(MonitoredGuest, self).remarks(monotonic)
        if self.failure.startswith((Failure.GARBLED, LIES)):
            hint = "check this QEMU process: the guest may have broken out of it; mom leaves this guest alone"
            yield SeenGuest.Remark("garbled", self.failure, hint)

    @property
    def sizing(self) -> VirtioMemSizing | None:
        """How virtio-mem resizes the guest; None if it does not."""
        return virtio_mem_sizing(self.description, self.virtio_mem, self.assigned_kib)

    def with_maximum(self, record: StatisticsRecord) -> StatisticsRecord:
        """Return the record. If virtio-mem resizes the guest, replace the maximum by the assigned memory."""
        sizing, size = self.sizing, record.get("balloon.current")
        if sizing is None or not isinstance(size, int):
            return record
        return {**record, "balloon.maximum": max(sizing.sold_kib, size)}

    def contradicts(self, record: StatisticsRecord) -> bool:
        """Return whether a record has a larger size than the description allows, or impossible values."""
        size, maximum = record.get("balloon.current"), record.get("balloon.maximum")
        larger = isinstance(size, int) and isinstance(maximum, int) and size > maximum
        return larger or (self.reading is not None and bool(self.reading.impossible))

    @property
    def definition(self) -> GuestDefinition | None:
        """Proxmox VE's definition; None if missing or unreadable."""
        return None if self.proxmox is None else self.proxmox.definition

    def obstacle(self, *, while_paused: bool = False, while_migrating: bool = False) -> str:
        """Return why mom must not change the guest now; empty if mom may change it.

        :param while_paused: permit changes of a paused guest
        :param while_migrating: permit changes of a guest that is migrating away
        """
        definition = self.definition
        if self.proxmox is not None and definition is None:
            return "the guest's definition cannot be read, so its guarantee is unknown"
        if definition is not None and definition.lock:
            return f"Proxmox VE has locked the guest: {printable(definition.lock)[:40]}"
        status = "running" if while_paused and self.status == PAUSED else self.status
        return self.failure or _why_left_alone(status, "" if while_migrating else self.migration)

    def all_fields(self, monotonic: float) -> dict[str, Value]:
        """Return the guest's fields, from its monitor and definitions."""
        fields = {**self.fields, **(self.switches or {})}
        if not self.failure:
            fields |= self.balloon_fields(monotonic) | self._sizing_fields()
        if self.assigned_kib is not None:
            fields[GuestField.VOUCHED] = self.assigned_kib
        if self.proxmox is not None and (definition := self.proxmox.definition) is not None:
            if definition.memory_mib is not None:
                fields.setdefault(GuestField.VOUCHED, definition.memory_mib << 10)
            if definition.reclaim_cost is not None:
                fields["reclaim_cost"] = definition.reclaim_cost
            if definition.keeps_all and self.balloon:
                change = definition.how_to_give(self.proxmox.vmid)
                fields[KEEPS_ALL] = f"the guest has no Minimum memory, so mom takes no memory from it; to change that: {change}"
        return fields

    def _sizing_fields(self) -> dict[str, Value]:
        if len(self.virtio_mem) != 1:
            return {}
        (device,) = self.virtio_mem
        fields: dict[str, Value] = {PLUGGED: device.size_kib, PLUGGED_MAXIMUM: device.maximum_kib}
        if self.sizing is not None:
            fields[SIZED_BY] = VIRTIO_MEM
        elif self.description is not None and self.description.balloon_works:
            fields[SIZED_BY] = "balloon"
        return fields
