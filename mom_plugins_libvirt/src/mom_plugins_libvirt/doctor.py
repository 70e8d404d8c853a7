"""What `mom doctor` says about libvirt: whether it can be reached, and which guests mom can do nothing for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mom_core import Finding, Guest, HypervisorError, PermissionDenied, Severity, format_duration, printable
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

_MOST_NAMES = 5
"""So many guests are named; a host may have hundreds."""

SUBJECT = "libvirt"


def unreachable(error: HypervisorError, read_only_works: bool) -> Iterable[Finding]:
    """Findings when there is no connection."""
    message = error.message
    if isinstance(error, PermissionDenied) and read_only_works:
        message += "; a read-only connection is allowed, with which mom can watch and change nothing"
    yield Finding(Severity.ERROR, SUBJECT, message, error.hint)


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
        text = f"off for {_count(off)}: {_names(off)}; mom will switch them on, every {format_duration(stats_period)}"
        yield Finding(Severity.OK, "guest statistics", text)
    elif off:
        cure = "set stats_period for the plugin libvirt, or virsh dommemstat GUEST --period 2 --live"
        yield Finding(Severity.WARNING, "guest statistics", f"off for {_count(off)}: {_names(off)}", cure)
    silent = set(hypervisor.without_statistics())
    waiting = [guest for guest in guests if guest.id in silent]
    if waiting:
        cure = "load virtio_balloon in them (Windows: the balloon driver and service of virtio-win), unless they are booting or paused"
        yield Finding(Severity.WARNING, "guest statistics", f"{_count(waiting)} without an answer: {_names(waiting)}", cure)


def _count(guests: Sequence[Guest]) -> str:
    return f"{len(guests)} guest" + ("" if len(guests) == 1 else "s")


def _names(guests: Sequence[Guest]) -> str:
    names = [printable(guest.name) for guest in guests[:_MOST_NAMES]]
    more = len(guests) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
