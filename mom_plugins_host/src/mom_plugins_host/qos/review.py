"""The review of all plugins' decisions on limits: impossible ones are refused with the bounds, lists are completed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mom_core import Decision, Refused, Revision, Snapshot, Value, as_items, as_whole
from mom_plugins_host.qos.bounds import CPU_SHARES, NO_QUOTA, PERIOD, QUOTA, cpu_complaint
from mom_plugins_host.qos.fields import DISKS, DISKS_NOW, INTERFACES
from mom_plugins_host.qos.lists import Item, completed_disks, completed_interfaces

_LISTS = {DISKS: (DISKS_NOW, completed_disks), INTERFACES: (INTERFACES, completed_interfaces)}


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls are left alone."""
    pairs: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.control in {QUOTA, PERIOD}:
            pairs.setdefault(decision.entity.id, []).append(decision)
        elif decision.control == CPU_SHARES:
            complaint = cpu_complaint(CPU_SHARES, decision.value)
            if complaint:
                yield Revision(decision, None, complaint)
        elif decision.control in _LISTS:
            revision = _reviewed_list(snapshot, decision)
            if revision is not None:
                yield revision
    for pair in pairs.values():
        yield from _reviewed_pair(pair)


def _reviewed_pair(pair: Sequence[Decision]) -> Iterable[Revision]:
    """A quota means nothing without its period: where one is impossible, the other is not set either."""
    complaint = next((text for decision in pair if (text := cpu_complaint(decision.control, decision.value))), "")
    for decision in pair:
        if complaint:
            yield Revision(decision, None, complaint)
        elif decision.control == QUOTA and (as_whole(decision.value) or 0) < NO_QUOTA:
            yield Revision(decision, replace(decision, value=NO_QUOTA), "any negative quota is no limit")


def _reviewed_list(snapshot: Snapshot, decision: Decision) -> Revision | None:
    """Each disk and interface is a matter of its own: what is impossible of one is no matter of the others."""
    field, complete = _LISTS[decision.control]
    guest = snapshot.guests.get(decision.entity.id)
    present = None if guest is None else guest.fields.get(field)
    if not isinstance(present, list):
        return None  # the core refuses to change what it could not put back
    if decision.value == present:  # as it is in most cycles
        return None
    items: list[Item] = [dict(item) for item in present if isinstance(item, dict)]
    possible: list[Mapping[str, Value]] = []
    complaints: list[str] = []
    for item in as_items(decision.value) or ():
        try:
            complete([*possible, item], items)
        except Refused as error:
            complaints.append(str(error))
        else:
            possible.append(item)
    wanted = complete(possible, items)
    if complaints:
        return Revision(decision, replace(decision, value=wanted) if wanted else None, "; ".join(complaints))
    return None if wanted == decision.value else Revision(decision, replace(decision, value=wanted), "completed with what stays as it is")
