"""Mixes of guests and how they are squeezed, from mixes.yaml."""

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
"""Random pages that a guest's program touches in each slot of 100 ms: 16 MiB of its memory."""


BALLAST_SECONDS = 25.0
"""Until the program that takes memory has brought the host to where the ramp begins."""

LEAD_SECONDS = 25.0
"""From a manager's start to the beginning of the ramp: it reads its guests first."""


class Part(BaseModel):
    """Part of mixes.yaml. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Group(Part):
    """Guests of one kind. mixes.yaml has the units."""

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
    code_cache: NonNegativeInt = 0
    role: Literal["", "database", "cache", "build"] = ""


class Protocol(Part):
    """How guests are squeezed. mixes.yaml has the units."""

    settle: PositiveInt
    reference: PositiveInt
    available: PositiveInt
    ramp: float = Field(gt=0)
    floor: PositiveInt
    seconds: PositiveInt
    zram: NonNegativeInt = 0
    warms: NonNegativeInt = 0
    emulator: NonNegativeInt = 0

    @property
    def begins(self) -> float:
        """Return when the ramp begins, in seconds since all guests work."""
        return self.settle + BALLAST_SECONDS + self.reference + LEAD_SECONDS


class Mix(Part):
    """Guests, how they are squeezed, and why this mix is measured."""

    why: str
    protocol: Protocol
    guests: Mapping[str, Group]
    days: Sequence[Sequence[int]] = ()
    """Days of recorded guests (days.py)."""

    @property
    def recorded(self) -> bool:
        """Return whether guests follow recorded days."""
        return any(group.recorded for group in self.guests.values())

    @property
    def sold(self) -> int:
        """Return the memory of all guests, in MiB."""
        return sum(group.count * group.memory for group in self.guests.values())

    @property
    def count(self) -> int:
        return sum(group.count for group in self.guests.values())

    @property
    def debian(self) -> bool:
        """Return whether guests are Debian systems with real programs."""
        return any(group.role for group in self.guests.values())

    def with_switches(self, *, reporting: bool, autodeflate: bool) -> Mix:
        """Return the mix with these switches on for all balloons, besides those that are on."""
        guests = {
            name: one.model_copy(update={"reporting": reporting or one.reporting, "autodeflate": autodeflate or one.autodeflate})
            for name, one in self.guests.items()
        }
        return self.model_copy(update={"guests": guests})

    def with_days(self, folder: Path | None, day: date) -> Mix:
        """Return the mix with recorded days for its guests. See `read_days`."""
        memory = [member.group.memory for member in self.members() if member.group.recorded]
        return self.model_copy(update={"days": read_days(folder, day, memory)})

    def members(self) -> Iterator[Member]:
        """Yield each guest."""
        days = iter(self.days)
        for name, group in self.guests.items():
            for index in range(group.count):
                phase = 0 if group.together else group.period * index // group.count
                yield Member(f"{name}-{index + 1:02d}", group, phase, next(days, ()) if group.recorded else ())


@dataclass(frozen=True)
class Member:
    """One guest: its name, its load, how far into its period it starts (s), and its recorded day (MiB)."""

    name: str
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
        """Return the arguments of its program (tests/real/demand.c).

        :param begin: seconds since the epoch
        :param warms: seconds from `begin` until the program uses its cold memory; 0: never
        """
        one = self.group
        load = (begin, one.base, one.burst, one.period, one.duty, self.phase, one.files, one.reads)
        cold: tuple[int, ...] = (one.cold, round(warms), 0 if one.alike else zlib.crc32(self.name.encode())) if one.cold else ()
        if one.sliced:
            cold = (*(cold or (0, 0, 0)), 1)
        return ",".join(map(str, (*load, one.growth, TOUCHES, one.leak, one.leaks, *cold)))


QUICK = "quick"
"""Small mix for a first look. It is not compared with the others."""


def read_mixes(path: Path = HERE / "mixes.yaml") -> Mapping[str, Mix]:
    """Return all mixes by name. Raise `ValueError` with the file and all errors in it."""
    try:
        return TypeAdapter(dict[str, Mix]).validate_python(yaml.safe_load(path.read_text("utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
