"""What guests are promised: asked of the plugin that holds promises, so that the figures are the same wherever they are used."""

from __future__ import annotations

from typing import Final, Protocol

from mom_core import Guest


class Promises(Protocol):
    """The promises to a guest, found from what one snapshot says of it: also of an older snapshot, and in the first cycle.

    Called for each guest in each cycle, from any thread, also before `mom_setup`: wait for nothing.
    """

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the size in KiB below which the guest is not shrunk: what holds of all that it is promised.

        This is what every surface calls guaranteed. None where it is promised nothing, as far as is known.
        """

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise to the guest in KiB, also what the host cannot keep of it; at most what the guest can have.

        None where it is promised nothing, as far as is known.
        """


class _Unknown:
    def guaranteed_kib(self, guest: Guest) -> float | None:
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        return None


NO_PROMISES: Final[Promises] = _Unknown()
"""Knows of no promise to any guest: for where no plugin offers `Promises`."""
