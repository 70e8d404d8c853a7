"""What `mom doctor` says about QEMU's monitors: whether they answer, and which guests mom can do nothing for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mom_core import Finding, Severity, format_duration, printable
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.hypervisor import cure as cure_of_proxmox

SUBJECT: Final = "qemu"

_MOST_NAMES: Final = 5
"""So many guests are named; a host may have hundreds."""


def examined(hypervisor: QemuHypervisor, *, readonly: bool, stats_period: float) -> Iterable[Finding]:
    """Findings about the monitors and the guests behind them. Raises `HypervisorError` when they cannot be listed."""
    guests = hypervisor.guests()
    known = hypervisor.known().values()
    for path, whose in hypervisor.foreign().items():
        text = f"{printable(path)} is not used: {whose}, who could pretend to be any guest"
        yield Finding(Severity.WARNING, "monitor", text, "if that user runs QEMU here, name it in `users` of the plugin qemu")
    if not guests:
        cure = "start guests with -qmp unix:PATH,server=on,wait=off, and have `sockets` of the plugin qemu match PATH"
        yield Finding(Severity.WARNING, SUBJECT, f"no guest's monitor is found at {hypervisor.uri.removeprefix('qmp:')}", cure)
        return
    answering = [name for name, _, failure, _ in known if not failure]
    yield Finding(Severity.OK, SUBJECT, f"{_count(answering)} of {len(guests)} answer at their monitors")
    for reason in sorted({failure for _, _, failure, _ in known if failure}):
        names = [name for name, _, failure, _ in known if failure == reason]
        cure = "see who holds it (ss -xp), or give mom a monitor of its own: a second -qmp, which `sockets` match"
        yield Finding(Severity.WARNING, "monitor", f"{_count(names)} left alone: {_names(names)}: {reason}", cure)
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
        yield Finding(Severity.WARNING, "balloon device", f"{_count(without)} without: {_names(without)}", cure)
    off = [name for name, description, failure, period in known if description and description.balloon and not failure and not period]
    if off and stats_period and not readonly:
        text = f"off for {_count(off)}: {_names(off)}; mom will switch them on, every {format_duration(stats_period)}, when it acts"
        yield Finding(Severity.OK, "guest statistics", text)
    elif off:
        yield Finding(Severity.WARNING, "guest statistics", f"off for {_count(off)}: {_names(off)}", "set stats_period for the plugin qemu")
    silent = hypervisor.silent()
    if silent:
        names = [guest.name for guest in guests if guest.id in silent]
        cure = "load virtio_balloon in them (Windows: the balloon driver and service of virtio-win), unless they are booting or paused"
        yield Finding(Severity.WARNING, "guest statistics", f"{_count(names)} without an answer: {_names(names)}", cure)


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} guest" + ("" if len(names) == 1 else "s")


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(printable(name) for name in names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
