"""Swap areas as stores for cold memory: free size, compression, daily disk writes, and findings of `mom doctor`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mom_core import Finding, Guest, Hypervisor, Severity, first_names, format_kib, printable
from mom_kvm import Hierarchies, SwapStore, listed_guests, read_kernel_file, read_meminfo
from mom_plugins_host.capabilities import ColdMemoryControl
from mom_plugins_host.offload.guests import way_to
from mom_plugins_host.offload.law import LEAST_KIB

KEPT_SHARE: Final = 0.05
"""Share of swap that mom leaves to the kernel, which swaps between cycles, and kills a process if swap is full."""

LEAST_RATIO: Final = 1.25
"""mom moves nothing to swap with a lower compression ratio: the host would gain less than a fifth of the memory."""

_JUDGED_KIB: Final = 32 << 10
"""mom measures the compression of swap that holds at least this much."""

_USUAL_RATIO: Final = 2.5
"""Compression assumed at first: lzo and lz4 reach 2 to 3, zstd 3 to 4."""

_POOL_PERCENT: Final = {"max_pool_percent": 20, "accept_threshold_percent": 90}
"""Defaults of the kernel (mm/zswap.c): zswap's share of memory, and the share of its pool below which a full pool accepts pages again."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreRoom:
    """Room for guests' memory in swap, in KiB, and why there is no more. `disk`: the next pages go to a disk."""

    kib: int
    why: str
    disk: bool = False


def stores_of(root: Path) -> list[SwapStore]:
    """Return the swap areas in the kernel's order of use."""
    meminfo = read_meminfo(root)
    # Before 5.19, the kernel does not show the content of the pool, so zswap counts as a disk.
    cached = read_kernel_file(root / "sys/module/zswap/parameters/enabled").strip() == b"Y" and "Zswap" in meminfo
    areas = sorted(_areas(root), key=lambda area: -area[4])
    stores = [_store(root, name, is_file, size, used, meminfo if cached else None) for name, is_file, size, used, _ in areas]
    return _within_pool(stores, _pool_kib(root, meminfo)) if cached else stores


def _pool_kib(root: Path, meminfo: dict[str, int]) -> float:
    kib = float(meminfo.get("MemTotal", 0))
    for name, usual in _POOL_PERCENT.items():
        text = read_kernel_file(root / f"sys/module/zswap/parameters/{name}").strip()
        kib *= (int(text) if text.isdigit() else usual) / 100
    return kib


def _within_pool(stores: Sequence[SwapStore], pool_kib: float) -> list[SwapStore]:
    # Swap areas behind zswap share the free part of zswap's pool.
    limited: list[SwapStore] = []
    left: float | None = None
    for store in stores:
        if store.kind is SwapStore.Kind.ZSWAP:
            if left is None:
                left = max(0.0, pool_kib - (store.takes_kib or 0)) * (ratio_of([store]) or _USUAL_RATIO)
            free = min(store.free_kib, int(left))
            left -= free
            store = replace(store, size_kib=store.size_kib - store.free_kib + free, free_kib=free)  # noqa: PLW2901  # the same store, smaller
        limited.append(store)
    return limited


def _areas(root: Path) -> Iterator[tuple[str, bool, int, int, int]]:
    try:
        text = (root / "proc/swaps").read_bytes()[:_MOST_BYTES].decode(errors="surrogateescape")
    except OSError:
        return
    for line in text.split("\n")[1:]:
        words = line.split()
        if len(words) == 5 and words[2].isdigit() and words[3].isdigit() and words[4].lstrip("-").isdigit():
            name = _OCTAL.sub(lambda match: chr(int(match[1], 8)), words[0])
            yield name, words[1] == "file", int(words[2]), int(words[3]), int(words[4])


def _store(root: Path, name: str, is_file: bool, size: int, used: int, cached: dict[str, int] | None) -> SwapStore:
    free = max(0, size - used)
    short = name.removeprefix("/dev/")
    if not is_file and re.fullmatch(r"zram[0-9]+", short):
        return _zram(root, name, size, free)
    if cached is not None:
        return SwapStore(name, SwapStore.Kind.ZSWAP, size, free, cached.get("Zswapped"), cached.get("Zswap"))
    kind = SwapStore.Kind.ROTATING if _is_rotating(root, name, is_file) else SwapStore.Kind.DISK
    return SwapStore(name, kind, size, free)


def _zram(root: Path, name: str, size: int, free: int) -> SwapStore:
    # `mm_stat` has bytes: content, compressed content, and memory.
    words = read_kernel_file(root / f"sys/block/{name.removeprefix('/dev/')}/mm_stat").split()
    if len(words) < 3 or not all(word.isdigit() for word in words[:3]):
        return SwapStore(name, SwapStore.Kind.ZRAM, size, free)
    held, _, memory = (int(word) >> 10 for word in words[:3])
    return SwapStore(name, SwapStore.Kind.ZRAM, size, free, held, memory)


def _is_rotating(root: Path, name: str, is_file: bool) -> bool:
    if is_file:
        try:
            device = (root / name.lstrip("/")).stat().st_dev
        except OSError:
            return False
        folder = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    else:
        folder = root / "sys/class/block" / name.removeprefix("/dev/").replace("/", "!")
    disk = folder.resolve()
    for place in (disk, disk.parent):  # a partition has no queue of its own
        text = read_kernel_file(place / "queue/rotational").strip()
        if text:
            return text == b"1"
    return False


def ratio_of(stores: Sequence[SwapStore]) -> float | None:
    """Return the compression ratio of all stores; None without compression, or if they contain too little."""
    sizes = {(store.held_kib, store.takes_kib) for store in stores if store.held_kib and store.takes_kib}  # stores share the pool of zswap
    held, memory = sum(held or 0 for held, _ in sizes), sum(memory or 0 for _, memory in sizes)
    return held / memory if held >= _JUDGED_KIB and memory else None


def net_share(stores: Sequence[SwapStore]) -> float:
    """Return the host's gain in KiB for each further KiB in swap: 1 on a disk; in memory, 1 minus the compressed size."""
    first = next((store for store in stores if _free(store)), None)
    if first is None or first.kind in {SwapStore.Kind.DISK, SwapStore.Kind.ROTATING}:
        return 1.0
    return max(0.0, 1 - 1 / (ratio_of([first]) or _USUAL_RATIO))


def _free(store: SwapStore) -> int:
    return max(0, store.free_kib - int(KEPT_SHARE * store.size_kib))


def room_of(stores: Sequence[SwapStore], writable_kib: float) -> StoreRoom:
    """Return the room in swap. The kernel fills stores in order, so stores after an unsuitable store do not count.

    :param writable_kib: KiB that mom may still write to disks
    """
    if not stores:
        return StoreRoom(0, "the host has no swap")
    kib, disk = 0, None
    for store in stores:
        free = _free(store)
        if not free:
            continue
        why = _why_not(store)
        if not why and store.kind is SwapStore.Kind.DISK:
            free = min(free, max(0, int(writable_kib)))
            writable_kib -= free
            why = "" if free >= LEAST_KIB else "the limit of writes to disks is reached (disk_writes)"
        if why:
            return StoreRoom(kib, why, disk=bool(disk))
        disk = store.kind is SwapStore.Kind.DISK if disk is None else disk
        kib += free
    full = "swap, or the zswap pool in front of it," if any(store.kind is SwapStore.Kind.ZSWAP for store in stores) else "swap"
    return StoreRoom(kib, "" if kib else f"{full} is full, except for 5 % that mom keeps for the kernel", disk=bool(disk))


def _why_not(store: SwapStore) -> str:
    if store.kind is SwapStore.Kind.ROTATING:
        return f"{store.name} is a rotating disk: reading a page back takes 10 ms"
    ratio = ratio_of([store])
    if ratio is not None and ratio < LEAST_RATIO:
        return f"the content of {store.name} compresses only to 1/{ratio:.1f}"
    return ""


_DAY_SECONDS: Final = 86400.0


class WriteBudget:
    """Budget of disk writes. It grows evenly by `day_kib` per day, and holds at most as much. Times are monotonic seconds.

    Writes of an earlier run of mom are unknown, so the budget begins with an hour's share.
    """

    def __init__(self, day_kib: int, now: float) -> None:
        self._day_kib, self._left, self._at = day_kib, day_kib / 24, now

    def spend(self, kib: float, now: float) -> None:
        """Count KiB as written now."""
        self._left, self._at = self.left(now) - kib, now

    def left(self, now: float) -> float:
        """Return the remaining budget in KiB; negative after larger writes."""
        return min(float(self._day_kib), self._left + self._day_kib * (now - self._at) / _DAY_SECONDS)


SUBJECT: Final = "cold memory"

_ZRAM: Final = (
    "for compressed memory: apt install systemd-zram-generator (dnf: zram-generator), write to /etc/systemd/zram-generator.conf the lines"
    " '[zram0]', 'zram-size = ram / 2', 'compression-algorithm = zstd', 'swap-priority = 100', then: systemctl daemon-reload &&"
    " systemctl start systemd-zram-setup@zram0"
)


def findings(root: Path, hierarchies: Hierarchies, hypervisor: Hypervisor | None) -> Iterator[Finding]:
    """Yield findings about swap areas, and about guests whose cold memory mom cannot move."""
    if hypervisor is not None and isinstance(hypervisor, ColdMemoryControl):  # a simulated host, which no command here can fix
        for finding in _about_stores(hypervisor.swap_stores()):
            yield replace(finding, cure="")
        return
    yield from _about_stores(stores_of(root))
    guests = yield from listed_guests(hypervisor, SUBJECT)
    if guests is not None:
        yield from _about_guests(root, hierarchies, guests)


def _about_stores(stores: Sequence[SwapStore]) -> Iterable[Finding]:
    if not stores:
        yield Finding(Severity.WARNING, SUBJECT, "the host has no swap: mom cannot move cold memory", _ZRAM)
    for store in stores:
        size = f"{printable(store.name)}: {store.kind} of {format_kib(store.size_kib)}, {format_kib(store.free_kib)} of it free"
        ratio = ratio_of([store])
        if why := _why_not(store):
            yield Finding(Severity.WARNING, SUBJECT, f"{size}; mom moves nothing there: {why}", _ZRAM)
        elif not _free(store):
            yield Finding(Severity.WARNING, SUBJECT, f"{size}: only the reserve for the kernel is free", "enlarge this swap")
        else:
            yield Finding(Severity.OK, SUBJECT, size if ratio is None else f"{size}; its content compresses to 1/{ratio:.1f}")


def _about_guests(root: Path, hierarchies: Hierarchies, guests: Sequence[Guest]) -> Iterator[Finding]:
    by_reason: dict[str, list[str]] = {}
    reachable = 0
    for guest in guests:
        way = way_to(guest, root, hierarchies)
        if way.name in {"v1", "v2"}:
            reachable += 1
            continue
        without = "they have no control group of their own: the kernel cannot tell cold memory from hot, so mom moves memory slowly"
        by_reason.setdefault(way.why_not or without, []).append(guest.name)
    if reachable:
        yield Finding(Severity.OK, SUBJECT, f"the kernel finds the cold memory of {reachable} of {len(guests)} guests")
    for reason, names in by_reason.items():
        yield Finding(Severity.WARNING, SUBJECT, f"{first_names(names)}: {reason}", "see the README of mom_plugins_host")
