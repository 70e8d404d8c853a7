"""The simulated kernel's samepage merging: what it finds, how fast, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mom_core import NotSupported, Value

PAGE = 4  # KiB

SECONDS_PER_PAGE = 2.7e-6
"""CPU time to look at one page, a checksum of 4 KiB and two tree walks: 2.6 to 2.8 us were measured on real guests (docs/ksm-law.md),
1.6 to 2.1 on twelve others: less where pages are seen for the first time (0.5), more while many are merged (6 to 8)."""

VISITS = 2.0
"""A page is merged at the second visit at the earliest: at the first, only its checksum is noted."""

VOLATILE = 0.03
"""Ratio of duplicate pages that are written to between two visits and so are never merged."""

COPIES = 6.0
"""Pages that share one, on average, where content is duplicate."""

MERGEABLE = (1 - VOLATILE) * (1 - 1 / COPIES)
"""Ratio of duplicate memory that is saved in the end."""

RMAP_BYTES = 64
"""Bytes that the kernel keeps for each page that it looks at (struct ksm_rmap_item)."""

WRITABLE = {"run": (0, 2), "pages_to_scan": (1, 1 << 31), "sleep_millisecs": (0, 1 << 31), "merge_across_nodes": (0, 1)}
"""The knobs, with what the kernel accepts."""


@dataclass(slots=True)
class Ksm:
    """Knobs and counters as in /sys/kernel/mm/ksm, and the merging itself; `step` moves it on."""

    run: int = 0
    pages_to_scan: int = 100
    sleep_millisecs: int = 20
    merge_across_nodes: int = 1
    sharing: float = 0.0
    visited: float = 0.0
    scans: float = 0.0
    candidates: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def saved_kib(self) -> float:
        """KiB that the host has saved."""
        return self.sharing * PAGE

    def step(self, mergeable_kib: float, resident_kib: float, dt: float) -> None:
        """Scan for `dt` seconds, with so much resident in guests and so much of that in several of them."""
        self.candidates = resident_kib / PAGE
        most = mergeable_kib / PAGE * MERGEABLE
        self.sharing = min(self.sharing, most)  # freed and rewritten pages are merged no more
        if self.run == 2:
            self.sharing = self.visited = self.scans = 0.0  # the books are freed, and begun anew
        if self.run != 1 or self.candidates <= 0:
            return
        busy = self.pages_to_scan * SECONDS_PER_PAGE
        pages = self.pages_to_scan / (self.sleep_millisecs / 1000 + busy) * dt
        self.cpu_seconds += pages * SECONDS_PER_PAGE
        self.visited += pages
        self.scans += pages / self.candidates
        self.sharing += (most - self.sharing) * (1 - math.exp(-pages / self.candidates / VISITS))

    def read(self) -> dict[str, Value]:
        """The files of /sys/kernel/mm/ksm and the scanner's CPU time."""
        sharing = int(self.sharing)
        scanning = self.visited > 0
        return {
            **{name: getattr(self, name) for name in WRITABLE},
            "pages_shared": int(sharing / (COPIES - 1)),
            "pages_sharing": sharing,
            "pages_unshared": int(self.candidates * 0.8) - sharing if scanning and self.candidates * 0.8 > sharing else 0,
            "pages_volatile": int(self.candidates * VOLATILE) if scanning else 0,
            "full_scans": int(self.scans),
            "general_profit": int(sharing * PAGE * 1024 - (min(self.visited, self.candidates) * RMAP_BYTES)),
            "ksmd_cpu_seconds": self.cpu_seconds,
        }

    def write(self, knobs: Mapping[str, int]) -> None:
        """Set knobs. Raises `NotSupported` for one that this kernel does not have, or a value that it does not take; then none is set."""
        for name, value in knobs.items():
            if name not in WRITABLE:
                raise NotSupported(f"this kernel has no KSM knob {name}")
            low, high = WRITABLE[name]
            if not low <= value <= high:
                raise NotSupported(f"KSM's {name} cannot be {value}")
        for name, value in knobs.items():
            setattr(self, name, int(value))
