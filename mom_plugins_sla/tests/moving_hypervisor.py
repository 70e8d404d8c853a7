"""A hypervisor of memory only whose guests can be paused, saved, shut down, started and moved."""

from collections.abc import Mapping, Sequence

from mom_core import Entity, GuestBusy, GuestGone
from mom_devkit import FakeGuest, FakeHypervisor
from mom_kvm import Destination, GuestState


class MovingHypervisor(FakeHypervisor):
    """Implements `LifecycleControl` and `MigrationControl`, too."""

    def __init__(self, guests: Sequence[FakeGuest] | None = None) -> None:
        super().__init__(guests)
        self.stands: dict[str, GuestState] = {}
        """How guests are that something was done to, by guest id."""
        self.stopped: dict[str, FakeGuest] = {}
        """Those that do not run, by guest id."""
        self.migrated: dict[str, Destination] = {}
        """Where guests went that were moved, by guest id."""
        self.silent: set[str] = set()
        """Those of which nothing can be learnt, by guest id: a hook holds them up."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """How these are: what was done to them last."""
        if silent := [guest for guest in guests if guest.id in self.silent]:
            raise GuestBusy(f"looking at {silent[0]}: no answer")
        ids = {one.id for one in self.known.values()} | {one.id for one in self.stopped.values()}
        return {guest.id: self.stands.get(guest.id, GuestState.RUNNING) for guest in guests if guest.id in ids}

    def pause(self, guest: Entity) -> None:
        """It is listed, and paused."""
        self.stands[self.guest(guest).id] = GuestState.PAUSED

    def resume(self, guest: Entity) -> None:
        """It runs again."""
        self.stands[self.guest(guest).id] = GuestState.RUNNING

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """It is not listed any more."""
        self._stop(guest, GuestState.SAVED)

    def shut_down(self, guest: Entity) -> None:
        """It follows at once."""
        self._stop(guest, GuestState.OFF)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """It is listed again."""
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
        """The guest is gone, and stands in `migrated` with where it went."""
        moved = self.guest(guest)
        del self.known[moved.name]
        self.migrated[guest.id] = destination
