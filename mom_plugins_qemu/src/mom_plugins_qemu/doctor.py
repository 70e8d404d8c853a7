"""What `mom doctor` says about QEMU's monitors: whether they answer, and which guests mom can do nothing for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mom_core import Finding, Severity, format_duration, printable
from mom_guests import could_have, count_of, names_of
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.hypervisor import cure as cure_of_proxmox

SUBJECT: Final = "qemu"


def examined(hypervisor: QemuHypervisor, *, readonly: bool, stats_period: float) -> Iterable[Finding]:
    """Findings about the monitors and the guests behind them. Raises `HypervisorError` when they cannot be listed."""
    guests = hypervisor.guests()
    described = hypervisor.known()
    known = described.values()
    for path, whose in hypervisor.foreign().items():
        text = f"{printable(path)} is not used: {whose}, who could pretend to be any guest"
        yield Finding(Severity.WARNING, "monitor", text, "if that user runs QEMU here, name it in `users` of the plugin qemu")
    if not guests:
        cure = "start guests with -qmp unix:PATH,server=on,wait=off, and have `sockets` of the plugin qemu match PATH"
        yield Finding(Severity.WARNING, SUBJECT, f"no guest's monitor is found at {hypervisor.uri.removeprefix('qmp:')}", cure)
        return
    answering = [name for name, _, failure, _ in known if not failure]
    yield Finding(Severity.OK, SUBJECT, f"{count_of(answering)} of {len(guests)} answer at their monitors")
    for reason in sorted({failure for _, _, failure, _ in known if failure}):
        names = [name for name, _, failure, _ in known if failure == reason]
        cure = "see who holds it (ss -xp), or give mom a monitor of its own: a second -qmp, which `sockets` match"
        yield Finding(Severity.WARNING, "monitor", f"{count_of(names)} left alone: {names_of(names)}: {reason}", cure)
    for path, why in hypervisor.doubles().items():
        yield Finding(
            Severity.WARNING, "monitor", f"{printable(path)}: {why}; it is left alone", "give each guest a UUID of its own (-uuid)"
        )
    for name, wrong in hypervisor.wrongly_defined().items():
        yield Finding(Severity.WARNING, "definition", f"{printable(name)} is left alone: {wrong}", "mend the file")
    for number, name in hypervisor.resized_by_proxmox().items():
        text = f"pvestatd resizes {printable(name)} ({number}), every ten seconds: mom leaves its balloon alone until that has ended"
        yield Finding(Severity.WARNING, "Proxmox VE", text, cure_of_proxmox(number))
    if readonly:
        yield Finding(Severity.WARNING, SUBJECT, "mom was told to change nothing here", "set readonly to false")
    without = [name for name, description, _, _ in known if description is not None and not description.balloon]
    if without:
        cure = "start them with -device virtio-balloon-pci"
        yield Finding(Severity.WARNING, "balloon device", f"{count_of(without)} without: {names_of(without)}", cure)
    off = [name for name, description, failure, period in known if description and description.balloon and not failure and not period]
    if off and stats_period and not readonly:
        text = f"off for {count_of(off)}: {names_of(off)}; mom will switch them on, every {format_duration(stats_period)}, when it acts"
        yield Finding(Severity.OK, "guest statistics", text)
    elif off:
        yield Finding(
            Severity.WARNING, "guest statistics", f"off for {count_of(off)}: {names_of(off)}", "set stats_period for the plugin qemu"
        )
    silent = hypervisor.silent()
    if silent:
        names = [guest.name for guest in guests if guest.id in silent]
        cure = "load virtio_balloon in them (Windows: the balloon driver and service of virtio-win), unless they are booting or paused"
        yield Finding(Severity.WARNING, "guest statistics", f"{count_of(names)} without an answer: {names_of(names)}", cure)
    working = {identity: name for identity, (name, description, _, _) in described.items() if description and description.balloon_works}
    fields = hypervisor.fields(guests)
    yield from could_have(
        [(name, fields.get(identity, {})) for identity, name in working.items()],
        "free-page-reporting=on for the guest's -device virtio-balloon-pci",
        "deflate-on-oom=on for the guest's -device virtio-balloon-pci",
    )
