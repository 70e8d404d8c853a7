"""Guests of one hypervisor as the last look saw them: statistics, obstacles, the host's view. Common to libvirt and QEMU monitors."""

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

_UNINTELLIGIBLE: Final = "the guest's description cannot be understood"

_DRIVER_GRACE_SECONDS: Final = 60.0
"""How long a guest may take to its first statistics, after these were switched on. Booting takes tens of seconds."""

_DRIVER_SILENT_SECONDS: Final = 30.0
_DRIVER_SILENT_STALE: Final = 3
"""The driver counts as silent after so many seconds without statistics, and so many times the age at which they are stale: a guest that is
short of CPU misses several."""

_PLUGGING_SECONDS: Final = 60.0
"""A guest without progress for so long does not finish plugging memory: it may lack the driver, or room."""

_LEFT_KIB: Final = 1024
"""KiB that a balloon leaves at least: libvirt refuses to set a guest to 0."""


class Devices(Protocol):
    """Devices of a guest that determine how to resize it."""

    @property
    def balloon(self) -> str:
        """Model of its balloon device; empty: it has none."""

    @property
    def pinned(self) -> str:
        """Why ballooned memory does not help the host; empty where it does."""


@dataclass(slots=True, eq=False, kw_only=True)
class SeenGuest(ABC):
    """One guest since its start. Only used with the lock of its hypervisor held."""

    id: str = ""
    name: str = ""
    start: Hashable
    """Value that differs for each start of the guest."""
    since: float
    """Monotonic time since which it runs with statistics switched on."""
    state: str = "unknown"
    """State in a common word, such as `running`."""
    description: Devices | None = None
    """None: not read yet, or `garbled`."""
    garbled: str = ""
    """Why its description cannot be understood: its promises may never be known, so nobody waits for them. Empty: it is understood, or was
    not read yet."""
    period: int = 0
    """Seconds between statistics of its balloon driver; 0: never, or unknown."""
    fields: dict[str, Value] = field(default_factory=dict)
    reading: Reading | None = None
    fresh: bool = False
    """Its statistics are not stale."""
    plugging_kib: int = 0
    plugging_since: float | None = None
    """KiB that virtio-mem still had to plug or unplug at the last look, and monotonic time since which the number has not changed."""

    @property
    def balloon(self) -> bool:
        """It has a balloon device."""
        return self.description is not None and bool(self.description.balloon)

    @property
    def pinned(self) -> str:
        """Why inflating its balloon does not help the host; empty: it helps, or something else than a balloon sizes the guest."""
        return "" if self.description is None or self.without_balloon else self.description.pinned

    @property
    def without_balloon(self) -> bool:
        """Something else than a balloon sizes it."""
        return False

    @abstractmethod
    def left_alone(self) -> str:
        """Return why mom may change nothing in the guest's present state, and expects no statistics; empty: it may."""

    def add_record(self, record: Record, wall: float, monotonic: float, stale_after: float | None) -> None:
        """Update fields from the newest record; an empty one lets the last statistics grow older. See `convert`."""
        limit = stale_seconds(self.period, stale_after)
        self.fields, self.reading = convert(record, self.reading, wall=wall, monotonic=monotonic, stale_after=limit)
        age = self.reading.age(monotonic)
        self.fresh = age is not None and age <= limit

    @property
    def reports(self) -> bool:
        """Its balloon driver is expected to send statistics."""
        return self.balloon and self.period > 0

    def silence(self, monotonic: float, stale_after: float | None) -> str:
        """Return a message if its statistics are overdue, else an empty text."""
        if self.reading is None or self.fresh or not self.reports or self.left_alone():
            return ""
        age = self.reading.age(monotonic)
        if age is None:
            return "the guest's balloon driver has never answered" if monotonic - self.since > _DRIVER_GRACE_SECONDS else ""
        patience = max(_DRIVER_SILENT_SECONDS, _DRIVER_SILENT_STALE * stale_seconds(self.period, stale_after))
        return "the guest's balloon driver does not answer any more" if min(age, monotonic - self.since) > patience else ""

    @property
    def size(self) -> int | None:
        """Size in KiB; None: unknown."""
        size = self.fields.get("balloon_cur")
        return size if isinstance(size, int) else None

    @property
    def is_smaller(self) -> bool:
        """It is smaller than its maximum."""
        maximum = self.fields.get("balloon_max")
        return self.size is not None and isinstance(maximum, int) and self.size < maximum

    @property
    def plugged_kib(self) -> int:
        """KiB of its size that virtio-mem has plugged, which its balloon cannot take."""
        return 0

    def note_plugging(self, kib: int, monotonic: float) -> None:
        """Note how much virtio-mem still has to plug or unplug."""
        if kib != self.plugging_kib:
            self.plugging_kib, self.plugging_since = kib, monotonic if kib else None

    def why_give_back(self, monotonic: float) -> str:
        """Return why its memory must be given back: virtio-mem may wait for that. Empty: it need not."""
        plugs = self.plugging_since is not None and monotonic - self.plugging_since < _PLUGGING_SECONDS and not self.without_balloon
        return "memory is being plugged into it, or out" if plugs else ""

    @property
    def least_kib(self) -> int | None:
        """Smallest size that its balloon can reach, in KiB; None: there is no such limit."""
        return self.plugged_kib + _LEFT_KIB if self.plugged_kib and self.balloon and not self.without_balloon else None

    def balloon_request(self, target_kib: int, maximum_kib: int | None) -> int:
        """Return the balloon target in KiB for a size of the guest. Raises `NotSupported` for an impossible size."""
        check_size(target_kib, maximum_kib, printable(self.name))
        if self.least_kib is not None and target_kib < self.least_kib:
            least = f"the {self.least_kib} KiB to which its balloon can bring {printable(self.name)}"
            raise NotSupported(f"{target_kib} KiB is less than {least}")
        return target_kib - self.plugged_kib


G = TypeVar("G", bound=SeenGuest)


class SeenGuests(ABC, Generic[G]):
    """Guests of a hypervisor, for several threads. Implements `ReportingHypervisor` except `uri` and the statistics periods.

    :param stale_after: age in seconds at which statistics are stale; None: it depends on each guest's period
    :param host_side: reads the guests' processes; None: they run on another host
    :param proc: this host's /proc, if the guests run here: incarnations include the boot, as process ids and counts of starts repeat
        after a reboot
    """

    def __init__(self, stale_after: float | None, monotonic: Callable[[], float], host_side: HostSide | None, proc: Path | None) -> None:
        self._stale_after = stale_after
        self._monotonic = monotonic
        self._host_side = host_side
        self._resizes = Resizes(monotonic)
        self.wake: Callable[[str], None] = lambda reason: None
        """Asks for a cycle at once; called with the reason, from the thread that hears of the event."""
        self._looking = threading.Lock()
        """Held during a look."""
        self._lock = threading.Lock()
        self._seen: dict[str, G] = {}
        """By guest id; only used with `_lock` held."""
        self._looked = False
        boot = boot_id(proc) if proc is not None else ""
        self._boot = f"@{boot}" if boot else ""

    @abstractmethod
    def _look(self) -> None:
        """Look at all guests, and fill `_seen`, with `_looking` held. Raises `HypervisorError`."""

    @abstractmethod
    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """Return the present balloon records of these guests, by id, without guests that do not answer. Raises `HypervisorError`."""

    @abstractmethod
    def _obstacle(self, seen: G) -> str:
        """Return why the guest cannot be changed now; empty: it can. The lock is held."""

    @abstractmethod
    def _properties(self, seen: G) -> Mapping[str, Value]:
        """Return properties besides name, state and process. The lock is held."""

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """Return the time of the guest's last statistics (seconds since the epoch) and the KiB usable then; None: no answer."""
        return usable_memory(self.of({guest.id}).get(guest.id, {}))

    def size_now(self, guest: Entity) -> float | None:
        """Return the guest's size in KiB while its balloon moves; None: no answer. Raises `HypervisorError`."""
        size = self.of({guest.id}).get(guest.id, {}).get("balloon.current")
        return size if isinstance(size, int) else None

    def _moved_by(self, seen: G) -> str:
        """Return why another program moves its balloon; empty: none does. The lock is held."""
        return ""

    def _fields_of(self, seen: G, process: Mapping[str, Value]) -> dict[str, Value]:
        """Return all fields, including those of its process. The lock is held."""
        return {**seen.fields, **process}

    # --- guests -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """Return the active guests, after one bulk call that also reads the statistics for `fields`. Raises `HypervisorError`."""
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
        obstacle = self._obstacle(seen)
        if obstacle:
            return {"*": obstacle}
        if seen.garbled:
            return dict.fromkeys((GuestField.BALLOON, GuestField.PERIOD), _UNINTELLIGIBLE)
        if seen.description is None:  # it may contain a guarantee
            return {"*": UNDESCRIBED}
        if not seen.balloon:
            controls = [GuestField.PERIOD] if seen.without_balloon else [GuestField.BALLOON, GuestField.PERIOD]
            return dict.fromkeys(controls, "the guest has no balloon device")
        pinned = "" if seen.is_smaller else seen.pinned
        obstacle = self._moved_by(seen) or pinned or seen.silence(self._monotonic(), self._stale_after)
        return {GuestField.BALLOON: obstacle} if obstacle else {}

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the fields of these guests since the last call of `guests`, by guest id, without unknown guests."""
        with self._lock:
            present = {guest.id: seen for guest in guests if (seen := self._seen.get(guest.id)) is not None}
            processes = {} if self._host_side is None else self._host_side.fields(present)
            return {identity: self._fields_of(seen, processes.get(identity, {})) for identity, seen in present.items()}

    @property
    def huge_pages(self) -> str:
        """See `ReportingHypervisor`."""
        return "" if self._host_side is None else self._host_side.huge_pages

    def silent(self) -> Mapping[str, str]:
        """Return messages about guests with overdue statistics, by id."""
        now = self._monotonic()
        return {seen.id: why for seen in self.seen() if (why := seen.silence(now, self._stale_after))}

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """Return the names of impossible fields in the last statistics, by guest id."""
        return {seen.id: seen.reading.impossible for seen in self.seen() if seen.fresh and seen.reading and seen.reading.impossible}

    def garbled(self) -> Mapping[str, str]:
        """Return why guests' descriptions cannot be understood, by guest id."""
        return {seen.id: f"{_UNINTELLIGIBLE}: {seen.garbled}" for seen in self.seen() if seen.garbled}

    def seen(self, guests: Sequence[Entity] | None = None) -> Sequence[G]:
        """Return all guests of the last look, or those of `guests` that it saw."""
        with self._lock:
            if guests is None:
                return tuple(self._seen.values())
            return [seen for guest in guests if (seen := self._seen.get(guest.id)) is not None]

    def _look_first(self) -> None:
        """Look if there was no look yet: a caller may know guests from an earlier process."""
        if not self._looked:
            self.guests()

    def _seen_guest(self, guest: Entity) -> G:
        """Return this guest of the last look. Raises `GuestGone`."""
        with self._lock:
            seen = self._seen.get(guest.id)
        if seen is None:
            raise GuestGone(f"{guest} is not there any more")
        return seen
