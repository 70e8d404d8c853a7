"""What `mom doctor` says about libvirt: whether it can be reached, and which guests mom can do nothing for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import Finding, Fix, Guest, HypervisorError, PermissionDenied, Severity, Value, format_duration, printable
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.domain_xml import DomainDescription
from mom_plugins_libvirt.failures import START_LIBVIRT
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

_MOST_NAMES = 5
"""So many guests are named; a host may have hundreds."""

_REPORTING_FROM = 6_009_000
"""The libvirt that knows freePageReporting; it needs QEMU 5.1 and, in the guest, Linux 5.7 besides. autodeflate is older than anything that
mom runs on."""

_WORTH_MENTION_KIB = 64 << 10
"""Memory that a guest's process holds and the guest does not use, from which on a number is worth saying."""

SUBJECT = "libvirt"


_UNITS: Mapping[str, Fix] = {
    "libvirtd.service": Fix((("systemctl", "start", "libvirtd.service"),), "starts libvirt; guests that are to start with it start"),
    "virtqemud.socket": Fix((("systemctl", "start", "virtqemud.socket"),), "starts libvirt; guests that are to start with it start"),
}
"""What starts libvirt: as one daemon, or where it is split up."""


def unreachable(error: HypervisorError, read_only_works: bool, root: Path) -> Iterable[Finding]:
    """Findings when there is no connection.

    :param root: of the host, where its units stand
    """
    message = error.message
    if isinstance(error, PermissionDenied) and read_only_works:
        message += "; a read-only connection is allowed, with which mom can watch and change nothing"
    fix = next((fix for unit, fix in _UNITS.items() if (root / "usr/lib/systemd/system" / unit).exists()), None)
    yield Finding(Severity.ERROR, SUBJECT, message, error.hint, fix if error.hint == START_LIBVIRT else None)


def read_only_works(connection: Connection) -> bool:
    """Whether this other, read-only connection can be had."""
    try:
        connection.statistics(connection.module.VIR_DOMAIN_STATS_STATE)
    except HypervisorError:
        return False
    finally:
        connection.close()
    return True


def examined(hypervisor: LibvirtHypervisor, *, readonly: bool, stats_period: float) -> Iterable[Finding]:
    """Findings about the connection and the guests behind it. Raises `HypervisorError` when they cannot be listed."""
    guests = hypervisor.guests()
    yield Finding(Severity.OK, SUBJECT, f"{hypervisor.uri} answers; {_count(guests)} active")
    if readonly:
        yield Finding(Severity.WARNING, SUBJECT, "the connection is read-only: mom can watch and change nothing", "set readonly to false")
    descriptions = hypervisor.descriptions()
    without = [guest for guest in guests if guest.id in descriptions and not descriptions[guest.id].balloon]
    if without:
        cure = "add <memballoon model='virtio'/> to their devices (virsh edit) and start them anew"
        yield Finding(Severity.WARNING, "balloon device", f"{_count(without)} without: {_names(without)}", cure)
    by_reason: dict[str, list[Guest]] = {}
    for guest in guests:
        if guest.id in descriptions and descriptions[guest.id].pinned:
            by_reason.setdefault(descriptions[guest.id].pinned, []).append(guest)
    for reason, pinned in by_reason.items():
        yield Finding(Severity.OK, "pinned memory", f"{_count(pinned)} left at their size: {_names(pinned)}: {reason}")
    off = [
        guest for guest in guests if guest.id in descriptions and descriptions[guest.id].balloon and not descriptions[guest.id].stats_period
    ]
    if off and stats_period and not readonly:
        text = f"off for {_count(off)}: {_names(off)}; mom will switch them on, every {format_duration(stats_period)}, when it acts"
        cure = f"to see what mom would do while it only observes: virsh dommemstat GUEST --period {max(1, round(stats_period))} --live"
        yield Finding(Severity.OK, "guest statistics", text, cure)
    elif off:
        cure = "set stats_period for the plugin libvirt, or virsh dommemstat GUEST --period 2 --live"
        yield Finding(Severity.WARNING, "guest statistics", f"off for {_count(off)}: {_names(off)}", cure)
    yield from _could_have(hypervisor, guests, descriptions)
    silent = set(hypervisor.without_statistics())
    waiting = [guest for guest in guests if guest.id in silent]
    if waiting:
        cure = "load virtio_balloon in them (Windows: the balloon driver and service of virtio-win), unless they are booting or paused"
        yield Finding(Severity.WARNING, "guest statistics", f"{_count(waiting)} without an answer: {_names(waiting)}", cure)


def _could_have(hypervisor: LibvirtHypervisor, guests: Sequence[Guest], descriptions: Mapping[str, DomainDescription]) -> Iterable[Finding]:
    """What guests with a balloon could have switched on, and what that would bring; nothing of it is wrong.

    docs/reporting.md has the measurements.
    """
    with_balloon = [guest for guest in guests if (known := descriptions.get(guest.id)) and known.balloon and not known.pinned]
    silent = [guest for guest in with_balloon if not descriptions[guest.id].reports_free_pages]
    if silent and hypervisor.library_version >= _REPORTING_FROM:
        fields = hypervisor.fields(silent)
        held_kib = sum(_held_for_nothing(fields.get(guest.id, {})) for guest in silent)
        now = f", here now up to {held_kib >> 10} MiB" if held_kib >= _WORTH_MENTION_KIB else ""
        gain = f"with it the host gets back what a guest has freed, of 450 MiB about 420 in 10 s{now}"
        text = f"off for {_count(silent)}: {_names(silent)}; {gain}"
        cure = (
            "to have it: virt-xml GUEST --edit --memballoon freePageReporting=on, or freePageReporting='on' in <memballoon> (virsh edit); "
            "from the guest's next start; QEMU 5.1, in the guest Linux 5.7"
        )
        yield Finding(Severity.OK, "free page reporting", text, cure)
    stiff = [guest for guest in with_balloon if not descriptions[guest.id].autodeflate]
    if stiff:
        gain = "with it a guest that runs out takes back from its balloon within a second, instead of a kill"
        text = f"off for {_count(stiff)}: {_names(stiff)}; {gain}"
        cure = (
            "to have it: virt-xml GUEST --edit --memballoon autodeflate=on, or autodeflate='on' in <memballoon> (virsh edit); "
            "from the guest's next start; not where a guest must never get more than the host has given it"
        )
        yield Finding(Severity.OK, "autodeflate", text, cure)


def _held_for_nothing(fields: Mapping[str, Value]) -> int:
    """KiB that a guest's process holds on the host beyond what the guest uses: at most what is free in the guest."""
    rss, size, unused = fields.get("rss"), fields.get("balloon_cur"), fields.get("mem_unused")
    if not (isinstance(rss, int) and isinstance(size, int) and isinstance(unused, int)):
        return 0
    return max(0, min(unused, rss - (size - unused)))


def _count(guests: Sequence[Guest]) -> str:
    return f"{len(guests)} guest" + ("" if len(guests) == 1 else "s")


def _names(guests: Sequence[Guest]) -> str:
    names = [printable(guest.name) for guest in guests[:_MOST_NAMES]]
    more = len(guests) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
