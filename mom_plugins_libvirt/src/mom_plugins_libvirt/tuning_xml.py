"""A guest's limits from its domain XML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from mom_core import DiskTune, NetTune
from mom_kvm import NodeTune, parse_number_list

_OVIRT_TUNE = "http://ovirt.org/vm/tune/1.0"

BANDWIDTH = ("average", "peak", "burst", "floor")

_NO_LIMIT_PERCENT = 100.0
"""Percentage that oVirt MOM's policies treat as no limit."""

_REMOVABLE = frozenset({"cdrom", "floppy"})

_LONGEST_NUMBER = 18

_ANY_NODE = NodeTune("strict", frozenset())
"""libvirt's default: memory may be allocated on any node."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Limits of a guest. `user_limit_percent` is oVirt's CPU limit as a percentage of all host CPUs; None if it is invalid."""

    user_limit_percent: float | None = _NO_LIMIT_PERCENT
    disks: tuple[DiskTune, ...] = ()
    interfaces: tuple[NetTune, ...] = ()
    nodes: NodeTune = _ANY_NODE


UNTUNED = Tuning()


def tuning_of(domain: Element) -> Tuning:
    """Return the limits in a domain element."""
    agreed = domain.find(f"metadata/{{{_OVIRT_TUNE}}}qos")
    agreements = () if agreed is None else tuple(agreed.findall(f"{{{_OVIRT_TUNE}}}ioTune/{{{_OVIRT_TUNE}}}device"))
    return Tuning(
        _user_limit(agreed),
        tuple(_disks(domain.iterfind("devices/disk"), agreements)),
        tuple(_interfaces(domain.iterfind("devices/interface"))),
        _nodes(domain.find("numatune/memory")),
    )


def _user_limit(agreed: Element | None) -> float | None:
    text = None if agreed is None else agreed.findtext(f"{{{_OVIRT_TUNE}}}vcpuLimit")
    if text is None:
        return _NO_LIMIT_PERCENT
    try:
        percent = float(text)
    except ValueError:
        return None
    return percent if math.isfinite(percent) and percent > 0 else None


def _disks(disks: Iterable[Element], agreements: Iterable[Element]) -> Iterable[DiskTune]:
    for disk in disks:
        target, source = disk.find("target"), disk.find("source")
        name = "" if target is None else target.get("dev", "")
        if not name or (source is None and disk.get("device") in _REMOVABLE):  # libvirt cannot read limits of an empty drive
            continue
        path = "" if source is None else _path(source)
        agreed = next((device for device in agreements if _is_about(device, name, path)), None)
        maximum, guaranteed = (None, None) if agreed is None else (_agreed(agreed, "maximum"), _agreed(agreed, "guaranteed"))
        tune = disk.find("iotune")
        current = {key: 0 if tune is None else natural_number(tune.findtext(key)) or 0 for key in DiskTune.LIMITS}
        yield DiskTune(name, path, current, maximum, guaranteed)


def _path(source: Element) -> str:
    return next((text for key in ("file", "dev", "name", "dir", "volume") if (text := source.get(key))), "")


def _is_about(device: Element, name: str, path: str) -> bool:
    theirs = device.get("path", "")
    return theirs == path if theirs and path else device.get("name", "") == name


def _agreed(device: Element, what: str) -> Mapping[str, int] | None:
    limits = device.find(f"{{{_OVIRT_TUNE}}}{what}")
    if limits is None:
        return None
    return {key: number for key in DiskTune.LIMITS if (number := natural_number(limits.findtext(f"{{{_OVIRT_TUNE}}}{key}"))) is not None}


def _interfaces(interfaces: Iterable[Element]) -> Iterable[NetTune]:
    for interface in interfaces:
        target = interface.find("target")
        name = "" if target is None else target.get("dev", "")
        if name:  # without a name, the host has no device to limit
            yield NetTune(name, _bandwidth(interface.find("bandwidth/inbound")), _bandwidth(interface.find("bandwidth/outbound")))


def _bandwidth(direction: Element | None) -> Mapping[str, int]:
    if direction is None:
        return {}
    return {key: number for key in BANDWIDTH if (number := natural_number(direction.get(key)))}


def _nodes(memory: Element | None) -> NodeTune:
    if memory is None:
        return _ANY_NODE
    return NodeTune(memory.get("mode", "strict"), parse_number_list(memory.get("nodeset", "")) or frozenset())


def natural_number(text: str | None) -> int | None:
    """Return the text as a number if it consists of digits; otherwise None."""
    text = (text or "").strip()
    return int(text) if 0 < len(text) <= _LONGEST_NUMBER and text.isascii() and text.isdigit() else None
