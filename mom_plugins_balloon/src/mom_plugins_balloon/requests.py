"""What was asked of each guest: whether it has followed, and whether another command is worth sending."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mom_core import Guest, Snapshot

PATIENCE_SECONDS = 30.0
"""After this time a guest that has not arrived is asked again. At 0.86 GiB/s, which a virtio balloon moves, 30 s are 26 GiB."""

SAME_STATISTICS_SECONDS = 0.5
"""Statistics whose times are nearer than this are the same: they are made once a second at most, and their age is not known exactly."""


@dataclass(slots=True)
class SizeRequest:
    """The last size that was asked of a guest: from which size, when (monotonic seconds), and whether it was seen to arrive.

    `said` is when the statistics were made that this went by (monotonic seconds), None: unknown.
    """

    target: int
    began_at: float
    asked: float
    incarnation: str
    arrived: bool = False
    said: float | None = None


class Requests:
    """The requests to all guests, for as long as the guests are there."""

    def __init__(self, dead_band_kib: float) -> None:
        self._dead_band = dead_band_kib
        self._requests: dict[str, SizeRequest] = {}
        self._followed: Snapshot | None = None
        """The snapshot in which it was seen who has arrived, until something is asked again."""

    def get(self, identity: str) -> SizeRequest | None:
        """The last request to this guest, if there was one."""
        return self._requests.get(identity)

    def sent(self, identity: str, target: int, size: float, now: float, incarnation: str, said: float | None = None) -> None:
        """Note that `target` KiB was asked of a guest of `size` KiB, by statistics that were made at `said`."""
        self._requests[identity] = SizeRequest(target, size, now, incarnation, said=said)
        self._followed = None

    def gave(self, identity: str, said: float) -> bool:
        """Whether the guest was made smaller by the very statistics that were made at `said`: they promise too much by that."""
        request = self._requests.get(identity)
        if request is None or request.said is None or request.target >= request.began_at:
            return False
        return abs(said - request.said) < SAME_STATISTICS_SECONDS

    def forget(self, identity: str) -> None:
        """The guest is gone, or its size is no longer ours."""
        self._requests.pop(identity, None)

    def keep_only(self, guests: Iterable[Guest]) -> None:
        """Forget the guests that are gone or were started anew."""
        if self._requests:
            there = {guest.id: guest.incarnation for guest in guests}
            for identity in [identity for identity, request in self._requests.items() if there.get(identity) != request.incarnation]:
                del self._requests[identity]

    def follow(self, snapshot: Snapshot) -> None:
        """See which guests have arrived."""
        if snapshot is self._followed:
            return
        self._followed = snapshot
        moving = [(identity, request) for identity, request in self._requests.items() if not request.arrived]
        sizes = dict(zip(snapshot.guests, snapshot.numbers("balloon_cur"), strict=True)) if moving else {}
        for identity, request in moving:
            size = sizes.get(identity)
            request.arrived = size is not None and abs(size - request.target) < self._dead_band

    def all(self) -> Mapping[str, SizeRequest]:
        """The last request to each guest, by guest id."""
        return self._requests

    def pending(self, identity: str) -> int | None:
        """The size in KiB that the guest is still on its way to."""
        request = self._requests.get(identity)
        return None if request is None or request.arrived else request.target

    def why_not_send(self, identity: str, target: int, size: float, maximum: float | None, now: float, guarantee: float = 0.0) -> str:
        """Why asking for `target` KiB is not worth a command; empty when it is.

        A guest that has arrived is compared by its size, one that is on its way by where it is going. The very maximum is always worth
        a command: a guest that gets back everything should have everything. So is every KiB below the guarantee.
        """
        request = self._requests.get(identity)
        heading = size if request is None or request.arrived else request.target
        if heading < guarantee <= target:
            return ""
        if request is not None and not request.arrived:
            if abs(target - request.target) >= self._dead_band or now - request.asked > PATIENCE_SECONDS:
                return ""
            return "the guest is on its way there"
        if target == size:
            return "the guest has this size"
        if target == maximum or abs(target - size) >= self._dead_band:
            return ""
        return "the change is smaller than the dead band"
