"""Service of the plugin that knows the guests' guarantees and promises."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from mom_core import Guest, Value


class Promises:
    """Promises to a guest in a snapshot; this base class knows none.

    mom calls both methods for each guest in each cycle, from any thread. Return without waiting.
    """

    NOTHING: ClassVar[Mapping[str, Value]] = MappingProxyType({"mem_guarantee": "0KiB"})
    """Property of a guest whose definition contains no promise. Without this property, a guest's promise counts as unknown."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee in KiB: mom does not shrink the guest below it. None without a guarantee, or if it is unknown."""
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise to the guest in KiB, even if the host cannot keep it. None without a promise, or if unknown."""
        return None
