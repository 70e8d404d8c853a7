"""The fields that the plugin collects."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_guests import AUTODEFLATE, PERIOD, REPORTING, guest_fields, host_fields

GIVE_BACK: Final = "give_back"
_GIVE_BACK: Final = (
    "why mom is to give back what it took from the guest, and to leave it as it is until that is over, such as a migration that is about to"
    " begin; unknown: nothing is known of such"
)

PLUG_LIMIT: Final = "mem_plug_limit"
_PLUG_LIMIT: Final = "the guest's memory after all that may be plugged into it while it runs; mom plugs nothing; unknown: nothing may be"

_DESCRIBED: Final = {
    **dict.fromkeys((PERIOD, REPORTING, AUTODEFLATE), "the domain XML"),
    "balloon.maximum": "balloon.maximum less unplugged virtio-mem",
}


def _source(record: str) -> str:
    return f"libvirt {_DESCRIBED.get(record, record)}"


GUEST_FIELDS = (
    *guest_fields(_source),
    FieldSpec(PLUG_LIMIT, Unit.KIB, Scope.GUEST, _PLUG_LIMIT, "libvirt the domain XML's maxMemory"),
    FieldSpec(GIVE_BACK, Unit.TEXT, Scope.GUEST, _GIVE_BACK, "libvirt the domain XML's virtio-mem; what its platform says"),
)
HOST_FIELDS = host_fields(_source)
