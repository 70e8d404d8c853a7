"""Findings of `mom doctor` on stores of cold memory, and on excluded guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mom_core import Finding, Guest, Hypervisor, HypervisorError, Severity, first_names, format_kib, printable
from mom_kvm import ColdMemoryControl, Hierarchies, StoreKind, SwapStore, listed_guests
from mom_plugins_host.offload.guests import way_to
from mom_plugins_host.offload.stores import KEPT_SHARE, LEAST_RATIO, ratio_of, stores_of

SUBJECT: Final = "cold memory"

_ZRAM: Final = (
    "for compressed memory: apt install systemd-zram-generator (dnf: zram-generator), write to /etc/systemd/zram-generator.conf the lines"
    " '[zram0]', 'zram-size = ram / 2', 'compression-algorithm = zstd', 'swap-priority = 100', then: systemctl daemon-reload &&"
    " systemctl start systemd-zram-setup@zram0"
)
_FILE: Final = (
    "for a fast disk: fallocate -l 16G /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile, and to /etc/fstab the line"
    " '/swapfile none swap defaults 0 0'"
)
_ZSWAP: Final = (
    "for a compressed cache in front of it: echo zstd > /sys/module/zswap/parameters/compressor; echo 20 >"
    " /sys/module/zswap/parameters/max_pool_percent; echo Y > /sys/module/zswap/parameters/enabled; to keep it: zswap.enabled=1"
    " zswap.compressor=zstd on the kernel's command line"
)

_LARGER_POOL: Final = "make it larger, or enlarge the zswap pool in front of it: raise /sys/module/zswap/parameters/max_pool_percent"


def findings(root: Path, hierarchies: Hierarchies, hypervisor: Hypervisor | None) -> Iterator[Finding]:
    """Yield stores, and guests whose cold memory cannot be moved."""
    moves_itself = isinstance(hypervisor, ColdMemoryControl)
    try:
        stores = hypervisor.swap_stores() if isinstance(hypervisor, ColdMemoryControl) else stores_of(root)
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, f"the host's swap cannot be read: {error}", "see the hypervisor plugin's finding above")
        return
    if moves_itself:  # for example a simulated host, which no command here can fix
        yield from (replace(finding, cure="") for finding in _about_stores(stores))
        return
    yield from _about_stores(stores)
    guests = yield from listed_guests(hypervisor, SUBJECT)
    if guests is not None:
        yield from _about_guests(root, hierarchies, guests)


def _about_stores(stores: Sequence[SwapStore]) -> Iterable[Finding]:
    if not stores:
        message = "the host has no swap: mom cannot move cold memory"
        yield Finding(Severity.WARNING, SUBJECT, message, f"{_ZRAM}. Or {_FILE}")
    for store in stores:
        name = printable(store.name)
        size = f"{name}: {store.kind} of {format_kib(store.size_kib)}, {format_kib(store.free_kib)} of it free"
        ratio = ratio_of([store])
        if store.kind is StoreKind.ROTATING:
            cure = f"give other swap a higher priority and swapoff {name}; {_ZRAM}"
            yield Finding(Severity.WARNING, SUBJECT, f"{size}; it is a rotating disk, so mom moves nothing there", cure)
        elif ratio is not None and ratio < LEAST_RATIO:
            message = f"{size}; its content compresses only to 1/{ratio:.1f}, so mom moves nothing more there"
            yield Finding(
                Severity.WARNING,
                SUBJECT,
                message,
                "use a stronger algorithm (zstd), or set `offload: false` for guests with encrypted memory",
            )
        elif store.free_kib <= KEPT_SHARE * store.size_kib:
            cure = _LARGER_POOL if store.kind is StoreKind.ZSWAP else "make it larger"
            yield Finding(Severity.WARNING, SUBJECT, f"{size}: only the reserve for the kernel is free", cure)
        else:
            compressed = f"; its content compresses to 1/{ratio:.1f}" if ratio is not None else ""
            cure = _ZSWAP if store.kind is StoreKind.DISK else ""
            yield Finding(Severity.OK, SUBJECT, f"{size}{compressed}", cure)


def _about_guests(root: Path, hierarchies: Hierarchies, guests: Sequence[Guest]) -> Iterator[Finding]:
    by_reason: dict[str, list[str]] = {}
    reachable = 0
    for guest in guests:
        way = way_to(guest, root, hierarchies)
        if way.name in {"v1", "v2"}:
            reachable += 1
            continue
        without = "they have no control group of their own: the kernel cannot tell cold memory from hot, so mom moves it slowly"
        by_reason.setdefault(way.why_not or without, []).append(guest.name)
    if reachable:
        yield Finding(Severity.OK, SUBJECT, f"the kernel finds the cold memory of {reachable} of {len(guests)} guests")
    for reason, names in by_reason.items():
        yield Finding(Severity.WARNING, SUBJECT, f"{first_names(names)}: {reason}", "see the README of mom_plugins_host")
