"""Findings of `mom doctor` about QEMU's monitors and guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mom_core import Finding, Severity, Value, as_number, format_kib, printable
from mom_kvm import Cures
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.hypervisor import cure as cure_of_proxmox
from mom_plugins_qemu.monitored_guest import LIES, MonitoredGuest

SUBJECT: Final = "qemu"

_SHOWN: Final = 10
"""Maximum number of guests without Minimum memory (Proxmox VE) that get separate findings. One finding lists the others."""

_CURES: Final = Cures(
    SUBJECT,
    balloon="start them with -device virtio-balloon-pci",
    reporting="add free-page-reporting=on to the guest's -device virtio-balloon-pci",
    autodeflate="add deflate-on-oom=on to the guest's -device virtio-balloon-pci",
)


_LET_READ: Final = "let mom's user read the definitions: usermod -aG www-data mom, then systemctl restart mom; or check them: qm config"


def examined(hypervisor: QemuHypervisor, *, stats_period: float) -> Iterable[Finding]:
    """Yield findings about monitors and guests. Raise `HypervisorError` on failure."""
    guests = hypervisor.guests()
    monitored = hypervisor.seen()
    for path, whose in hypervisor.foreign.items():
        text = f"mom does not use {printable(path)}: {whose}, who could impersonate any guest"
        yield Finding(Severity.WARNING, "monitor", text, "if that user runs QEMU here, add the user to `users` of the qemu plugin")
    if not guests:
        cure = "start guests with -qmp unix:PATH,server=on,wait=off, and add PATH to `sockets` of the qemu plugin"
        yield Finding(Severity.WARNING, SUBJECT, f"mom found no guest's monitor at {hypervisor.uri.removeprefix('qmp:')}", cure)
        return
    answering = [guest for guest in monitored if not guest.failure]
    yield Finding(Severity.OK, SUBJECT, f"{len(answering)} of {len(guests)} guests answer on their monitors")
    for reason in sorted({guest.failure for guest in monitored if guest.failure}):
        names = [guest.name for guest in monitored if guest.failure == reason]
        cure = "find the client that uses the monitor (ss -xp), or give mom a separate monitor: a second -qmp that `sockets` matches"
        if reason.startswith(LIES):
            cure = "check this QEMU process: the guest may have broken out of it"
        yield Finding(Severity.WARNING, "monitor", f"{Cures.named(names, ' left alone')}: {reason}", cure)
    for path, why in hypervisor.duplicates.items():
        text = f"{printable(path)}: {why}; mom does not use this monitor"
        yield Finding(Severity.WARNING, "monitor", text, "give each guest a UUID of its own (-uuid)")
    unread = [guest.name for guest in monitored if guest.proxmox is not None and guest.proxmox.definition is None]
    if unread:
        text = f"{Cures.named(unread, ' left alone')}: their definitions are unreadable or invalid, so their guarantees are unknown"
        yield Finding(Severity.WARNING, "Proxmox VE", text, _LET_READ)
    for vmid, name in hypervisor.resized_by_proxmox().items():
        text = f"pvestatd resizes {printable(name)} ({vmid}) every ten seconds: until this stops, mom does not change the guest's balloon"
        yield Finding(Severity.WARNING, "Proxmox VE", text, cure_of_proxmox(vmid))
    yield from _keeping_all([guest for guest in answering if guest.balloon], hypervisor.fields(guests))
    yield from _CURES.examine(hypervisor, guests, answering, acts=True, stats_period=stats_period)


def _keeping_all(guests: Sequence[MonitoredGuest], fields: Mapping[str, Mapping[str, Value]]) -> Iterable[Finding]:
    keeping = [
        (guest, guest.proxmox.vmid, definition)
        for guest in guests
        if guest.proxmox is not None and (definition := guest.proxmox.definition) is not None and definition.keeps_all
    ]
    for guest, vmid, definition in keeping[:_SHOWN]:
        usable, size = (as_number(fields.get(guest.id, {}).get(name)) for name in ("mem_usable", "balloon_cur"))
        brings = "how much mom could take is unknown"
        if usable is not None and size is not None:
            most = max(0, min(usable, size - definition.suggested_mib * 1024))
            brings = f"with a minimum of {definition.suggested_mib} MiB, mom could take up to {format_kib(most)} now"
        text = f"{printable(guest.name)} ({vmid}) has no Minimum memory, so mom takes nothing from it; {brings}"
        yield Finding(
            Severity.WARNING, "Proxmox VE", text, f"{definition.how_to_give(vmid)}; or change nothing, to keep all its memory guaranteed"
        )
    if len(keeping) > _SHOWN:
        yield Finding(
            Severity.WARNING, "Proxmox VE", Cures.named([guest.name for guest, _, _ in keeping[_SHOWN:]], " also without Minimum memory")
        )
