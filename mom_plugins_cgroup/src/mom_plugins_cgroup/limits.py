"""What the operator's settings ask for, each cycle. Pure: a snapshot and settings in, decisions and problems out.

They are decided in every cycle, also when they stand: what another process has reset (systemd does when it reads its units again) is set
again, and another evaluator never wins every other cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mom_core import Decision, Entity, Guest, Problem, Severity, Snapshot, Source, Value
from mom_plugins_cgroup.devices import Item, back_to, completed
from mom_plugins_cgroup.names import (
    CPU_WEIGHT,
    CURRENT,
    IO_LATENCY,
    IO_MAX,
    LIST_CONTROLS,
    MEMORY_CONTROLS,
    MEMORY_LOW,
    NO_LIMIT,
    RECLAIM,
)
from mom_plugins_cgroup.need import Need
from mom_plugins_cgroup.settings import CgroupSettings, GroupLimits

_SETTINGS = dict(zip(MEMORY_CONTROLS, ("memory_high", "memory_low", "memory_min", "swap_max"), strict=True))
_ASKED = "set for this guest in the YAML file"


@dataclass(frozen=True, slots=True)
class Wish:
    """A value for a control, and why."""

    value: Value
    reason: str


def wishes_of(
    guest: Guest, own: GroupLimits | None, settings: CgroupSettings, need: Need, number_of: Callable[[str], str | None]
) -> dict[str, Wish]:
    """What the settings say about this guest, by control; without what cannot be known yet.

    :param number_of: gives a disk's number (`8:0`) for its name
    """
    wishes: dict[str, Wish] = {}
    if own is not None:
        for control, name in _SETTINGS.items():
            size = getattr(own, name)
            if size is not None:
                wishes[control] = Wish(NO_LIMIT if size == "max" else size >> 10, _ASKED)
        if own.cpu_weight is not None:
            wishes[CPU_WEIGHT] = Wish(float(own.cpu_weight), _ASKED)
        for control, items in ((IO_MAX, _io_max(own, number_of)), (IO_LATENCY, _io_latency(own, number_of))):
            if items:
                wishes[control] = Wish(items, _ASKED)
    if settings.protect and need.promised and MEMORY_LOW not in wishes:
        wishes[MEMORY_LOW] = Wish(need.promised, "what the guest is guaranteed, and QEMU's own")
    asked = None if own is None else own.reclaim
    size = guest.number("balloon_max") or guest.number(CURRENT)
    if (settings.reclaim if asked is None else asked) and size:
        pace = max(1, round(size * settings.reclaim_ratio / 60))
        wishes[RECLAIM] = Wish(pace, _ASKED if asked else "memory that guests do not touch is taken ahead of need")
    return wishes


def _io_max(own: GroupLimits, number_of: Callable[[str], str | None]) -> list[Item]:
    found: list[Item] = []
    for name, limit in (own.io_max or {}).items():
        number = number_of(name)
        if number is not None:
            given: Item = {key: NO_LIMIT if value == "max" else value for key, value in limit if value is not None}
            found.append({"device": number, **given})
    return found


def _io_latency(own: GroupLimits, number_of: Callable[[str], str | None]) -> list[Item]:
    pairs = [(number_of(name), seconds) for name, seconds in (own.io_latency or {}).items()]
    return [{"device": number, "target": max(1, round(seconds * 1e6))} for number, seconds in pairs if number is not None]


class Enforcement:
    """Decides what the settings ask for, and puts back what they no longer ask for.

    :param name: the plugin's, as the source of the decisions
    """

    def __init__(self, name: str) -> None:
        self._source = Source(name)
        self._before: dict[tuple[str, str, str], Value] = {}
        """What stood before the settings first asked for something else: by guest, incarnation and control."""

    def decide(
        self, snapshot: Snapshot, wishes: Mapping[str, Mapping[str, Wish]], hindrance: Callable[[str, str], str]
    ) -> Iterable[Decision | Problem]:
        """Decisions and problems for all guests.

        :param wishes: by guest id and control
        :param hindrance: why a control (second) of a guest (its id first) cannot be set; empty if it can
        """
        keys = set()
        hindered: dict[tuple[str, str], list[Entity]] = {}
        for guest in snapshot.guests.values():
            for control, wish in wishes.get(guest.id, {}).items():
                key = guest.id, guest.incarnation, control
                keys.add(key)
                reason = hindrance(guest.id, control)
                now = guest.fields.get(control)
                if reason:
                    hindered.setdefault((control, reason), []).append(guest.entity)
                elif now is not None:
                    self._before.setdefault(key, now)
                    value = completed(control, wish.value, now) if control in LIST_CONTROLS else wish.value
                    yield Decision(guest.entity, control, value, wish.reason, self._source)
        for (control, reason), guests in hindered.items():
            whom = f"{guests[0]}" if len(guests) == 1 else f"{guests[0]} and {len(guests) - 1} more"
            message = f"{control} is set in the YAML file, and cannot be applied to {whom}: {reason}"
            yield Problem(self._source, message, guests[0] if len(guests) == 1 else None, Severity.WARNING, "see mom doctor")
        yield from self._lifted(snapshot, keys)

    def _lifted(self, snapshot: Snapshot, keys: set[tuple[str, str, str]]) -> Iterable[Decision]:
        for key in [key for key in self._before if key not in keys]:
            identity, incarnation, control = key
            guest = snapshot.guests.get(identity)
            before = self._before[key]
            if guest is None or guest.incarnation != incarnation or guest.fields.get(control) == before:
                del self._before[key]
            else:
                value = back_to(control, before, guest.fields.get(control)) if control in LIST_CONTROLS else before
                yield Decision(guest.entity, control, value, "no longer set for this guest in the YAML file", self._source)
