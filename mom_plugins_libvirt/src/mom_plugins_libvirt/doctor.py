"""What `mom doctor` says about libvirt: whether it can be reached, and which guests mom can do nothing for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mom_core import Finding, Guest, HypervisorError, PermissionDenied, Severity, format_duration
from mom_guests import could_have, count_of, names_of
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

_REPORTING_FROM = 6_009_000
"""The libvirt that knows freePageReporting; it needs QEMU 5.1 and, in the guest, Linux 5.7 besides. autodeflate is older than anything that
mom runs on."""

SUBJECT = "libvirt"


def unreachable(error: HypervisorError, read_only_works: bool) -> Finding:
    """What is wrong when there is no connection."""
    message = error.message
    if isinstance(error, PermissionDenied) and read_only_works:
        message += "; a read-only connection is allowed, with which mom can watch and change nothing"
    return Finding(Severity.ERROR, SUBJECT, message, error.hint)


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
    yield Finding(Severity.OK, SUBJECT, f"{hypervisor.uri} answers; {count_of(guests)} active")
    if readonly:
        yield Finding(Severity.WARNING, SUBJECT, "the connection is read-only: mom can watch and change nothing", "set readonly to false")
    descriptions = hypervisor.descriptions()
    without = [guest for guest in guests if guest.id in descriptions and not descriptions[guest.id].balloon]
    if without:
        cure = "add <memballoon model='virtio'/> to their devices (virsh edit) and start them anew"
        yield Finding(Severity.WARNING, "balloon device", _told(without, "without"), cure)
    by_reason: dict[str, list[Guest]] = {}
    for guest in guests:
        if guest.id in descriptions and descriptions[guest.id].pinned:
            by_reason.setdefault(descriptions[guest.id].pinned, []).append(guest)
    for reason, pinned in by_reason.items():
        yield Finding(Severity.OK, "pinned memory", _told(pinned, "left at their size") + f": {reason}")
    off = [
        guest for guest in guests if guest.id in descriptions and descriptions[guest.id].balloon and not descriptions[guest.id].stats_period
    ]
    if off and stats_period and not readonly:
        text = f"off for {_told(off)}; mom will switch them on, every {format_duration(stats_period)}, when it acts"
        cure = f"to see what mom would do while it only observes: virsh dommemstat GUEST --period {max(1, round(stats_period))} --live"
        yield Finding(Severity.OK, "guest statistics", text, cure)
    elif off:
        cure = "set stats_period for the plugin libvirt, or virsh dommemstat GUEST --period 2 --live"
        yield Finding(Severity.WARNING, "guest statistics", f"off for {_told(off)}", cure)
    workable = [guest for guest in guests if (known := descriptions.get(guest.id)) and known.balloon and not known.pinned]
    fields = hypervisor.fields(workable)
    yield from could_have(
        [(guest.name, fields.get(guest.id, {})) for guest in workable],
        _switching("freePageReporting") if hypervisor.library_version >= _REPORTING_FROM else "",
        _switching("autodeflate"),
    )
    silent = set(hypervisor.without_statistics())
    waiting = [guest for guest in guests if guest.id in silent]
    if waiting:
        cure = "load virtio_balloon in them (Windows: the balloon driver and service of virtio-win), unless they are booting or paused"
        yield Finding(Severity.WARNING, "guest statistics", _told(waiting, "without an answer"), cure)


def _switching(attribute: str) -> str:
    return f"virt-xml GUEST --edit --memballoon {attribute}=on, or {attribute}='on' in <memballoon> (virsh edit)"


def _told(guests: Sequence[Guest], how: str = "") -> str:
    return f"{count_of(guests)}{how and ' ' + how}: {names_of([guest.name for guest in guests])}"
