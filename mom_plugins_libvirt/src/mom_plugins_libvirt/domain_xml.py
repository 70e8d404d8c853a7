"""A guest's devices, limits and guarantees from its domain XML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from xml.etree import ElementTree

from mom_plugins_libvirt.agents import channels_of
from mom_plugins_libvirt.tuning_xml import UNTUNED, Tuning, natural_number, tuning_of

LONGEST_XML = 8 << 20
"""Longest accepted domain XML, in characters."""

_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KB": 1000 / 1024, "k": 1, "KiB": 1, "MiB": 1 << 10, "M": 1 << 10, "GiB": 1 << 20, "G": 1 << 20}

_LARGEST_KIB = 1 << 50
"""An exbibyte; larger sizes are invalid."""


_MOM_GUEST = "urn:mom:guest:1.0"
"""Namespace of mom's element: `<mom:guest xmlns:mom="urn:mom:guest:1.0" class="gold" guarantee="6GiB"/>`."""

_PROPERTIES: Mapping[str, str] = {"class": "sla_class", "guarantee": "mem_guarantee"}
"""Mapping from the element's attributes to the guest's properties."""

_LONGEST_PROMISE = 100
"""Longest class or guarantee, in characters; mom cuts off the rest."""


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


def described(xml: str, of_platform: Callable[[ElementTree.Element], Mapping[str, str]] | None = None) -> DomainDescription | None:
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
        channels_of(domain.find("devices")),
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


def parsed(xml: str) -> ElementTree.Element | None:
    """Return the domain element of untrusted text; None if not a domain XML."""
    if len(xml) > LONGEST_XML:
        return None
    try:
        root = ElementTree.fromstring(xml, ElementTree.XMLParser(target=_Builder()))  # noqa: S314  # `_Builder` refuses entities
    except (ElementTree.ParseError, ValueError):  # ValueError: lone surrogate
        return None
    return root if root.tag == "domain" else None


def _why_pinned(domain: ElementTree.Element) -> str:
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


def _pinning_devices(devices: ElementTree.Element | None) -> Iterator[str]:
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


def memory_of(domain: ElementTree.Element) -> int:
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


def _promises_of(domain: ElementTree.Element) -> Mapping[str, str]:
    element = domain.find(f"metadata/{{{_MOM_GUEST}}}guest")
    if element is None:
        return {}
    return {name: text[:_LONGEST_PROMISE] for attribute, name in _PROPERTIES.items() if (text := element.get(attribute)) is not None}


class _VirtioMem(NamedTuple):
    """Sizes of a virtio-mem device in KiB."""

    size: int
    current: int
    requested: int | None


def _virtio_mem(domain: ElementTree.Element) -> Sequence[_VirtioMem]:
    targets = domain.iterfind("devices/memory[@model='virtio-mem']/target")
    sizes = ((memory.find("size"), memory.find("current"), memory.find("requested")) for memory in targets)
    return [
        _VirtioMem(_kib(size), _kib(now), None if natural_number(getattr(requested, "text", None)) is None else _kib(requested))
        for size, now, requested in sizes
    ]


_NO_RAM: Final = ("nvdimm", "virtio-pmem", "sgx-epc")
"""Memory devices that libvirt counts as guest memory, and QEMU's balloon does not."""


def _no_ram_kib(domain: ElementTree.Element) -> int:
    return sum(_kib(memory.find("target/size")) for memory in domain.iterfind("devices/memory") if memory.get("model") in _NO_RAM)


def _vcpus(element: ElementTree.Element | None) -> int:
    return 0 if element is None else natural_number(element.get("current", element.text)) or 0


def _kib(element: ElementTree.Element | None) -> int:
    if element is None:
        return 0
    kib = (natural_number(element.text) or 0) * _KIB.get(element.get("unit", "KiB"), 0)
    return int(kib) if kib <= _LARGEST_KIB else 0


def _seconds(text: str | None) -> int:
    seconds = natural_number(text) or 0
    return seconds if seconds < 1 << 31 else 0
