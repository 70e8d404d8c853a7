"""The guests of one hypervisor as its last look saw them, the same however they are reached: statistics, obstacles, the host's view."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from mom_core import Entity, Guest, GuestGone, NotSupported, Value, printable
from mom_kvm.fields import GuestField
from mom_kvm.freshness import stale_seconds
from mom_kvm.host_side import HostSide
from mom_kvm.hypervisors import UNDESCRIBED, check_size
from mom_kvm.kernel_files import boot_id
from mom_kvm.resizes import Resizes
from mom_kvm.statistics import Reading, Record, convert, usable_memory

UNINTELLIGIBLE: Final = "the guest's description cannot be understood"

_DRIVER_GRACE_SECONDS: Final = 60.0
"""How long a guest may take to answer for the first time, from when it was first seen with statistics on. Booting takes tens of seconds."""

_DRIVER_SILENT_SECONDS: Final = 30.0
_DRIVER_SILENT_STALE: Final = 3
"""How long, and how many times the age from which on they are stale, statistics may not come before the driver counts as silent: a
guest that is short of CPU misses several."""


_PLUGGING_SECONDS: Final = 60.0
"""Without progress for so long, a guest does not finish plugging: it may lack the driver, or room."""

_LEFT_KIB: Final = 1024
"""KiB that a balloon leaves: libvirt refuses to set a guest to nothing."""


class Devices(Protocol):
    """Devices of a guest that decide how to resize it."""

    @property
    def balloon(self) -> str:
        """Its balloon device; empty: it has none."""

    @property
    def pinned(self) -> str:
        """Why ballooned memory does not help the host; empty where it does."""


@dataclass(slots=True, eq=False, kw_only=True)
class SeenGuest(ABC):
    """One guest since it was started. Belongs to the lock of its hypervisor."""

    id: str = ""
    name: str = ""
    start: Hashable
    """Another one each time the guest is started."""
    since: float
    """Monotonic seconds since when its statistics could have come: since it runs, and they are on."""
    state: str = "unknown"
    """How the guest is, in a word that people know."""
    description: Devices | None = None
    """None: not known yet, or `garbled`."""
    garbled: str = ""
    """Why its description, which was read, cannot be understood: what it is promised may never be known, so that nobody waits for that.
    Empty: it can, or was not read yet."""
    period: int = 0
    """Every how many seconds its balloon driver is asked; 0: never, or not known."""
    fields: dict[str, Value] = field(default_factory=dict)
    reading: Reading | None = None
    fresh: bool = False
    """Its statistics are no older than what counts."""
    plugging_kib: int = 0
    plugging_since: float | None = None
    """What virtio-mem was still to plug in or out by the last look, and since when that has not changed (monotonic seconds)."""

    @property
    def balloon(self) -> bool:
        """It has a balloon device."""
        return self.description is not None and bool(self.description.balloon)

    @property
    def pinned(self) -> str:
        """Why the host cannot use what its balloon takes; empty where it can, or something else sizes it."""
        return "" if self.description is None or self.without_balloon else self.description.pinned

    @property
    def without_balloon(self) -> bool:
        """Something else than a balloon sizes it."""
        return False

    @abstractmethod
    def left_alone(self) -> str:
        """Return why mom may change nothing in the guest's state, and expects no report; empty: it may."""

    def take(self, record: Record, wall: float, monotonic: float, stale_after: float | None) -> None:
        """Take its newest record; after an empty record the last statistics grow older. See `convert`."""
        limit = stale_seconds(self.period, stale_after)
        self.fields, self.reading = convert(record, self.reading, wall=wall, monotonic=monotonic, stale_after=limit)
        age = self.reading.age(monotonic)
        self.fresh = age is not None and age <= limit

    @property
    def reports(self) -> bool:
        """Its statistics ought to come."""
        return self.balloon and self.period > 0

    def silence(self, monotonic: float, stale_after: float | None) -> str:
        """Return how its statistics are overdue; empty where they come, or need not."""
        if self.reading is None or self.fresh or not self.reports or self.left_alone():
            return ""
        age = self.reading.age(monotonic)
        if age is None:
            return "the guest's balloon driver has never answered" if monotonic - self.since > _DRIVER_GRACE_SECONDS else ""
        patience = max(_DRIVER_SILENT_SECONDS, _DRIVER_SILENT_STALE * stale_seconds(self.period, stale_after))
        return "the guest's balloon driver does not answer any more" if min(age, monotonic - self.since) > patience else ""

    @property
    def size(self) -> int | None:
        """KiB that it has now."""
        size = self.fields.get("balloon_cur")
        return size if isinstance(size, int) else None

    @property
    def is_smaller(self) -> bool:
        """There is something to be given back to it."""
        maximum = self.fields.get("balloon_max")
        return self.size is not None and isinstance(maximum, int) and self.size < maximum

    @property
    def plugged_kib(self) -> int:
        """KiB that virtio-mem has plugged in: part of its size, and out of its balloon's reach."""
        return 0

    def see_plugging(self, kib: int, monotonic: float) -> None:
        """Note how much virtio-mem still has to plug in or out."""
        if kib != self.plugging_kib:
            self.plugging_kib, self.plugging_since = kib, monotonic if kib else None

    def why_give_back(self, monotonic: float) -> str:
        """Return why mom must give memory back, which virtio-mem may wait for; empty: it need not."""
        plugs = self.plugging_since is not None and monotonic - self.plugging_since < _PLUGGING_SECONDS and not self.without_balloon
        return "memory is being plugged into it, or out" if plugs else ""

    @property
    def least(self) -> int | None:
        """KiB that its balloon can bring it to at least; None: that reaches all of its memory."""
        return self.plugged_kib + _LEFT_KIB if self.plugged_kib and self.balloon and not self.without_balloon else None

    def balloon_request(self, target_kib: int, maximum_kib: int | None) -> int:
        """Return the KiB to ask of its balloon for this size. Raises `NotSupported` for one that the guest cannot have."""
        check_size(target_kib, maximum_kib, printable(self.name))
        if self.least is not None and target_kib < self.least:
            raise NotSupported(f"{target_kib} KiB is less than the {self.least} KiB to which its balloon can bring {printable(self.name)}")
        return target_kib - self.plugged_kib


G = TypeVar("G", bound=SeenGuest)


class SeenGuests(ABC, Generic[G]):
    """The guests of a hypervisor, for several threads: implements `ReportingHypervisor` but for its `uri` and statistics periods.

    :param stale_after: seconds from which on statistics are stale; None: by each guest's own period
    :param host_side: sees the guests' processes; None where they run on another host
    :param proc: this host's /proc, where they run on it: the boot is part of guests' incarnations, as process ids and counts of starts
        come again after it
    """

    def __init__(self, stale_after: float | None, monotonic: Callable[[], float], host_side: HostSide | None, proc: Path | None) -> None:
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._host_side = host_side
        self._resizes = Resizes(monotonic)
        self.tell: Callable[[str], None] = lambda what: None
        """Called with what happened that needs a cycle, from the thread that hears of it."""
        self._looking = threading.Lock()
        """Held during a look."""
        self._lock = threading.Lock()
        self._seen: dict[str, G] = {}
        """By guest id; read and replaced with the lock held."""
        self._looked = False
        boot = boot_id(proc) if proc is not None else ""
        self._boot = f"@{boot}" if boot else ""

    @abstractmethod
    def _look(self) -> None:
        """Look at all guests, and fill `_seen`, with `_looking` held. Raises `HypervisorError`."""

    @abstractmethod
    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """Return the balloon part of these guests' records, by guest id, as it is now; without those that do not answer. Raises
        `HypervisorError`."""

    @abstractmethod
    def _obstacle(self, seen: G) -> str:
        """Return why nothing can be changed of this guest now; empty where something can. The lock is held."""

    @abstractmethod
    def _properties(self, seen: G) -> Mapping[str, Value]:
        """Return the properties that it has beside its name, state and process. The lock is held."""

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """Return the time of the guest's last statistics (s since the epoch) and KiB usable by them; None: no answer."""
        return usable_memory(self.of({guest.id}).get(guest.id, {}))

    def size_now(self, guest: Entity) -> float | None:
        """Return the guest's size in KiB while its balloon moves; None: no answer. Raises `HypervisorError`."""
        size = self.of({guest.id}).get(guest.id, {}).get("balloon.current")
        return size if isinstance(size, int) else None

    def _moved_by(self, seen: G) -> str:
        """Return why its balloon is left to another program; empty where it is not. The lock is held."""
        return ""

    def _fields_of(self, seen: G, process: Mapping[str, Value]) -> dict[str, Value]:
        """Return all its fields, with those of its process. The lock is held."""
        return {**seen.fields, **process}

    # --- guests -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """Return the active guests. One bulk call lists them and reads the statistics that `fields` returns. Raises `HypervisorError`."""
        with self._looking:
            self._look()
            self._looked = True
            with self._lock:
                return tuple(self._listed(seen) for seen in self._seen.values())

    def _listed(self, seen: G) -> Guest:
        properties: dict[str, Value] = {"name": seen.name, "uuid": seen.id, "state": seen.state}
        if self._host_side is not None:
            properties |= self._host_side.properties(seen.id)
        properties |= self._properties(seen)
        return Guest(seen.id, seen.name, properties=properties, blocked=self._blocked(seen), incarnation=f"{seen.start}{self._boot}")

    def _blocked(self, seen: G) -> dict[str, str]:
        why = self._obstacle(seen)
        if why:
            return {"*": why}
        if seen.garbled:
            return dict.fromkeys((GuestField.BALLOON, GuestField.PERIOD), UNINTELLIGIBLE)
        if seen.description is None:  # its guarantee may stand there
            return {"*": UNDESCRIBED}
        if not seen.balloon:
            return dict.fromkeys(
                (GuestField.PERIOD,) if seen.without_balloon else (GuestField.BALLOON, GuestField.PERIOD), "the guest has no balloon device"
            )
        why = self._moved_by(seen)
        if not why and seen.pinned and not seen.is_smaller:
            why = seen.pinned
        why = why or seen.silence(self._monotonic(), self._stale_after)
        return {GuestField.BALLOON: why} if why else {}

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the fields of these guests as of the last call of `guests`, by guest id. A guest that is not known is absent."""
        with self._lock:
            there = {guest.id: seen for guest in guests if (seen := self._seen.get(guest.id)) is not None}
            processes = {} if self._host_side is None else self._host_side.fields(there)
            return {identity: self._fields_of(seen, processes.get(identity, {})) for identity, seen in there.items()}

    @property
    def huge_pages(self) -> str:
        """See `ReportingHypervisor`."""
        return "" if self._host_side is None else self._host_side.huge_pages

    def silent(self) -> Mapping[str, str]:
        """Return the guests with overdue statistics, by id: how they are overdue."""
        now = self._monotonic()
        return {seen.id: why for seen in self.seen() if (why := seen.silence(now, self._stale_after))}

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """Return the guests whose last statistics cannot be true, by id: the names of the fields."""
        return {seen.id: seen.reading.impossible for seen in self.seen() if seen.fresh and seen.reading and seen.reading.impossible}

    def garbled(self) -> Mapping[str, str]:
        """Return the guests with an unreadable description, by id: the reason."""
        return {seen.id: f"{UNINTELLIGIBLE}: {seen.garbled}" for seen in self.seen() if seen.garbled}

    def seen(self, guests: Sequence[Entity] | None = None) -> Sequence[G]:
        """Return all guests as of the last look, or those of these that are there."""
        with self._lock:
            if guests is None:
                return tuple(self._seen.values())
            return [seen for guest in guests if (seen := self._seen.get(guest.id)) is not None]

    def _look_first(self) -> None:
        """Look once: a caller may know guests from an earlier process."""
        if not self._looked:
            self.guests()

    def _there(self, guest: Entity) -> G:
        """Return this guest as of the last look. Raises `GuestGone`."""
        with self._lock:
            seen = self._seen.get(guest.id)
        if seen is None:
            raise GuestGone(f"{guest} is not there any more")
        return seen
