"""What the operator's settings for single guests ask for, each cycle. Pure: a snapshot and settings in, decisions and problems out.

They are decided in every cycle, also when they stand: another evaluator that decides differently must always find them before it, or
always after it, as the order of the plugins says, and never every other cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mom_core import Decision, Guest, Problem, Severity, Snapshot, Source, Value, printable
from mom_plugins_qos.bounds import CPU_SHARES, DIRECTIONS, PERIOD, QUOTA
from mom_plugins_qos.cpu import quota_and_period
from mom_plugins_qos.fields import DISKS, DISKS_NOW, HOST_CPUS, INTERFACES, VCPUS
from mom_plugins_qos.settings import NetLimits, QosGuestSettings

_FIELDS = {DISKS: DISKS_NOW}
"""The field with a control's present value, where it has another name."""


def wanted_of(guest: Guest, settings: QosGuestSettings, host_cpus: float | None) -> dict[str, Value]:
    """What the settings say about this guest, by control; without what cannot be known yet."""
    wanted: dict[str, Value] = {}
    vcpus = guest.number(VCPUS)
    if settings.cpu_limit is not None and host_cpus and vcpus:
        wanted[QUOTA], wanted[PERIOD] = quota_and_period(settings.cpu_limit, host_cpus, vcpus)
    if settings.cpu_shares is not None:
        wanted[CPU_SHARES] = settings.cpu_shares
    if settings.io_limit is not None or settings.disk_limits is not None:
        wanted[DISKS] = [{**item, **settings.disk(str(item["name"]))} for item in guest.items(DISKS_NOW) or ()]
    if settings.net_limit is not None:
        wanted[INTERFACES] = [_limited(item, settings.net_limit) for item in guest.items(INTERFACES) or ()]
    return {control: value for control, value in wanted.items() if value != []}


def _limited(interface: Mapping[str, Value], limit: NetLimits) -> Mapping[str, Value]:
    """The interface with other limits. What was promised to it (its floor) is no limit, and stays."""
    limited = dict(interface)
    for direction in DIRECTIONS:
        present = interface.get(direction)
        floor = {"floor": present["floor"]} if isinstance(present, Mapping) and "floor" in present else {}
        limited[direction] = {**floor, **limit.direction(direction)}
    return limited


class Enforcement:
    """Decides what the settings ask for, and puts back what they no longer ask for.

    :param name: the plugin's, as the source of the decisions
    """

    def __init__(self, name: str) -> None:
        self._source = Source(name)
        self._before: dict[tuple[str, str, str], Value] = {}
        """What stood before the settings first asked for something else: by guest, incarnation and control."""

    def decide(self, snapshot: Snapshot, settings: Mapping[str, QosGuestSettings]) -> Iterable[Decision | Problem]:
        """Decisions and problems for all guests.

        :param settings: by guest id; a guest for which nothing is set may be absent
        """
        host_cpus = snapshot.host.number(HOST_CPUS)
        if not host_cpus and any(one.cpu_limit is not None for one in settings.values()):
            yield self._problem("cpu_limit needs the number of the host's CPUs (cpu_count), which is unknown", "enable the plugin host")
        reasons: dict[tuple[str, str], None] = {}
        keys = set()
        for guest in snapshot.guests.values():
            own = settings.get(guest.id)
            wanted = {} if own is None else wanted_of(guest, own, host_cpus)
            for control, value in wanted.items():
                keys.add(self._key(guest, control))
                if control in guest.blocked:
                    reasons[control, guest.blocked[control]] = None
                elif not {"*"} & guest.blocked.keys() and self._note(guest, control):
                    yield Decision(guest.entity, control, value, "set for this guest in the YAML file", self._source)
        for control, reason in reasons:
            yield self._problem(f"{control} is set for guests in the YAML file, and cannot be applied: {reason}", "see mom doctor")
        yield from self._unknown_disks(snapshot, settings)
        yield from self._lifted(snapshot, keys)

    def _note(self, guest: Guest, control: str) -> bool:
        """Remember what stands; whether that is known."""
        key = self._key(guest, control)
        if key not in self._before:
            now = guest.fields.get(_FIELDS.get(control, control))
            if now is None:
                return False
            self._before[key] = now
        return True

    def _lifted(self, snapshot: Snapshot, keys: set[tuple[str, str, str]]) -> Iterable[Decision]:
        for key in [key for key in self._before if key not in keys]:
            guest = snapshot.guests.get(key[0])
            before = self._before[key]
            if guest is None or guest.incarnation != key[1] or guest.fields.get(_FIELDS.get(key[2], key[2])) == before:
                del self._before[key]
            else:
                yield Decision(guest.entity, key[2], before, "no longer set for this guest in the YAML file", self._source)

    @staticmethod
    def _key(guest: Guest, control: str) -> tuple[str, str, str]:
        return guest.id, guest.incarnation, control

    def _unknown_disks(self, snapshot: Snapshot, settings: Mapping[str, QosGuestSettings]) -> Iterable[Problem]:
        """Disks that none of the guests of a pattern has: a name that is misspelt. That some have fewer disks is no mistake."""
        there: dict[str, bool] = {}
        for identity, own in settings.items():
            guest = snapshot.guests.get(identity)
            if own.disk_limits and guest is not None and (disks := guest.items(DISKS_NOW)) is not None:
                names = {str(item["name"]) for item in disks}
                for name in own.disk_limits:
                    there[name] = there.get(name, False) or name in names
        for name in [name for name, found in there.items() if not found]:
            yield self._problem(f"disk_limits name {printable(name)}, and none of these guests has such a disk", "see mom guests --json")

    def _problem(self, message: str, hint: str) -> Problem:
        return Problem(self._source, message, severity=Severity.WARNING, hint=hint)
