"""Findings of `mom doctor` about libvirt and its guests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mom_core import Finding, Severity
from mom_kvm import Cures
from mom_plugins_libvirt import LibvirtHypervisor

_REPORTING_FROM = 6_009_000
"""First version of libvirt with freePageReporting."""

SUBJECT: Final = "libvirt"

_UNMERGED: Final = "<memoryBacking><nosharepages/></memoryBacking> (virsh edit)"
_BALLOON_CURE: Final = "add <memballoon model='virtio'/> to their devices (virsh edit), then stop and start them"


def examined(hypervisor: LibvirtHypervisor, *, stats_period: float) -> Iterable[Finding]:
    """Yield findings about the connection and the guests. Raise `HypervisorError` if libvirt does not answer."""
    guests = hypervisor.guests()
    yield Finding(Severity.OK, SUBJECT, f"{hypervisor.uri} answers; {len(guests)} active guests")
    changes = hypervisor.examined_changes()
    yield changes
    reporting = _switching("freePageReporting") if hypervisor.library_version >= _REPORTING_FROM else ""
    cures = Cures(SUBJECT, _BALLOON_CURE, "virsh dommemstat GUEST --period {} --live", reporting, _switching("autodeflate"), _UNMERGED)
    yield from cures.examine(hypervisor, guests, hypervisor.seen(), acts=changes.severity is Severity.OK, stats_period=stats_period)


def _switching(attribute: str) -> str:
    return f"virt-xml GUEST --edit --memballoon {attribute}=on, or {attribute}='on' in <memballoon> (virsh edit)"
