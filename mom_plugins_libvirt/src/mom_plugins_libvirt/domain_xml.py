"""A guest's devices, agent channels, limits and guarantees from its domain XML."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from mom_core import DiskTune, FieldSpec, NetTune, Scope, Unit
from mom_kvm import GuestField, NodeTune, parse_number_list

LONGEST_XML = 8 << 20
"""Longest accepted domain XML, in characters."""

PLUG_LIMIT: Final = "mem_plug_limit"
_PLUG_LIMIT: Final = "largest memory that the guest can reach by hotplug; mom itself never hotplugs memory; unknown without hotplug"

GUEST_FIELDS = (*GuestField.ALL, FieldSpec(PLUG_LIMIT, Unit.KIB, Scope.GUEST, _PLUG_LIMIT, "libvirt domain XML's maxMemory"))

_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KB": 1000 / 1024, "k": 1, "KiB": 1, "MiB": 1 << 10, "M": 1 << 10, "GiB": 1 << 20, "G": 1 << 20}

_LARGEST_KIB = 1 << 50
"""An exbibyte; larger sizes are invalid."""


_MOM_GUEST = "urn:mom:guest:1.0"
"""Namespace of mom's element: `<mom:guest xmlns:mom="urn:mom:guest:1.0" class="gold" guarantee="6GiB"/>`."""

_PROPERTIES: Mapping[str, str] = {"class": "sla_class", "guarantee": "mem_guarantee"}
"""Mapping from the element's attributes to the guest's properties."""

_LONGEST_PROMISE = 100
"""Longest class or guarantee, in characters; mom cuts off the rest."""


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


@dataclass(frozen=True, slots=True)
class DomainDescription:
    """Guest's devices and metadata. Sizes in KiB.

    `balloon` is the balloon's model; empty without a balloon. `stats_period` is in seconds; 0 if off. `pinned` says why the host cannot
    reclaim ballooned memory. `resizable_kib` is the total of virtio-mem devices. `no_ram_kib` is the total of devices that are not RAM,
    such as NVDIMMs.
    """

    balloon: str
    stats_period: int
    pinned: str = ""
    resizable_kib: int = 0
    plugged_kib: int = 0
    channels: Mapping[str, str] = field(default_factory=dict)
    tuning: Tuning = UNTUNED
    properties: Mapping[str, str] = field(default_factory=dict)
    autodeflate: bool = False
    reports_free_pages: bool = False
    plugging_kib: int = 0
    """KiB that virtio-mem still has to plug or unplug."""
    plug_limit_kib: int = 0
    """Size of the guest if all pluggable memory were plugged; 0 if nothing is pluggable."""
    no_ram_kib: int = 0
    vcpus: int = 0
    """Online vCPUs; 0 if unknown."""

    @property
    def not_had_kib(self) -> int:
        """Part of libvirt's maximum that the guest lacks even when its balloon is empty."""
        return self.resizable_kib - self.plugged_kib + self.no_ram_kib


def described(xml: str, of_platform: Callable[[Element], Mapping[str, str]] | None = None) -> DomainDescription | None:
    """Return the guest that a domain XML describes; None if invalid."""
    domain = parsed(xml)
    if domain is None:
        return None
    balloon = domain.find("devices/memballoon")
    model, stats = ("", None) if balloon is None else (balloon.get("model", ""), balloon.find("stats"))
    devices = _virtio_mem(domain)
    return DomainDescription(
        "" if model == "none" else model,
        _seconds(stats.get("period") if stats is not None else None),
        _why_pinned(domain),
        sum(device.size for device in devices),
        sum(min(device.current, device.size) for device in devices),
        _channels(domain),
        tuning_of(domain),
        {**(of_platform(domain) if of_platform is not None else {}), **_promises_of(domain)},
        balloon is not None and balloon.get("autodeflate") == "on",
        balloon is not None and balloon.get("freePageReporting") == "on",
        sum(abs(device.requested - device.current) for device in devices if device.requested is not None),
        _kib(domain.find("maxMemory")),
        _no_ram_kib(domain),
        _vcpus(domain.find("vcpu")),
    )


class _Builder(ElementTree.TreeBuilder):
    # Refuse document types: their entities can expand without limit.

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError(f"a DOCTYPE declaration ({name[:20]}) in a domain")


def parsed(xml: str) -> Element | None:
    """Return the domain element of untrusted text; None if not a domain XML."""
    if len(xml) > LONGEST_XML:
        return None
    try:
        root = ElementTree.fromstring(xml, ElementTree.XMLParser(target=_Builder()))  # noqa: S314  # `_Builder` refuses entities
    except (ElementTree.ParseError, ValueError):  # ValueError: lone surrogate
        return None
    return root if root.tag == "domain" else None


def _why_pinned(domain: Element) -> str:
    security = domain.find("launchSecurity")
    if security is not None:
        return f"the guest is confidential ({security.get('type', '?'):.12}): the host cannot reclaim its memory"
    backing = domain.find("memoryBacking")
    if backing is not None and backing.find("locked") is not None:
        return "the guest's memory is locked: the host cannot reclaim it"
    if backing is not None and backing.find("hugepages") is not None:
        return "the guest's memory is in huge pages: nothing else can use them"
    device = next(_pinning_devices(domain.find("devices")), "")
    return f"{device} pins the guest's memory: the host cannot reclaim it" if device else ""


def _pinning_devices(devices: Element | None) -> Iterator[str]:
    for device in () if devices is None else devices:
        kind = device.get("type")
        if device.tag == "hostdev":
            # Mediated devices of s390 (vfio-ccw, vfio-ap) pin only memory in use, so the balloon works.
            if kind == "pci" or (kind == "mdev" and device.get("model", "vfio-pci") == "vfio-pci"):
                yield f"a host device ({kind})"
        elif device.tag == "interface" and kind in {"hostdev", "vdpa"}:
            yield f"a network interface ({kind})"
        elif device.tag == "disk" and kind in {"nvme", "vhostvdpa"}:
            yield f"a disk ({kind})"


def memory_of(domain: Element) -> int:
    """Return the guest's size in KiB at its start; 0 if unknown. Usually, this excludes memory that the balloon holds from the start."""
    memory, devices = _kib(domain.find("memory")), _virtio_mem(domain)
    plugged = sum(min(max(device.current, device.requested or 0), device.size) for device in devices)
    own = max(0, memory - sum(device.size for device in devices) - _no_ram_kib(domain))
    now = _kib(domain.find("currentMemory"))
    balloon, allocation = domain.find("devices/memballoon"), domain.find("memoryBacking/allocation")
    at_once = _why_pinned(domain) or (allocation is not None and allocation.get("mode") == "immediate")
    if at_once or not now or balloon is None or balloon.get("model") == "none":
        now = own
    return min(memory, min(own, now) + plugged)


def _promises_of(domain: Element) -> Mapping[str, str]:
    element = domain.find(f"metadata/{{{_MOM_GUEST}}}guest")
    if element is None:
        return {}
    return {name: text[:_LONGEST_PROMISE] for attribute, name in _PROPERTIES.items() if (text := element.get(attribute)) is not None}


class _VirtioMem(NamedTuple):
    """Sizes of a virtio-mem device in KiB."""

    size: int
    current: int
    requested: int | None


def _virtio_mem(domain: Element) -> Sequence[_VirtioMem]:
    targets = domain.iterfind("devices/memory[@model='virtio-mem']/target")
    sizes = ((memory.find("size"), memory.find("current"), memory.find("requested")) for memory in targets)
    return [
        _VirtioMem(_kib(size), _kib(now), None if natural_number(getattr(requested, "text", None)) is None else _kib(requested))
        for size, now, requested in sizes
    ]


_NO_RAM: Final = ("nvdimm", "virtio-pmem", "sgx-epc")
"""Memory devices that libvirt counts as guest memory, and QEMU's balloon does not."""


def _no_ram_kib(domain: Element) -> int:
    return sum(_kib(memory.find("target/size")) for memory in domain.iterfind("devices/memory") if memory.get("model") in _NO_RAM)


def _vcpus(element: Element | None) -> int:
    return 0 if element is None else natural_number(element.get("current", element.text)) or 0


def _kib(element: Element | None) -> int:
    if element is None:
        return 0
    kib = (natural_number(element.text) or 0) * _KIB.get(element.get("unit", "KiB"), 0)
    return int(kib) if kib <= _LARGEST_KIB else 0


def _seconds(text: str | None) -> int:
    seconds = natural_number(text) or 0
    return seconds if seconds < 1 << 31 else 0


# --- agents' channels -----------------------------------------------------------------------------------------------------------

_LIBVIRTS_OWN = "org.qemu.guest_agent.0"
"""mom cannot use libvirt's own channel, because QEMU serves only one client per channel."""

_MOST_CHANNELS = 32
_LONGEST_TEXT = 256


def _channels(domain: Element) -> Mapping[str, str]:
    """Return the paths of QEMU's unix sockets, keyed by agent channel. A path is empty if only libvirt can connect."""
    channels: dict[str, str] = {}
    for channel in domain.iterfind("devices/channel"):
        target, source = channel.find("target"), channel.find("source")
        name = "" if target is None or target.get("type") != "virtio" else target.get("name", "")
        if channel.get("type") != "unix" or not 0 < len(name) <= _LONGEST_TEXT or len(channels) >= _MOST_CHANNELS:
            continue
        listens = source is not None and source.get("mode") == "bind" and name != _LIBVIRTS_OWN
        path = source.get("path", "") if source is not None and listens else ""
        channels[name] = path if len(path) <= _LONGEST_TEXT else ""
    return channels


# --- limits ---------------------------------------------------------------------------------------------------------------------


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
