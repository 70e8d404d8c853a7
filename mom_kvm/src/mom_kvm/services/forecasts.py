"""Forecasts of guests' memory use by time of day and week, learned by a plugin."""

from __future__ import annotations

from typing import Protocol


class Forecasts(Protocol):
    """Expected memory use of all guests together. Thread-safe; does not wait."""

    def rise_expected(self, seconds: float) -> int:
        """Return the expected growth of all guests' use within `seconds`, in KiB; 0 if unknown."""
