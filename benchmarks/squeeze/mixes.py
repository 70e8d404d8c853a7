"""The mixes of guests that are squeezed, and how, from mixes.yaml; the same as a course for the simulator."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

HERE = Path(__file__).resolve().parent

TOUCHES = 4000
"""Random pages that a guest's program looks at in each slot of 100 ms: 16 MiB of the memory that it holds."""

SWAPPING_FLOOR, UNSWAPPED_FLOOR = 100, 500
"""MiB: with more than the first available a kernel does not begin to swap by itself; without swap, the second is left."""


HOURS = 24
"""Of a day, whatever its length is."""

BEGIN_HOUR = 17
"""When guests with days begin with their work, on what counts as the second day: all have had a burst before the third morning."""

OTHER_DAY_HOURS = 2 * HOURS - BEGIN_HOUR
"""From then to the beginning of the fourth day, which differs where one morning only comes before it."""


class Part(BaseModel):
    """Frozen and strict: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Group(Part):
    """Guests of a kind; units as in mixes.yaml."""

    count: PositiveInt
    memory: PositiveInt
    base: PositiveInt
    burst: NonNegativeInt = 0
    period: PositiveInt = 100
    duty: NonNegativeInt = 0
    together: bool = False
    hour: NonNegativeInt | None = Field(None, lt=HOURS)
    other_hour: NonNegativeInt | None = Field(None, lt=HOURS)
    mornings: PositiveInt = 1
    growth: PositiveInt = 320
    files: NonNegativeInt = 0
    reads: NonNegativeInt = 0
    disk: NonNegativeInt = 0
    leak: NonNegativeInt = 0
    leaks: NonNegativeInt = 0
    cold: NonNegativeInt = 0
    alike: bool = False
    balloon: bool = True
    reporting: bool = False
    autodeflate: bool = False
    sliced: bool = False
    zram: NonNegativeInt = 0

    def phase_at(self, hour: int) -> int:
        """How many seconds a period whose bursts begin at that hour has lasted at the beginning."""
        return round(self.period * ((BEGIN_HOUR - hour) % HOURS) / HOURS)


class Protocol(Part):
    """How they are squeezed; units as in mixes.yaml."""

    settle: PositiveInt
    reference: PositiveInt
    available: PositiveInt
    ramp: float = Field(gt=0)
    floor: PositiveInt
    seconds: PositiveInt
    zram: NonNegativeInt = 0
    warms: NonNegativeInt = 0
    taken: NonNegativeInt = 0


class Mix(Part):
    """Guests, how they are squeezed, and why this is worth a look."""

    why: str
    protocol: Protocol
    guests: Mapping[str, Group]

    @property
    def sold(self) -> int:
        """MiB that all guests have together."""
        return sum(group.count * group.memory for group in self.guests.values())

    @property
    def count(self) -> int:
        """How many guests there are."""
        return sum(group.count for group in self.guests.values())

    def with_floor(self, floor: int) -> Mix:
        """The same, squeezed until the host has less than so many MiB available."""
        return self._with(floor=floor)

    def with_zram(self, zram: int) -> Mix:
        """The same on a host with so many MiB of compressed swap, down to where a kernel swaps by itself; 0: without any."""
        return self._with(zram=zram, floor=SWAPPING_FLOOR if zram else UNSWAPPED_FLOOR)

    def with_switches(self, *, reporting: bool, autodeflate: bool) -> Mix:
        """The same with guests whose balloons do these by themselves, besides what the mix says."""
        guests = {
            name: one.model_copy(update={"reporting": reporting or one.reporting, "autodeflate": autodeflate or one.autodeflate})
            for name, one in self.guests.items()
        }
        return self.model_copy(update={"guests": guests})

    def with_day(self, seconds: int) -> Mix:
        """The same with days of another length: all that is counted by the day goes by as fast."""
        protocol, day = self.protocol, self.day
        times = {name: max(1, round(getattr(protocol, name) * seconds / day)) for name in ("settle", "reference", "seconds")}
        guests = {name: group.model_copy(update={"period": seconds}) for name, group in self.guests.items()}
        changed = self._with(**times, ramp=protocol.ramp * day / seconds)
        return changed.model_copy(update={"guests": guests})

    def with_days_alike(self) -> Mix:
        """The same, and no day differs from the others."""
        guests = {name: group.model_copy(update={"other_hour": None}) for name, group in self.guests.items()}
        return self.model_copy(update={"guests": guests})

    @property
    def day(self) -> int:
        """How long a day of the guests is, where they have days."""
        return max(group.period for group in self.guests.values())

    def with_guests(self, count: int) -> Mix:
        """The same with so many guests, of each kind as large a part as there is; at least one."""
        share = count / self.count
        guests = {name: group.model_copy(update={"count": max(1, round(share * group.count))}) for name, group in self.guests.items()}
        return self.model_copy(update={"guests": guests})

    def with_mornings(self, count: int) -> Mix:
        """The same, where the day that differs comes after so many usual mornings."""
        guests = {name: group.model_copy(update={"mornings": count}) for name, group in self.guests.items()}
        changed = self._with(seconds=self.protocol.seconds + (count - 1) * self.day)
        return changed.model_copy(update={"guests": guests})

    def with_available(self, mib: int) -> Mix:
        """The same on a host that has so many MiB available when it begins."""
        return self._with(available=mib)

    def _with(self, **changes: float) -> Mix:
        return self.model_copy(update={"protocol": self.protocol.model_copy(update=changes)})

    def members(self) -> Iterator[Member]:
        """Each guest."""
        for name, group in self.guests.items():
            for index in range(group.count):
                phase = group.phase_at(group.hour) if group.hour is not None else 0
                if group.hour is None and not group.together:
                    phase = group.period * index // group.count
                yield Member(f"{name}-{index + 1:02d}", name, group, phase)


@dataclass(frozen=True)
class Member:
    """One guest: its name, that of its kind, what it does, and how far into its period it is at the beginning (s)."""

    name: str
    kind: str
    group: Group
    phase: int

    def demand(self, begin: int, warms: float = 0.0) -> str:
        """What its program is told (tests/real/demand.c).

        :param begin: seconds since the epoch
        :param warms: how many seconds later it begins to use what is cold; 0: never
        """
        one = self.group
        told = (begin, one.base, one.burst, one.period, one.duty, self.phase, one.files, one.reads)
        cold: tuple[int, ...] = (one.cold, round(warms), 0 if one.alike else zlib.crc32(self.name.encode())) if one.cold else ()
        if one.sliced or one.other_hour is not None:
            cold = (*(cold or (0, 0, 0)), int(one.sliced))
        if one.other_hour is not None:
            cold = (*cold, one.period * (OTHER_DAY_HOURS + HOURS * (one.mornings - 1)) // HOURS, one.phase_at(one.other_hour))
        return ",".join(map(str, (*told, one.growth, TOUCHES, one.leak, one.leaks, *cold)))


QUICK = "quick"
"""The small mix for a first look; it is not among those that are compared."""


DAY = "day"
"""The mix of guests that have days: it is compared by itself (days.py)."""


def read_mixes(path: Path = HERE / "mixes.yaml") -> Mapping[str, Mix]:
    """All mixes by name. Raises `ValueError` with the file and all that is wrong in it."""
    try:
        return TypeAdapter(dict[str, Mix]).validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
