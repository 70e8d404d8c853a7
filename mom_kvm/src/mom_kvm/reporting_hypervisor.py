"""Protocol for `PluginOfGuests`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mom_core import Entity, Guest, Hypervisor, Value


class ReportingHypervisor(Hypervisor, Protocol):
    """Hypervisor that reads guests' statistics when it lists the guests."""

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return fields since the last call of `guests`, keyed by guest id."""

    @property
    def huge_pages(self) -> str:
        """Mode of the host's transparent huge pages: `always`, `madvise` or `never`; empty if unknown, or if the guests are on another
        host.
        """

    def silent(self) -> Mapping[str, str]:
        """Return messages about overdue statistics, keyed by guest id."""

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """Return impossible fields of the last statistics, keyed by guest id."""

    def garbled(self) -> Mapping[str, str]:
        """Return errors of descriptions, keyed by guest id."""

    def stats_period(self, guest: Entity) -> int:
        """Return the statistics period in seconds (0 for never), or raise `HypervisorError`."""

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the statistics period in seconds (0 for never), or raise `HypervisorError`."""
