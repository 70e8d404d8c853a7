"""The plugins of this project, for `mom plugin list --all`: also those that are not installed here."""

from __future__ import annotations

from typing import Final, NamedTuple


class CatalogEntry(NamedTuple):
    """One plugin of this project."""

    name: str
    distribution: str
    summary: str


CATALOG: Final = tuple(
    CatalogEntry(*entry)
    for entry in (
        ("balloon", "mom-plugins-balloon", "Resize guests with memory balloons; hold guarantees; make room for launches"),
        ("cgroup", "mom-plugins-host", "Limit and protect guests' memory with control groups"),
        ("eviction", "mom-plugins-sla", "Migrate, save, pause or shut down guests while the host stays full"),
        ("fleet", "mom-plugins-fleet", "Share policies between hosts, see their state, drain a host"),
        ("forecast", "mom-plugins-record", "Learn when guests use memory, and make room in time"),
        ("guestagent", "mom-plugins-guestagent", "Read statistics inside guests, from qemu-guest-agent or mom-guestd"),
        ("host", "mom-plugins-host", "Read the host's memory, swap, CPU, pressure and time"),
        ("http", "mom-plugins-http", "Serve the control socket: API, mom top, web page, metrics, policy changes"),
        ("ksm", "mom-plugins-ksm", "Merge equal pages of guests (KSM), at a measured cost"),
        ("kubevirt", "mom-plugins-kubevirt", "Find and resize KubeVirt's guests on one node"),
        ("libvirt", "mom-plugins-libvirt", "Find and resize guests through libvirt"),
        ("movers", "mom-plugins-sla", "Move guests with a program of your own"),
        ("nova", "mom-plugins-libvirt", "Read flavor and project of OpenStack guests"),
        ("numa", "mom-plugins-host", "Read memory and CPU use by NUMA node; bind guests to nodes"),
        ("offload", "mom-plugins-host", "Move guests' cold memory to compressed swap"),
        ("ovirt_mover", "mom-plugins-sla", "Migrate guests through oVirt's engine"),
        ("policy", "mom-plugins-policy", "Evaluate policies in the language of oVirt's MOM"),
        ("proxmox_mover", "mom-plugins-sla", "Migrate guests through Proxmox VE"),
        ("pypolicy", "mom-plugins-policy", "Evaluate policies written in Python"),
        ("qemu", "mom-plugins-qemu", "Find and resize QEMU guests without libvirt, such as Proxmox VE's"),
        ("qos", "mom-plugins-host", "Limit guests' CPU time, disk and network I/O"),
        ("record", "mom-plugins-record", "Record each cycle; replay, report and advise from recordings"),
        ("sim", "mom-plugins-sim", "Simulate a host with guests, for mom demo and mom simulate"),
        ("sla", "mom-plugins-sla", "Define service classes; decide whether another guest fits"),
        ("vdsm", "mom-plugins-vdsm", "Find and resize guests through oVirt's vdsm"),
        ("xmlrpc", "mom-plugins-vdsm", "Serve vdsm's requests as the old momd did"),
    )
)
