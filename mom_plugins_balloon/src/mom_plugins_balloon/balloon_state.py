"""The plugin's file `balloon.json`: facts for the next run of mom."""

from __future__ import annotations

import fnmatch
import glob
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter

from mom_core import Guest, PluginContext, StateError
from mom_kvm import LaunchedGuest
from mom_plugins_balloon.sizes import SAME_SIZE_KIB

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""A reservation below `LEAST_KIB` or above `MOST_KIB` (1 PiB) is a mistake in the unit."""

MOST_RESERVATIONS: Final = 256
"""Maximum number of reservations. More are a management system's error."""

Kib = Annotated[int, Field(gt=0, lt=1 << 53)]

_Moment = Annotated[float, Field(ge=0, lt=1 << 36)]
"""Seconds since the epoch, or since the host's boot."""


class StartedSize(NamedTuple):
    """Size and maximum (KiB) of one guest at its start, adjusted for memory plugged in or out since."""

    incarnation: str
    size: Kib
    maximum: Annotated[int, Field(ge=0, lt=1 << 53)]
    """0 if unknown."""

    @property
    def is_below(self) -> bool:
        """Whether the guest started with less than its maximum."""
        return self.size < self.maximum - SAME_SIZE_KIB

    def had(self, kib: float) -> bool:
        """Return whether `kib` is the guest's size or maximum at its start."""
        return abs(kib - self.size) < SAME_SIZE_KIB or abs(kib - self.maximum) < SAME_SIZE_KIB

    def must_follow(self, size: float | None, maximum: float | None, age: float | None) -> bool:
        """Return whether this record needs an update: `maximum` became known, or differs while the guest has all its memory."""
        if not maximum or not self.maximum:
            return bool(maximum)
        has_all = size is not None and size > maximum - SAME_SIZE_KIB and not self.is_below
        return has_all and age is not None and abs(maximum - self.maximum) >= SAME_SIZE_KIB


class UnfinishedRequest(NamedTuple):
    """Shrink or sweep that the guest has not completed: its size is between `target` and `before` (KiB)."""

    incarnation: str
    before: Kib
    target: Kib
    sweeps: bool = False
    """Whether the request is a sweep. A swept guest lacks headroom until its size is `before` again."""


@dataclass(frozen=True, slots=True)
class KeptReservation:
    """Reservation as mom stores it. All times except `created` are monotonic."""

    id: str
    memory_kib: Annotated[int, Field(ge=LEAST_KIB, le=MOST_KIB)]
    name: str
    """Pattern of a guest's name or ID; empty for any guest that fits."""
    who: str
    created: _Moment
    made: _Moment
    deadline: _Moment
    guest: str = ""
    guest_name: str = ""
    incarnation: str = ""
    taken_at: _Moment | None = None
    launch: str = ""
    """ID or name of the only guest that may use the reservation before `launch_until`."""
    launch_until: _Moment = 0.0
    is_of_launch: bool = False
    """Whether a launch made the reservation. Such a reservation ends with the launched guest."""

    @property
    def specificity(self) -> tuple[bool, int]:
        """Sort key: named reservations before unnamed ones, smaller before larger ones."""
        return not self.name, self.memory_kib

    def fits(self, guest: Guest | LaunchedGuest, size: float | None, now: float) -> bool:
        """Return whether a guest of this size may use the reservation."""
        if self.launch and now < self.launch_until:
            return self.launch in {guest.id, guest.name}
        if self.name:
            return any(_matches(name, self.name) for name in (guest.name, guest.id) if name)
        return size is not None and size <= self.memory_kib


@dataclass(frozen=True, slots=True)
class KeptReservations:
    """All reservations, and guests' incarnations keyed by ID. Both are valid until the host reboots."""

    boot: str
    monotonic: _Moment
    guests: dict[str, str]
    reservations: Annotated[tuple[KeptReservation, ...], Field(max_length=MOST_RESERVATIONS)]


@dataclass(frozen=True, slots=True)
class BalloonState:
    """Facts for the next run of mom. `starts` and `requests` are keyed by guest ID."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")  # a file of another format is refused, not read in part
    starts: Mapping[str, StartedSize] = field(default_factory=dict)
    requests: Mapping[str, UnfinishedRequest] = field(default_factory=dict)
    reservations: KeptReservations | None = None


class BalloonFile:
    """State of the plugin, in memory and on disk. Thread-safe. A damaged file counts as empty."""

    def __init__(self, context: PluginContext) -> None:
        loss = (
            "reservations have ended, guests' sizes at their start come from the ledger, and guests whose balloons are still moving"
            " count as resized by another process"
        )
        self._file = context.state_file("balloon.json", "the file of the balloon plugin", TypeAdapter(BalloonState), loss=loss)
        self._serves = context.serves
        self._lock = threading.RLock()
        self._state: BalloonState | None = None
        self.is_written = True
        """Whether the state is on disk."""

    @property
    def state(self) -> BalloonState:
        """Present state. At first, the state that the previous run of mom saved."""
        state = self._state
        if state is None:
            with self._lock:
                state = self._state = self._state or self._file.read() or BalloonState()
        return state

    @property
    def left(self) -> bool:
        """Whether another plugin object (after a reload) or the next run of mom owns the file."""
        return self._file.left

    def leave(self) -> None:
        """Stop writing the file."""
        self._file.left = True

    def change(self, **parts: Any) -> None:
        """Replace parts of the state in memory; `save` writes them."""
        with self._lock:
            self._state, self.is_written = replace(self.state, **parts), False

    def save(self) -> None:
        """Write unsaved changes. mom reports errors; the next call tries again."""
        with self._lock, suppress(StateError):
            if self._serves and not self.is_written:
                state = self.state
                reservations = None if state.reservations is None else asdict(state.reservations)
                # `asdict` would copy every record of every guest, in each cycle with a shrink.
                content = {"starts": state.starts, "requests": state.requests, "reservations": reservations}
                self._file.write(content, durable=False)
                self.is_written = True

    def read_again(self) -> None:
        """Load the changes that the previous plugin object wrote during the reload."""
        with self._lock, suppress(StateError):
            if self.is_written:
                self._state = self._file.look() or BalloonState()


def _matches(name: str, pattern: str) -> bool:
    # Plain names avoid the cache of `fnmatch` (40 MiB).
    return fnmatch.fnmatchcase(name, pattern) if glob.has_magic(pattern) else name == pattern
