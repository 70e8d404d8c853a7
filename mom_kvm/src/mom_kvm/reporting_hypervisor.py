"""Protocol between a plugin of guests and its hypervisor, which may be one `SeenGuests` or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mom_core import Entity, Guest, Hypervisor, Value


class ReportingHypervisor(Hypervisor, Protocol):
    """Hypervisor that reads guests' statistics when it lists them."""

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the fields of these guests since the last call of `guests`, by guest id, without unknown guests."""

    @property
    def huge_pages(self) -> str:
        """Mode of the host's transparent huge pages when fields were last returned: `always`, `madvise` or `never`; empty: unknown, or the
        guests run on another host."""

    def silent(self) -> Mapping[str, str]:
        """Return messages about guests with overdue statistics, by id."""

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """Return the names of impossible fields in the last statistics, by guest id."""

    def garbled(self) -> Mapping[str, str]:
        """Return why guests' descriptions cannot be understood, by guest id."""

    def stats_period(self, guest: Entity) -> int:
        """Return the statistics period in seconds; 0: never. Raises `HypervisorError`."""

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the statistics period in seconds; 0: never. Raises `HypervisorError`."""
