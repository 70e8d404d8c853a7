"""Where cold memory can go: the host's swap, how much it still takes, and how well it compresses. Pure, but for the readers.

How much may be written to disks, as their cells wear: so much in any day."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mom_kvm import StoreKind, SwapStore, read_kernel_file, read_meminfo
from mom_plugins_host.offload.law import LEAST_KIB

KEPT_SHARE: Final = 0.05
"""Of each store. What is left is for the kernel: a host in need that cannot swap kills a process. It swaps by itself when
more is asked for within a cycle than the host has available: of 6 GiB these are 300 MiB, one burst of a guest."""

LEAST_RATIO: Final = 1.25
"""With less, a host gains less than a fifth of what has to be compressed, and read back one day."""

_JUDGED_KIB: Final = 32 << 10
"""So much has to be in a store before its compression is judged: what went first may be of one guest."""

_USUAL_RATIO: Final = 2.5
"""What guests' memory compresses to before it is known: lzo and lz4 make 2 to 3 of it, zstd 3 to 4."""

_POOL_PERCENT: Final = {"max_pool_percent": 20, "accept_threshold_percent": 90}
"""Percent: of the host's memory, what zswap may take; of that, what it takes again once that was reached. With what the kernel has where it
does not say (mm/zswap.c). Beyond the two, pages are written to the disk behind."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreRoom:
    """The room of all stores, in KiB of guests' memory, and why it is not more (empty: nothing keeps it from more).

    `disk` is whether what goes next is written to a disk.
    """

    kib: int
    why: str
    disk: bool = False


def stores_of(root: Path) -> list[SwapStore]:
    """The stores of this host, in the order in which the kernel fills them.

    :param root: where /proc and /sys are found
    """
    meminfo = read_meminfo(root)
    # Before 5.19 nobody sees how full its pool is: it counts as the disk behind.
    cached = read_kernel_file(root / "sys/module/zswap/parameters/enabled").strip() == b"Y" and "Zswap" in meminfo
    areas = sorted(_areas(root), key=lambda area: -area[4])
    stores = [_store(root, name, is_file, size, used, meminfo if cached else None) for name, is_file, size, used, _ in areas]
    return _within_pool(stores, _pool_kib(root, meminfo)) if cached else stores


def _pool_kib(root: Path, meminfo: dict[str, int]) -> float:
    """KiB of the host's memory that zswap takes before it writes to the disk behind."""
    kib = float(meminfo.get("MemTotal", 0))
    for name, usual in _POOL_PERCENT.items():
        said = read_kernel_file(root / f"sys/module/zswap/parameters/{name}").strip()
        kib *= (int(said) if said.isdigit() else usual) / 100
    return kib


def _within_pool(stores: Sequence[SwapStore], pool_kib: float) -> list[SwapStore]:
    """Stores behind zswap take no more than its pool, which they share: each is as large as what is in it and what that takes."""
    found: list[SwapStore] = []
    left: float | None = None
    for store in stores:
        if store.kind is StoreKind.ZSWAP:
            if left is None:
                left = max(0.0, pool_kib - (store.takes_kib or 0)) * (ratio_of([store]) or _USUAL_RATIO)
            free = min(store.free_kib, int(left))
            left -= free
            store = replace(store, size_kib=store.size_kib - store.free_kib + free, free_kib=free)  # noqa: PLW2901  # the same, smaller
        found.append(store)
    return found


def _areas(root: Path) -> Iterator[tuple[str, bool, int, int, int]]:
    """Name, whether it is a file, KiB in all, KiB in use, and priority, as /proc/swaps says; a malformed line is left out."""
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
        return SwapStore(name, StoreKind.ZSWAP, size, free, cached.get("Zswapped"), cached.get("Zswap"))
    kind = StoreKind.ROTATING if _is_rotating(root, name, is_file) else StoreKind.DISK
    return SwapStore(name, kind, size, free)


def _zram(root: Path, name: str, size: int, free: int) -> SwapStore:
    """A compressed disk; `mm_stat` is what is in it, what that takes compressed, what the device takes in all, and its limit, in bytes."""
    words = read_kernel_file(root / f"sys/block/{name.removeprefix('/dev/')}/mm_stat").split()
    if len(words) < 4 or not all(word.isdigit() for word in words[:4]):
        return SwapStore(name, StoreKind.ZRAM, size, free)
    held, _, takes, limit = (int(word) >> 10 for word in words[:4])
    if limit:
        ratio = held / takes if held >= _JUDGED_KIB and takes else _USUAL_RATIO
        free = min(free, int(max(0, limit - takes) * ratio))
    return SwapStore(name, StoreKind.ZRAM, size, free, held, takes)


def _is_rotating(root: Path, name: str, is_file: bool) -> bool:
    """True for a disk with moving parts; one that does not say has none."""
    if is_file:
        try:
            device = os.stat(root / name.lstrip("/")).st_dev  # noqa: PTH116  # what is asked is the number of the device
        except OSError:
            return False
        folder = root / f"sys/dev/block/{os.major(device)}:{os.minor(device)}"
    else:
        folder = root / "sys/class/block" / name.removeprefix("/dev/").replace("/", "!")
    disk = folder.resolve()
    for place in (disk, disk.parent):  # a partition has no queue of its own
        said = read_kernel_file(place / "queue/rotational").strip()
        if said:
            return said == b"1"
    return False


def ratio_of(stores: Sequence[SwapStore]) -> float | None:
    """How many KiB of guests' memory go into one of the host's; None where nothing is compressed, or too little is in it to tell."""
    known = {(store.held_kib, store.takes_kib) for store in stores if store.held_kib and store.takes_kib}
    held, takes = sum(held or 0 for held, _ in known), sum(takes or 0 for _, takes in known)
    return held / takes if held >= _JUDGED_KIB and takes else None


def net_share(stores: Sequence[SwapStore]) -> float:
    """How much of each KiB that goes the host gains: what is on a disk takes none of its memory, what is compressed takes some."""
    first = next((store for store in stores if _free(store)), None)
    if first is None or first.kind in {StoreKind.DISK, StoreKind.ROTATING}:
        return 1.0
    return max(0.0, 1 - 1 / (ratio_of([first]) or _USUAL_RATIO))


def _free(store: SwapStore) -> int:
    return max(0, store.free_kib - int(KEPT_SHARE * store.size_kib))


def room_of(stores: Sequence[SwapStore], writable_kib: float) -> StoreRoom:
    """The room of stores.

    A store that must not be used keeps those after it from use, too: the kernel fills them in their order.

    :param writable_kib: what may still be written to disks
    """
    if not stores:
        return StoreRoom(0, "the host has no swap")
    kib, disk = 0, None
    for store in stores:
        free = _free(store)
        if not free:
            continue
        why = _why_not(store)
        if not why and store.kind is StoreKind.DISK:
            free = min(free, max(0, int(writable_kib)))
            writable_kib -= free
            why = "" if free >= LEAST_KIB else "no more may be written to disks now (disk_writes)"
        if why:
            return StoreRoom(kib, why, disk=bool(disk))
        disk = store.kind is StoreKind.DISK if disk is None else disk
        kib += free
    full = "swap, or the pool of zswap before it," if any(store.kind is StoreKind.ZSWAP for store in stores) else "swap"
    return StoreRoom(kib, "" if kib else f"{full} is full but for the twentieth that is kept for the kernel", disk=bool(disk))


def _why_not(store: SwapStore) -> str:
    if store.kind is StoreKind.ROTATING:
        return f"{store.name} is a disk with moving parts: a page takes 10 ms to come back"
    ratio = ratio_of([store])
    if ratio is not None and ratio < LEAST_RATIO:
        return f"what is in {store.name} compresses to 1/{ratio:.1f} only"
    return ""


_DAY_SECONDS: Final = 86400.0
_HOURS: Final = 24
_HOUR_SECONDS: Final = _DAY_SECONDS / _HOURS


class WriteBudget:
    """The writes of the last day, by hours.

    What an earlier mom wrote is unknown; so that one that is started again and again does not write more, the first day's budget comes by
    the hour.

    :param day_kib: what may be written in a day
    :param now: monotonic seconds
    """

    def __init__(self, day_kib: int, now: float) -> None:
        self._day_kib = day_kib
        self._since = now
        self._hours: deque[tuple[int, float]] = deque()

    def spend(self, kib: float, now: float) -> None:
        """So much is written now."""
        hour = int(now // _HOUR_SECONDS)
        if self._hours and self._hours[-1][0] == hour:
            kib += self._hours.pop()[1]
        self._hours.append((hour, kib))

    def written(self, now: float) -> float:
        """The writes of the last day, in KiB."""
        oldest = int(now // _HOUR_SECONDS) - _HOURS
        while self._hours and self._hours[0][0] <= oldest:
            self._hours.popleft()
        return sum(kib for _, kib in self._hours)

    def left(self, now: float) -> float:
        """The rest of the budget, in KiB."""
        share = min(1.0, (1 + int((now - self._since) // _HOUR_SECONDS)) / _HOURS)
        return max(0.0, self._day_kib * share - self.written(now))
