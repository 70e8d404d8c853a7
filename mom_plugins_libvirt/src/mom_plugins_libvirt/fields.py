"""Fields that the plugin collects."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import GuestField, guest_fields

PLUG_LIMIT: Final = "mem_plug_limit"
_PLUG_LIMIT: Final = "largest memory that the guest can reach by hotplug; mom itself never hotplugs memory; unknown without hotplug"

_DESCRIBED: Final = {
    **dict.fromkeys((GuestField.PERIOD, GuestField.REPORTING, GuestField.AUTODEFLATE), "domain XML"),
    "balloon.maximum": "balloon.maximum minus unplugged virtio-mem and memory devices that are not RAM",
    GuestField.LEAST: "domain XML's virtio-mem",
    GuestField.GIVE_BACK: "domain XML's virtio-mem, or a report of the guest's platform",
}


def _source(record: str) -> str:
    return f"libvirt {_DESCRIBED.get(record, record)}"


GUEST_FIELDS = (*guest_fields(_source), FieldSpec(PLUG_LIMIT, Unit.KIB, Scope.GUEST, _PLUG_LIMIT, "libvirt domain XML's maxMemory"))
