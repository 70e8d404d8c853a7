"""Fields that the plugin collects."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import GuestField, guest_fields

PLUG_LIMIT: Final = "mem_plug_limit"
_PLUG_LIMIT: Final = "largest memory that the guest can have by hotplug, which mom never does; unknown without hotplug"

_DESCRIBED: Final = {
    **dict.fromkeys((GuestField.PERIOD, GuestField.REPORTING, GuestField.AUTODEFLATE), "the domain XML"),
    "balloon.maximum": "balloon.maximum minus unplugged virtio-mem and memory devices that are not RAM",
    GuestField.LEAST: "the domain XML's virtio-mem",
    GuestField.GIVE_BACK: "the domain XML's virtio-mem; its platform's report",
}


def _source(record: str) -> str:
    return f"libvirt {_DESCRIBED.get(record, record)}"


GUEST_FIELDS = (*guest_fields(_source), FieldSpec(PLUG_LIMIT, Unit.KIB, Scope.GUEST, _PLUG_LIMIT, "libvirt the domain XML's maxMemory"))
