"""The mixes of guests that are squeezed, and how, from mixes.yaml; the same as a course for the simulator."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import yaml
from days import STEP_SECONDS, read_days
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

HERE = Path(__file__).resolve().parent

TOUCHES = 4000
"""Random pages that a guest's program looks at in each slot of 100 ms: 16 MiB of the memory that it holds."""

SWAPPING_FLOOR, UNSWAPPED_FLOOR = 100, 500
"""MiB: with more than the first available a kernel does not begin to swap by itself; without swap, the second is left."""


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
    recorded: bool = False
    together: bool = False
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
    role: Literal["", "database", "cache", "build"] = ""


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
    days: Sequence[Sequence[int]] = ()
    """Days of recorded guests (days.py)."""

    @property
    def recorded(self) -> bool:
        """Whether guests follow recorded days."""
        return any(group.recorded for group in self.guests.values())

    @property
    def sold(self) -> int:
        """MiB that all guests have together."""
        return sum(group.count * group.memory for group in self.guests.values())

    @property
    def count(self) -> int:
        """How many guests there are."""
        return sum(group.count for group in self.guests.values())

    @property
    def debian(self) -> bool:
        """Whether its guests are real Debian systems with real programs."""
        return any(group.role for group in self.guests.values())

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

    def with_days(self, folder: Path | None, day: date) -> Mix:
        """Return the same with recorded days for its guests. See `read_days`."""
        memory = [member.group.memory for member in self.members() if member.group.recorded]
        return self.model_copy(update={"days": read_days(folder, day, memory)})

    def _with(self, **changes: float) -> Mix:
        return self.model_copy(update={"protocol": self.protocol.model_copy(update=changes)})

    def members(self) -> Iterator[Member]:
        """Each guest."""
        days = iter(self.days)
        for name, group in self.guests.items():
            for index in range(group.count):
                phase = 0 if group.together else group.period * index // group.count
                yield Member(f"{name}-{index + 1:02d}", name, group, phase, next(days, ()) if group.recorded else ())


@dataclass(frozen=True)
class Member:
    """One guest: its name, that of its kind, what it does, how far into its period it begins (s), and its recorded day (MiB)."""

    name: str
    kind: str
    group: Group
    phase: int
    day: Sequence[int] = ()

    def arguments(self, begin: int, warms: float = 0.0) -> str:
        """Return the arguments for its kernel. See `demand`."""
        words = {"demand": self.demand(begin, warms), "zram": self.group.zram, "role": self.group.role}
        day = [max(0, mib - self.group.base) for mib in self.day]
        words["day"] = ",".join(map(str, [STEP_SECONDS, *day])) if day else ""
        return " ".join(f"momtest.{name}={value}" for name, value in words.items() if value)

    def demand(self, begin: int, warms: float = 0.0) -> str:
        """What its program is told (tests/real/demand.c).

        :param begin: seconds since the epoch
        :param warms: how many seconds later it begins to use what is cold; 0: never
        """
        one = self.group
        told = (begin, one.base, one.burst, one.period, one.duty, self.phase, one.files, one.reads)
        cold: tuple[int, ...] = (one.cold, round(warms), 0 if one.alike else zlib.crc32(self.name.encode())) if one.cold else ()
        if one.sliced:
            cold = (*(cold or (0, 0, 0)), 1)
        return ",".join(map(str, (*told, one.growth, TOUCHES, one.leak, one.leaks, *cold)))


QUICK = "quick"
"""The small mix for a first look; it is not among those that are compared."""


def read_mixes(path: Path = HERE / "mixes.yaml") -> Mapping[str, Mix]:
    """All mixes by name. Raises `ValueError` with the file and all that is wrong in it."""
    try:
        return TypeAdapter(dict[str, Mix]).validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
