"""Promises to guests, read from guests' fields."""

from mom_core import Guest
from mom_kvm import Promises


class FakePromises(Promises):
    """Implementation of `Promises` that reads guests' fields: `PluginContext(offers={Promises: (FakePromises("x"),)})`.

    :param guaranteed: field with the guarantee in KiB
    :param promised: field with the promise in KiB; if empty, `guaranteed`
    """

    def __init__(self, guaranteed: str, promised: str = "") -> None:
        self._guaranteed, self._promised = guaranteed, promised or guaranteed

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee; None if unknown."""
        return guest.number(self._guaranteed)

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the promise; None if unknown."""
        return guest.number(self._promised)
