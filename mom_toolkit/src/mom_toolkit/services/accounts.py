"""What mom has brought on a host and what it has cost: what a plugin that keeps accounts offers to one that joins hosts' reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

KIB_SECONDS_PER_GIB_HOUR: Final = float(1 << 20) * 3600
"""What is told in GiB hours is kept in KiB times seconds."""

HOURS_A_MONTH: Final = 730.0
"""A twelfth of a year."""


@dataclass(frozen=True, slots=True)
class AccountSums:
    """The sums of a host's accounts over some time. `..._kib_seconds` are sizes times the seconds for which they stood. None: unknown.

    `since` and `until` are seconds since the epoch, `seen_seconds` how much of the time between is known. `unheld` is what guests were sold
    and their processes did not hold. What was given back by all means is the sum of the four `by_...`. `price` is of a GiB in a month.
    """

    since: float
    until: float
    seen_seconds: float
    total_kib: float | None
    sold_kib_seconds: float
    held_kib_seconds: float
    unheld_kib_seconds: float
    by_balloon_kib_seconds: float
    by_sweeps_kib_seconds: float
    by_cold_kib_seconds: float
    by_ksm_kib_seconds: float | None
    waited_for_mom_seconds: float | None
    killed: int | None
    promise_kept_seconds: float
    promise_broken_seconds: float
    price: float | None = None
    currency: str = ""


@runtime_checkable
class HostAccounts(Protocol):
    """Keeps accounts of this host."""

    def account_sums(self) -> AccountSums | None:
        """Those of the last 30 days, some minutes old at the most; None before anything is known. From any thread."""
