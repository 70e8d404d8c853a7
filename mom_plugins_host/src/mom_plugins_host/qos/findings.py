"""The findings of `mom doctor` on limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mom_core import CpuTuneControl, Finding, Guest, Hypervisor, HypervisorError, IoTuneControl, NetTuneControl, Severity, first_names
from mom_plugins_host.qos.bounds import QUOTA

SUBJECT = "limits of guests"
_CURE = (
    "run the guests under qemu:///system with the cgroup controller cpu (cgroup_controllers in /etc/libvirt/qemu.conf, and"
    " mounted when libvirtd starts), or do without CPU limits"
)


def findings(hypervisor: Hypervisor | None) -> Iterable[Finding]:
    """Say what can be limited, and what cannot, and why."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, SUBJECT, "not looked at: no hypervisor was reached")
        return
    missing = [
        what
        for what, capability in (("CPU time", CpuTuneControl), ("disks", IoTuneControl), ("network interfaces", NetTuneControl))
        if not isinstance(hypervisor, capability)
    ]
    if missing:
        yield Finding(Severity.WARNING, SUBJECT, f"{hypervisor.uri} cannot limit {', '.join(missing)}")
    try:
        guests = hypervisor.guests()
        if isinstance(hypervisor, CpuTuneControl) and guests:
            yield from _about_cpu(hypervisor, guests)
        if isinstance(hypervisor, IoTuneControl):
            disks = sum(len(tunes) for tunes in hypervisor.io_tunes([guest.entity for guest in guests]).values())
            yield Finding(Severity.OK, SUBJECT, f"{disks} disks of {len(guests)} guests can be limited")
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, f"the guests cannot be looked at: {error}", "see what the hypervisor plugin says above")


def _about_cpu(hypervisor: CpuTuneControl, guests: Sequence[Guest]) -> Iterable[Finding]:
    tunes = hypervisor.cpu_tunes([guest.entity for guest in guests])
    unknown = [guest for guest in guests if (tune := tunes.get(guest.id)) is None or tune.quota_us is None]
    if known := len(guests) - len(unknown):
        yield Finding(Severity.OK, SUBJECT, f"the CPU time of {known} guests can be limited")
    if unknown:
        # Only after a look does the list of guests say why not.
        again = hypervisor.guests() if isinstance(hypervisor, Hypervisor) else ()
        reasons = {reason for guest in again if (reason := guest.blocked.get(QUOTA, ""))}
        why = "; ".join(sorted(reasons)) or "the CPU limits cannot be read"
        message = f"{why} (guests {first_names([guest.name for guest in unknown])})"
        yield Finding(Severity.WARNING, SUBJECT, message, _CURE if reasons else "")
