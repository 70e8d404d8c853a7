"""Protocol between a plugin of guests and its hypervisor, which may be one `SeenGuests` or many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from mom_core import Entity, Guest, Hypervisor, Value


class ReportingHypervisor(Hypervisor, Protocol):
    """A hypervisor that reads guests' statistics when it lists them."""

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the fields of these guests as of the last call of `guests`, by guest id. A guest that is not known is absent."""

    @property
    def huge_pages(self) -> str:
        """Which memory the host's kernel had in transparent huge pages when fields were last handed out: `always`, `madvise` or `never`;
        empty where that is unknown, or the guests run on another host."""

    def silent(self) -> Mapping[str, str]:
        """Return the guests with overdue statistics, by id: how they are overdue."""

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """Return the guests whose last statistics cannot be true, by id: the names of the fields."""

    def garbled(self) -> Mapping[str, str]:
        """Return the guests with an unreadable description, by id: the reason."""

    def stats_period(self, guest: Entity) -> int:
        """Return the statistics period in seconds; 0: never. Raises `HypervisorError`."""

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest asked every `seconds`, 0 for no longer. Raises `HypervisorError`."""
