"""Limits that the operator's settings ask for, for single guests. Pure: a snapshot and settings in, values and problems out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mom_core import Guest, Problem, Severity, Snapshot, Source, Value, printable
from mom_kvm import SetValue
from mom_plugins_host.qos.bounds import CPU_SHARES, DIRECTIONS, PERIOD, QUOTA, quota_and_period
from mom_plugins_host.qos.fields import DISKS, DISKS_NOW, HOST_CPUS, INTERFACES, VCPUS
from mom_plugins_host.qos.settings import NetLimits, QosGuestSettings


def wanted_of(guest: Guest, settings: QosGuestSettings, host_cpus: float | None) -> dict[str, Value]:
    """The settings' limits of this guest, by control; None for those that cannot be known now."""
    wanted: dict[str, Value] = {}
    vcpus = guest.number(VCPUS)
    if settings.cpu_limit is not None:
        known = quota_and_period(settings.cpu_limit, host_cpus, vcpus) if host_cpus and vcpus else (None, None)
        wanted[QUOTA], wanted[PERIOD] = known
    if settings.cpu_shares is not None:
        wanted[CPU_SHARES] = settings.cpu_shares
    if settings.io_limit is not None or settings.disk_limits is not None:
        disks = guest.items(DISKS_NOW)
        now = [(item, settings.disk(str(item["name"]))) for item in disks or ()]
        wanted[DISKS] = None if disks is None else [{**item, **own} for item, own in now if own]
    if settings.net_limit is not None:
        interfaces = guest.items(INTERFACES)
        wanted[INTERFACES] = None if interfaces is None else [_limited(item, settings.net_limit) for item in interfaces]
    return wanted


def agreed_of(guest: Guest) -> Value:
    """The disks for which limits were agreed; None: that is unknown now."""
    disks = guest.items(DISKS)
    return None if disks is None else [{"name": item["name"]} for item in disks if _is_agreed(item.get("maximum"))]


def _is_agreed(maximum: Value) -> bool:
    return isinstance(maximum, Mapping) and any(limit is not None for limit in maximum.values())


def _limited(interface: Mapping[str, Value], limit: NetLimits) -> Mapping[str, Value]:
    """The interface with other limits. What was promised to it (its floor) is no limit, and stays."""
    limited = dict(interface)
    for direction in DIRECTIONS:
        present = interface.get(direction)
        floor = {"floor": present["floor"]} if isinstance(present, Mapping) and "floor" in present else {}
        limited[direction] = {**floor, **limit.direction(direction)}
    return limited


def wanted_of_all(snapshot: Snapshot, settings: Mapping[str, QosGuestSettings]) -> dict[str, dict[str, SetValue]]:
    """The settings' limits of all guests, by id and control.

    :param settings: by guest id; a guest for which nothing is set may be absent
    """
    host_cpus = snapshot.host.number(HOST_CPUS)
    wanted = {guest.id: wanted_of(guest, settings[guest.id], host_cpus) for guest in snapshot.guests.values() if guest.id in settings}
    return {identity: {control: SetValue(value) for control, value in values.items()} for identity, values in wanted.items()}


def mistakes_in(snapshot: Snapshot, settings: Mapping[str, QosGuestSettings], source: Source) -> Iterable[Problem]:
    """Settings by which nothing can be decided: shares of CPUs that are not known, and disks that no guest of a pattern has, which
    are misspelt. That some have fewer disks is no mistake."""
    if not snapshot.host.number(HOST_CPUS) and any(one.cpu_limit is not None for one in settings.values()):
        message = "cpu_limit needs the number of the host's CPUs (cpu_count), which is unknown"
        yield Problem(source, message, severity=Severity.WARNING, hint="enable the plugin host")
    asked, there = set[str](), set[str]()
    for identity, own in settings.items():
        guest = snapshot.guests.get(identity)
        if own.disk_limits and guest is not None and (disks := guest.items(DISKS_NOW)) is not None:
            asked |= own.disk_limits.keys()
            there |= own.disk_limits.keys() & {str(item["name"]) for item in disks}
    for name in sorted(asked - there):
        message = f"disk_limits name {printable(name)}, and none of these guests has such a disk"
        yield Problem(source, message, severity=Severity.WARNING, hint="see mom guests --json")
