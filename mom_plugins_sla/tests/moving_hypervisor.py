"""Hypervisor in memory whose guests can be paused, saved, shut down, started and moved."""

from collections.abc import Mapping, Sequence

from mom_core import Entity, GuestBusy, GuestGone
from mom_devkit import FakeGuest, FakeHypervisor
from mom_kvm import Destination, GuestState


class MovingHypervisor(FakeHypervisor):
    """Hypervisor with `LifecycleControl` and `MigrationControl`."""

    def __init__(self, guests: Sequence[FakeGuest] | None = None) -> None:
        super().__init__(guests)
        self.stands: dict[str, GuestState] = {}
        """States of changed guests, keyed by ID."""
        self.stopped: dict[str, FakeGuest] = {}
        """Guests that do not run, keyed by ID."""
        self.migrated: dict[str, Destination] = {}
        """Destinations of moved guests, keyed by ID."""
        self.silent: set[str] = set()
        """IDs of guests whose state is unknown, because a hook holds them."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return states of guests: the last change."""
        if silent := [guest for guest in guests if guest.id in self.silent]:
            raise GuestBusy(f"looking at {silent[0]}: no answer")
        ids = {one.id for one in self.known.values()} | {one.id for one in self.stopped.values()}
        return {guest.id: self.stands.get(guest.id, GuestState.RUNNING) for guest in guests if guest.id in ids}

    def pause(self, guest: Entity) -> None:
        """Pause a guest. It stays listed."""
        self.stands[self.guest(guest).id] = GuestState.PAUSED

    def resume(self, guest: Entity) -> None:
        """Resume a guest."""
        self.stands[self.guest(guest).id] = GuestState.RUNNING

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save a guest. It is no longer listed."""
        self._stop(guest, GuestState.SAVED)

    def shut_down(self, guest: Entity) -> None:
        """Shut down a guest at once."""
        self._stop(guest, GuestState.OFF)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start a guest. It is listed again."""
        stopped = self.stopped.pop(guest.id, None)
        if stopped is None:
            raise GuestGone(f"there is no guest {guest.name}")
        self.known[stopped.name] = stopped
        self.stands[guest.id] = GuestState.RUNNING

    def _stop(self, guest: Entity, standing: GuestState) -> None:
        stopped = self.guest(guest)
        del self.known[stopped.name]
        self.stopped[stopped.id] = stopped
        self.stands[stopped.id] = standing

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move a guest to `migrated`, with its destination."""
        moved = self.guest(guest)
        del self.known[moved.name]
        self.migrated[guest.id] = destination
