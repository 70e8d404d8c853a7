"""Fields that the plugin collects, and settings of single guests."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import FieldSpec, GuestColumn, GuestSettings, Scope, Size, Unit
from mom_kvm import GuestField


class QemuGuestSettings(GuestSettings):
    """Settings of a guest in the section `guests`."""

    memory: Annotated[Size, Field(gt=0)] | None = None
    """Assigned memory. If the balloon cannot work, virtio-mem resizes the guest up to this size. Patterns: name or UUID."""


PLUGGED: Final = "plugged_cur"
PLUGGED_MAXIMUM: Final = "plugged_max"


def _field(name: str, unit: Unit, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


KEEPS_ALL: Final = "keeps_all_memory"
SIZED_BY: Final = "sized_by"
VIRTIO_MEM: Final = "virtio-mem"

_SIZED_BY: Final = f"device by which mom sets the guest's size: `balloon` or `{VIRTIO_MEM}`; only for guests with one virtio-mem device"
_VOUCHED: Final = (
    "the guest's memory according to its definition; if mom cannot keep all guarantees, guarantees above this value shrink first;"
    " unknown without a definition"
)
_PLUGGED: Final = "memory plugged by virtio-mem; only for guests with one such device"

GUEST_FIELDS: Final = (
    *GuestField.ALL,
    _field("reclaim_cost", Unit.RATIO, "cost of taking memory from the guest; 1: normal", "Proxmox VE's shares / 1000"),
    _field(GuestField.VOUCHED, Unit.KIB, _VOUCHED, "Proxmox VE's definition, or the section `guests`"),
    _field(PLUGGED, Unit.KIB, _PLUGGED, "QMP query-memory-devices size"),
    _field(PLUGGED_MAXIMUM, Unit.KIB, "maximum memory that virtio-mem can plug", "QMP query-memory-devices max-size"),
    _field(SIZED_BY, Unit.TEXT, _SIZED_BY, "the guest's devices"),
    _field(KEEPS_ALL, Unit.TEXT, "why all of the guest's memory is guaranteed, and how to change that", "Proxmox VE's definition"),
)

WAY: Final = GuestColumn("way", (SIZED_BY,), Unit.TEXT, "device that sets the guest's size: its balloon or virtio-mem", 22, 4)

COLUMNS: Final = (GuestColumn(GuestColumn.REMARKS, (KEEPS_ALL,), Unit.TEXT, "why all memory of the guest is guaranteed"), WAY)
