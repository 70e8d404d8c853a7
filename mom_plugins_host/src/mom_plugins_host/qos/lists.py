"""Limits as lists, one mapping for each disk or network interface: how a field shows them, and what a decision makes of them. Pure.

A disk or interface that is named is so with all of its limits, so that what stands, what is decided and what the ledger keeps can be
compared, and put back. A decision names those only that it is about: what it named besides would count as set by mom, also where another
process has set it, and would be undone with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import DiskTune, NetTune, Refused, Value, as_items, as_whole, printable
from mom_plugins_host.qos.bounds import BANDWIDTH, DIRECTIONS, check_bandwidth, check_disk

Item = dict[str, Value]


def present_disks(tunes: Sequence[DiskTune]) -> list[Item]:
    """The limits that stand, as `io_tune_current` and `io_tune` decisions hold it."""
    return [{"name": tune.name, "path": tune.path, **{key: tune.current.get(key) for key in DiskTune.LIMITS}} for tune in tunes]


def present_interfaces(tunes: Sequence[NetTune]) -> list[Item]:
    """The limits that stand, as `net_tune` holds it."""
    return [{"name": tune.name, "inbound": dict(tune.inbound), "outbound": dict(tune.outbound)} for tune in tunes]


def completed_disks(value: Value, present: Sequence[Item]) -> list[Item]:
    """The list that a decision comes to: the disks that it names, with what it does not mention, or says nil for, as it stands.

    :param value: a list of `{name, path, limits…}`; a disk is found by its name, or by its path where it has no name
    :raises Refused: for what no disk has, and for limits that the hypervisor would not take
    """
    wanted, meant = [dict(item) for item in present], set()
    for given in as_items(value) or ():
        disk = _found(given, wanted, ("name", "path"), "disk")
        meant.add(disk["name"])
        for key, limit in given.items():
            if key in {"name", "path"} or limit is None:
                continue
            if key not in DiskTune.LIMITS:
                raise Refused(f"{printable(str(key))} is no limit of a disk; there are {', '.join(DiskTune.LIMITS)}")
            disk[key] = _number(limit, key)
        check_disk(printable(str(disk["name"])), {key: as_whole(disk[key]) or 0 for key in DiskTune.LIMITS})
    return [item for item in wanted if item["name"] in meant]


def completed_interfaces(value: Value, present: Sequence[Item]) -> list[Item]:
    """As `completed_disks`, for `{name, inbound, outbound}`: a direction that is given stands for itself, an empty one for no limit."""
    wanted, meant = [dict(item) for item in present], set()
    for given in as_items(value) or ():
        interface = _found(given, wanted, ("name",), "network interface")
        meant.add(interface["name"])
        for key, limits in given.items():
            if key == "name" or limits is None:
                continue
            if key not in DIRECTIONS or not isinstance(limits, Mapping):
                raise Refused(f"{printable(str(key))} is no direction of a network interface with its limits")
            unknown = [name for name in limits if name not in BANDWIDTH or (name == "floor" and key == "outbound")]
            if unknown:
                raise Refused(f"{printable(str(unknown[0]))} is no limit of a network interface's {key} side")
            numbers = {name: _number(limit, f"{key} {name}") for name, limit in limits.items() if limit is not None}
            check_bandwidth(printable(str(interface["name"])), key, numbers)
            interface[key] = dict(numbers)
    return [item for item in wanted if item["name"] in meant]


def _found(given: Mapping[str, Value], wanted: Sequence[Item], keys: Sequence[str], what: str) -> Item:
    for key in keys:
        if given.get(key):
            there = [item for item in wanted if item.get(key) == given[key]]
            if there:
                return there[0]
            break
    shown = printable(str(given.get("name") or given.get("path") or "without a name"))
    has = ", ".join(printable(str(item["name"])) for item in wanted)
    raise Refused(f"there is no {what} {shown}" + (f"; there are {has}" if has else ""))


def _number(value: Value, what: str) -> int:
    number = int(value) if isinstance(value, float) and abs(value) < 1 << 62 else as_whole(value)
    if number is None:
        raise Refused(f"{printable(repr(value), 40)} is no number for {what}")
    return number
