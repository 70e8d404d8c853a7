"""Promises to guests, for tests of plugins that ask for them."""

from __future__ import annotations

from mom_core import Guest


class FakePromises:
    """Implements `mom_core.Promises` by fields of guests: `PluginContext(offers={Promises: (FakePromises("x"),)})`.

    :param guaranteed: the name of the field with what holds, in KiB
    :param promised: the name of the field with all that is promised; empty: the same
    """

    def __init__(self, guaranteed: str, promised: str = "") -> None:
        self._guaranteed, self._promised = guaranteed, promised or guaranteed

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """The field's value."""
        return guest.number(self._guaranteed)

    def promised_kib(self, guest: Guest) -> float | None:
        """The field's value."""
        return guest.number(self._promised)
