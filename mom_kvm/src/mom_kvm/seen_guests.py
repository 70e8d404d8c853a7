"""Guests at the last query."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from mom_core import Entity, Guest, GuestGone, NotSupported, Value, printable
from mom_kvm.fields import GuestField
from mom_kvm.health import stale_seconds
from mom_kvm.host_side import HostSide
from mom_kvm.kernel_files import boot_id
from mom_kvm.services import GuestDescription
from mom_kvm.statistics import Reading, StatisticsRecord, convert, usable_memory

_UNINTELLIGIBLE: Final = "the guest's description is invalid"

_DRIVER_GRACE_SECONDS: Final = 60.0
"""Time within which a guest must send its first statistics."""

_DRIVER_SILENT_SECONDS: Final = 30.0
_DRIVER_SILENT_STALE: Final = 3
"""A driver counts as silent after 30 s, or after this multiple of `stale_seconds` if longer."""

_PLUGGING_SECONDS: Final = 60.0
"""If virtio-mem makes no progress for this long, mom no longer waits for it."""

_LEFT_KIB: Final = 1024
"""Smallest target that mom sets. libvirt refuses 0."""


class Devices(Protocol):
    """Part of a guest's description that decides how mom can resize the guest."""

    @property
    def balloon(self) -> str:
        """Model of the balloon device; empty without one."""

    @property
    def pinned(self) -> str:
        """Why ballooned memory does not help the host; empty if it helps."""


@dataclass(slots=True, eq=False, kw_only=True)
class SeenGuest(ABC):
    """One run of a guest. Hold the hypervisor's lock while you use it."""

    class Remark(NamedTuple):
        """Reason why mom cannot rely on a guest."""

        kind: Literal["silent", "distrusted", "garbled"]
        message: str
        hint: str

    id: str = ""
    name: str = ""
    start: Hashable
    """Value that differs for each start."""
    since: float
    """Monotonic time since which the guest runs with statistics switched on."""
    state: str = "unknown"
    description: Devices | None = None
    """None if the description has not been read yet, or is unreadable (see `garbled`)."""
    garbled: str = ""
    """Why the description is unreadable; empty otherwise. mom then changes neither the guest's balloon nor its statistics period."""
    period: int | None = None
    """Statistics period of the balloon driver in seconds; 0 if statistics are off, None if unknown or without a balloon."""
    fields: dict[str, Value] = field(default_factory=dict)
    reading: Reading | None = None
    fresh: bool = False
    plugging_kib: int = 0
    plugging_since: float | None = None
    """Monotonic time at which `plugging_kib` last changed; None if that is 0. virtio-mem must still plug or unplug `plugging_kib`."""

    @property
    def balloon(self) -> bool:
        """Whether the guest has a balloon device."""
        return self.description is not None and bool(self.description.balloon)

    @property
    def pinned(self) -> str:
        """Why ballooned memory does not help the host."""
        return "" if self.description is None or self.without_balloon else self.description.pinned

    @property
    def without_balloon(self) -> bool:
        """Whether mom resizes the guest without its balloon."""
        return False

    @abstractmethod
    def left_alone(self) -> str:
        """Return why mom must not change the guest; empty if it may."""

    def add_record(self, record: StatisticsRecord, wall: float, monotonic: float) -> None:
        """Update the fields with `convert` from a new record. With an empty record, only the age of the statistics changes."""
        limit = stale_seconds(self.period or 0)
        self.fields, self.reading = convert(record, self.reading, wall=wall, monotonic=monotonic, stale_after=limit)
        age = self.reading.age(monotonic)
        self.fresh = age is not None and age <= limit

    @property
    def reports(self) -> bool:
        """Whether mom expects balloon statistics."""
        return self.balloon and bool(self.period)

    def silence(self, monotonic: float) -> str:
        """Return a message if statistics are overdue; otherwise empty."""
        if self.reading is None or self.fresh or not self.reports or self.left_alone():
            return ""
        return self.driver_silence(self.reading.age(monotonic), monotonic - self.since, self.period or 0)

    @staticmethod
    def driver_silence(age: float | None, uptime: float, period: float) -> str:
        """Return a message if a balloon driver is silent for too long; otherwise empty.

        :param age: age of the last statistics in seconds; None if there were none
        :param uptime: seconds since the guest's start
        :param period: seconds between two statistics
        """
        if age is None:
            return "the guest's balloon driver has never answered" if uptime > _DRIVER_GRACE_SECONDS else ""
        patience = max(_DRIVER_SILENT_SECONDS, _DRIVER_SILENT_STALE * stale_seconds(period))
        return "the guest's balloon driver no longer answers" if min(age, uptime) > patience else ""

    def remarks(self, monotonic: float) -> Iterator[SeenGuest.Remark]:
        """Yield why mom cannot rely on the guest."""
        if message := self.silence(monotonic):
            hint = "check whether the guest has hung; load virtio_balloon in it (Windows: the balloon driver and service of virtio-win)"
            yield SeenGuest.Remark("silent", message, hint)
        if self.fresh and self.reading is not None and self.reading.impossible:
            # The hint names the fields. In the message, other names would count as a new problem.
            hint = f"its balloon driver is broken or reports false values: {', '.join(self.reading.impossible)}"
            message = "the guest reports impossible statistics; mom ignores all its statistics"
            yield SeenGuest.Remark("distrusted", message, hint)
        if self.garbled:
            hint = "check the description (virsh dumpxml GUEST); mom does not know the guest's guarantee, and does not change its balloon"
            yield SeenGuest.Remark("garbled", f"{_UNINTELLIGIBLE}: {self.garbled}", hint)

    @staticmethod
    def check_size(target_kib: int, maximum_kib: int | None, guest: str) -> None:
        """Raise `NotSupported` if the guest cannot have this size."""
        if target_kib < 1 or (maximum_kib is not None and target_kib > maximum_kib):
            limit = "" if maximum_kib is None else f", which can have up to {maximum_kib} KiB"
            raise NotSupported(f"{target_kib} KiB is not a valid size for {guest}{limit}")

    @property
    def size(self) -> int | None:
        """Size in KiB; None if unknown."""
        size = self.fields.get("balloon_cur")
        return size if isinstance(size, int) else None

    @property
    def is_smaller(self) -> bool:
        """Whether the guest is below its maximum size."""
        maximum = self.fields.get("balloon_max")
        return self.size is not None and isinstance(maximum, int) and self.size < maximum

    @property
    def plugged_kib(self) -> int:
        """KiB plugged by virtio-mem, which the balloon cannot reclaim."""
        return 0

    def note_plugging(self, kib: int, monotonic: float) -> None:
        """Record how many KiB virtio-mem still has to plug or unplug."""
        if kib != self.plugging_kib:
            self.plugging_kib, self.plugging_since = kib, monotonic if kib else None

    def why_give_back(self, monotonic: float) -> str:
        """Return why mom must give the guest its memory back; empty if it need not."""
        plugs = self.plugging_since is not None and monotonic - self.plugging_since < _PLUGGING_SECONDS and not self.without_balloon
        return "virtio-mem is plugging or unplugging the guest's memory" if plugs else ""

    @property
    def least_kib(self) -> int | None:
        """Smallest size in KiB that the balloon can reach; None without a limit."""
        return self.plugged_kib + _LEFT_KIB if self.plugged_kib and self.balloon and not self.without_balloon else None

    def balloon_fields(self, monotonic: float) -> dict[str, Value]:
        """Return the known fields: statistics period, smallest size, and reason to give memory back."""
        fields: dict[str, Value] = {
            GuestField.PERIOD: self.period,
            GuestField.LEAST: self.least_kib,
            GuestField.GIVE_BACK: self.why_give_back(monotonic) or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def balloon_request(self, target_kib: int, maximum_kib: int | None) -> int:
        """Return the balloon's target in KiB for a size of the guest. Raise `NotSupported` for an impossible size."""
        self.check_size(target_kib, maximum_kib, printable(self.name))
        if self.least_kib is not None and target_kib < self.least_kib:
            least = f"the smallest size that {printable(self.name)} can have with its balloon, {self.least_kib} KiB"
            raise NotSupported(f"{target_kib} KiB is less than {least}")
        return target_kib - self.plugged_kib


G = TypeVar("G", bound=SeenGuest)


class SeenGuests(ABC, Generic[G]):
    """Guests of a hypervisor. Thread-safe. Implements `ReportingHypervisor` except `uri` and the statistics periods.

    :param host_side: None if the guests run on another host
    :param proc: this host's /proc, to include the boot in incarnations
    """

    def __init__(self, monotonic: Callable[[], float], host_side: HostSide | None, proc: Path | None) -> None:
        self._monotonic = monotonic
        self._host_side = host_side
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._seen: dict[str, G] = {}
        """Guests, keyed by ID. Hold `_lock` to use them."""
        self._looked = False
        boot = boot_id(proc) if proc is not None else ""
        self._boot = f"@{boot}" if boot else ""

    @abstractmethod
    def _look(self) -> None:
        """Query the hypervisor, and update `_seen`. Call this with `_looking` held."""

    @abstractmethod
    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Query the present balloon statistics of these guests, keyed by ID. Raise `HypervisorError` on failure."""

    @abstractmethod
    def _obstacle(self, seen: G) -> str:
        """Return why mom must not change the guest. Call this with the lock held."""

    @abstractmethod
    def _properties(self, seen: G) -> Mapping[str, Value]:
        """Return further properties. Call this with the lock held."""

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """Return the time of the last statistics (seconds since the epoch), and the usable KiB; None if unknown."""
        return usable_memory(self.of({guest.id}).get(guest.id, {}))

    def size_now(self, guest: Entity) -> float | None:
        """Query the guest's size in KiB, even while its balloon moves; None if unknown. Raise `HypervisorError` on failure."""
        size = self.of({guest.id}).get(guest.id, {}).get("balloon.current")
        return size if isinstance(size, int) else None

    def _moved_by(self, seen: G) -> str:
        """Return which other program resizes the guest; empty if none does. Call this with the lock held."""
        return ""

    def _fields_of(self, seen: G, process: Mapping[str, Value]) -> dict[str, Value]:
        return {**seen.fields, **process}

    def guests(self) -> Sequence[Guest]:
        """List the active guests. Raise `HypervisorError`."""
        with self._looking:
            self._look()
            self._looked = True
            with self._lock:
                return tuple(self._listed(entry) for entry in self._seen.values())

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
        if seen.description is None:  # the description may contain a guarantee
            return {"*": GuestDescription.UNREAD}
        if not seen.balloon:
            controls = [GuestField.PERIOD] if seen.without_balloon else [GuestField.BALLOON, GuestField.PERIOD]
            return dict.fromkeys(controls, "the guest has no balloon device")
        pinned = "" if seen.is_smaller else seen.pinned
        obstacle = self._moved_by(seen) or pinned or seen.silence(self._monotonic())
        return {GuestField.BALLOON: obstacle} if obstacle else {}

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the guests' fields as of the last query."""
        with self._lock:
            present = {guest.id: entry for guest in guests if (entry := self._seen.get(guest.id)) is not None}
            maxima = {identity: entry.fields.get("balloon_max") for identity, entry in present.items()}
            processes = {} if self._host_side is None else self._host_side.fields(maxima)
            return {identity: self._fields_of(entry, processes.get(identity, {})) for identity, entry in present.items()}

    def remarks(self) -> Sequence[tuple[str, SeenGuest.Remark]]:
        """Return why mom cannot rely on guests, each with the guest's ID."""
        now = self._monotonic()
        return [(entry.id, remark) for entry in self.seen() for remark in entry.remarks(now)]

    def seen(self, guests: Sequence[Entity] | None = None) -> Sequence[G]:
        """Return the guests of the last query that are in `guests`; all if None."""
        with self._lock:
            if guests is None:
                return tuple(self._seen.values())
            return [entry for guest in guests if (entry := self._seen.get(guest.id)) is not None]

    def _look_first(self) -> None:
        if not self._looked:
            self.guests()

    def _seen_guest(self, guest: Entity) -> G:
        with self._lock:
            entry = self._seen.get(guest.id)
        if entry is None:
            raise GuestGone(f"{guest} no longer exists")
        return entry
