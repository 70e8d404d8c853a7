"""Simulated kernel samepage merging (KSM): merged pages, pace and CPU time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mom_core import NotSupported, Value

PAGE = 4  # KiB

SECONDS_PER_PAGE = 2.7e-6
"""CPU time to scan one page: a checksum of 4 KiB and two tree walks.

Measured: 2.6 to 2.8 us on real guests (docs/ksm-law.md).
"""

VISITS = 2.0
"""KSM merges a page at its second visit or later: the first visit only stores its checksum."""

VOLATILE = 0.03
"""Fraction of duplicate pages that never merge, because guests write to them between two visits."""

COPIES = 6.0
"""Average number of pages with the same content."""

MERGEABLE = (1 - VOLATILE) * (1 - 1 / COPIES)
"""Fraction of duplicate memory that KSM finally saves."""

RMAP_BYTES = 64
"""Bytes of metadata per scanned page (struct ksm_rmap_item)."""

WRITABLE = {"run": (0, 2), "pages_to_scan": (1, 1 << 31), "sleep_millisecs": (0, 1 << 31), "merge_across_nodes": (0, 1)}


@dataclass(slots=True)
class Ksm:
    """Knobs and counters as in /sys/kernel/mm/ksm; `step` merges."""

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
        """Memory that the host saves."""
        return self.sharing * PAGE

    def step(self, mergeable_kib: float, resident_kib: float, dt: float) -> None:
        """Scan for `dt` seconds.

        :param mergeable_kib: guests' resident memory whose content other guests also have
        """
        self.candidates = resident_kib / PAGE
        most = mergeable_kib / PAGE * MERGEABLE
        self.sharing = min(self.sharing, most)  # freed and rewritten pages are no longer merged
        if self.run == 2:
            self.sharing = self.visited = self.scans = 0.0  # the kernel drops its rmap items
        if self.run != 1 or self.candidates <= 0:
            return
        busy = self.pages_to_scan * SECONDS_PER_PAGE
        pages = self.pages_to_scan / (self.sleep_millisecs / 1000 + busy) * dt
        self.cpu_seconds += pages * SECONDS_PER_PAGE
        self.visited += pages
        self.scans += pages / self.candidates
        self.sharing += (most - self.sharing) * (1 - math.exp(-pages / self.candidates / VISITS))

    def read(self) -> dict[str, Value]:
        """Return the values of KSM's files, and the scanner's CPU time."""
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
        """Set all knobs, or none: raise `NotSupported` for an unknown knob or a value out of range."""
        for name, value in knobs.items():
            if name not in WRITABLE:
                raise NotSupported(f"this kernel has no KSM knob {name}")
            low, high = WRITABLE[name]
            if not low <= value <= high:
                raise NotSupported(f"KSM's {name} cannot be {value}")
        for name, value in knobs.items():
            setattr(self, name, int(value))
