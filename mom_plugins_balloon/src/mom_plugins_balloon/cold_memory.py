"""What guests' cold memory is worth to a launch, and what of it may be wanted back: less than there is, and more than comes back as a rule.

Which memory is cold, and that it goes to swap, is another plugin's matter: it learns what a guest gets along with by taking. Guarantees are
never covered by it: what a host can promise is memory that it has.
"""

from __future__ import annotations

from typing import Final

from mom_core import Guest, Host, Snapshot

COUNTED_SHARE: Final = 0.5
"""Of what a guest was seen to get along without: it may have begun to use some since."""

OLDEST_SECONDS: Final = 600.0
"""What a guest got along with longer ago says nothing of now."""

RETURNING_SHARE: Final = 0.1
"""Of guests' memory in the host's swap, what is kept free for them, whatever is reserved: about what comes back in a minute of what
stays away for ten."""

PACE_SHARE: Final = 0.0025
"""Of what guests hold, in a second: a quarter of what is taken at most of a guest that does not feel it."""


def counted_kib(guest: Guest) -> float:
    """What of a guest can be counted on to go to swap, in KiB: 0 where what it works on is unknown, or was learnt long ago."""
    held, working_set, age = (guest.number(name) for name in ("rss", "working_set", "working_set_age"))
    if held is None or working_set is None or age is None or age > OLDEST_SECONDS:
        return 0.0
    return COUNTED_SHARE * max(0.0, held - working_set)


def gained_kib(kib: float, host: Host) -> float:
    """What the host gains when so much goes to swap: no more than its swap takes, less what that takes compressed; 0 while one of the two
    is unknown."""
    room, ratio = host.number("offload_room"), host.number("offload_ratio")
    if room is None or ratio is None or ratio <= 1:
        return 0.0
    return min(kib, room) * (1 - 1 / ratio)


def returning_kib(snapshot: Snapshot) -> float:
    """What is kept for guests that want back what is in the host's swap of them."""
    return RETURNING_SHARE * sum(guest.number("host_swap") or 0.0 for guest in snapshot.guests.values())
