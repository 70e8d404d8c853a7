"""Fields that the plugin collects."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import QEMU_GUEST_FIELDS

PLUG_LIMIT: Final = "mem_plug_limit"
_PLUG_LIMIT: Final = "largest memory that the guest can reach by hotplug; mom itself never hotplugs memory; unknown without hotplug"

GUEST_FIELDS = (*QEMU_GUEST_FIELDS, FieldSpec(PLUG_LIMIT, Unit.KIB, Scope.GUEST, _PLUG_LIMIT, "libvirt domain XML's maxMemory"))
