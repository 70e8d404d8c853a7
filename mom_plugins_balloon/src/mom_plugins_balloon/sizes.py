"""The sizes that guests had lately, so that statistics of a moment ago can be related to the size that they were taken at."""

from __future__ import annotations

from collections.abc import Sequence

from mom_core import Guest, Snapshot, Value, as_number

HORIZON_SECONDS = 120.0
"""How long sizes are remembered. Statistics that are older than this are not believed anyway."""


class RecentSizes:
    """What balloon sizes were seen in snapshots, and what each guest's kernel keeps to itself."""

    def __init__(self) -> None:
        self._last: tuple[Sequence[Guest], Sequence[Value]] = ((), ())
        """The guests in the last snapshot, and their sizes."""
        self._seen: dict[str, list[tuple[float, float]]] = {}
        self._overheads: dict[str, float] = {}

    def note(self, snapshot: Snapshot) -> None:
        """Remember the guests' sizes now. A size that stays the same is kept once, so a quiet guest costs next to nothing."""
        guests, values = snapshot.listed, snapshot.column("balloon_cur")
        if guests is self._last[0] and values == self._last[1]:
            return  # which is seen in a tenth of the time that it takes to look at each
        self._last = guests, values
        seen, now = self._seen, snapshot.monotonic
        for identity, value in zip(snapshot.guests, values, strict=True):
            size = value if type(value) is int else as_number(value)  # a call less for nearly all
            if size is None:
                continue
            sizes = seen.get(identity)
            if sizes is None:
                seen[identity] = [(now, size)]
            elif sizes[-1][1] != size:
                sizes.append((now, size))
                while len(sizes) > 2 and sizes[1][0] < now - HORIZON_SECONDS:
                    del sizes[0]
        if len(seen) > len(snapshot.guests) > 0:  # without any guest the hypervisor is away
            self._seen = {identity: sizes for identity, sizes in seen.items() if identity in snapshot.guests}
            self._overheads = {identity: kib for identity, kib in self._overheads.items() if identity in snapshot.guests}

    def largest_since(self, identity: str, moment: float) -> float | None:
        """The largest size in KiB that the guest has had since that moment (monotonic seconds); None when it was never seen."""
        sizes = self._seen.get(identity)
        if sizes is None:
            return None
        since, largest = sizes[-1]
        if since <= moment:
            return largest  # as of nearly all: it has not changed since then
        for index in range(len(sizes) - 1, 0, -1):
            if sizes[index][0] <= moment:
                break
            largest = max(largest, sizes[index - 1][1])  # it had that one until just before the sample at `index`
        return largest

    def overhead(self, identity: str, total: float | None, moment: float) -> float | None:
        """What the guest's kernel does not count as its own in KiB, learnt from statistics of that moment; None as long as it is unknown.

        It is the size less the kernel's total while the size does not change. The largest value stands: too much is safe.

        :param total: the kernel's total in KiB, when the statistics were taken
        :param moment: when that was, in monotonic seconds
        """
        sizes = self._seen.get(identity)
        known = self._overheads.get(identity)
        if sizes is None or total is None or sizes[-1][0] > moment:
            return known
        seen = max(0.0, sizes[-1][1] - total)
        if known is None or seen > known:
            self._overheads[identity] = known = seen
        return known
