"""Counts what happened in the demonstration, from nothing but the reports, and tells it."""

from __future__ import annotations

import os
import shlex
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from mom_core import Guest, Outcome, Status, printable
from mom_plugins_sim.demo.story import Moment
from mom_toolkit import field_number, pages_kib, program_need, taken_from

KNOWN_CYCLES = 3
"""Statistics are at most 8 s old when the policy acts on them: what a guest needs was known in one of the last three cycles."""


NOTICEABLE_KIB = 16 * 1024
"""KiB by which a guest must be smaller than it was sold to count as shrunk: mom's least step."""

BALLOON = "balloon_target"
"""The control by which guests give and get memory."""


def size(kib: float) -> str:
    """KiB in GiB, or in MiB if that is little, as short as a person wants it."""
    if kib < 0.995 * (1 << 20):
        return f"{kib / 1024:.0f} MiB"
    return f"{kib / (1 << 20):.1f} GiB".replace(".0 GiB", " GiB")


@dataclass(slots=True)
class Extremes:
    """The worst that a host went through. KiB, percent, seconds."""

    least_available: float = float("inf")
    most_swapped: float = 0.0
    most_pressure: float = 0.0
    waited: float = 0.0

    def add(self, available: float, swapped: float, pressure: float, waited: float) -> None:
        """Take in one moment."""
        self.least_available = min(self.least_available, available)
        self.most_swapped = max(self.most_swapped, swapped)
        self.most_pressure = max(self.most_pressure, pressure)
        self.waited = waited


@dataclass(slots=True)
class Summary:
    """What happened, all told: sizes in KiB, times in simulated seconds."""

    host: float = 0.0
    sold: float = 0.0
    guests: int = 0
    managed: Extremes = field(default_factory=Extremes)
    alone: Extremes = field(default_factory=Extremes)
    taken: float = 0.0
    taken_most: float = 0.0
    merged: float = 0.0
    merged_most: float = 0.0
    cold_most: float = 0.0
    offloaded: set[str] = field(default_factory=set)
    shrunk: set[str] = field(default_factory=set)
    below_need: set[str] = field(default_factory=set)
    commands: int = 0
    left_alone: dict[str, str] = field(default_factory=dict)
    _needs: dict[str, deque[float]] = field(default_factory=dict)
    _short_since: dict[str, float] = field(default_factory=dict)
    longest_short: float = 0.0
    program: float = 0.0

    def add(self, moment: Moment) -> None:
        """Take in one moment."""
        snapshot = moment.report.snapshot
        host = snapshot.host.fields
        self.host = field_number(host, "mem_available")
        self.guests = len(snapshot.guests)
        self.sold = sum(field_number(guest.fields, "balloon_max") for guest in snapshot.guests.values())
        self.taken = sum(taken_from(guest) for guest in snapshot.guests.values())
        self.taken_most = max(self.taken, self.taken_most)
        self.merged = pages_kib(host, "ksm_pages_sharing")
        self.merged_most = max(self.merged, self.merged_most)
        self.cold_most = max(self.cold_most, sum(field_number(guest.fields, "host_swap") for guest in snapshot.guests.values()))
        self.managed.add(
            field_number(host, "mem_really_available"),
            field_number(host, "swap_usage"),
            field_number(host, "psi_memory_some_avg10"),
            field_number(host, "psi_memory_some_total") / 1e6,
        )
        alone = moment.alone
        self.alone.add(alone.available, alone.swapped, alone.pressure, alone.waited)
        self.program = max(self.program, alone.program)
        for guest in snapshot.guests.values():
            self._add_guest(guest, moment)
        for outcome in moment.report.outcomes:
            self._add_outcome(outcome, snapshot.guests.get(outcome.decision.entity.id))

    def _add_guest(self, guest: Guest, moment: Moment) -> None:
        time, interval = moment.time, moment.plot.interval
        self._needs.setdefault(guest.id, deque(maxlen=KNOWN_CYCLES)).append(program_need(guest))
        if taken_from(guest) > NOTICEABLE_KIB:
            self.shrunk.add(guest.id)
        if field_number(guest.fields, "offloaded") > NOTICEABLE_KIB:
            self.offloaded.add(guest.id)
        if guest.blocked:
            self.left_alone[guest.name] = next(iter(guest.blocked.values()))
        elif time > 4 * interval and "mem_usable" not in guest.fields and "stats_age" not in guest.fields:
            self.left_alone[guest.name] = "the guest sends no statistics"
        if field_number(guest.fields, "sim_squeezed") > 0:
            since = self._short_since.setdefault(guest.id, time - interval)
            self.longest_short = max(self.longest_short, time - since)
        else:
            self._short_since.pop(guest.id, None)

    def _add_outcome(self, outcome: Outcome, guest: Guest | None) -> None:
        if guest is None or outcome.status is not Status.APPLIED or outcome.decision.control != BALLOON:
            return
        self.commands += 1
        target = outcome.decision.value
        if isinstance(target, int) and target < min(field_number(guest.fields, "balloon_cur"), *self._needs[guest.id]):
            self.below_need.add(guest.id)

    @property
    def returned(self) -> float:
        """The ratio of what was taken that the guests have again."""
        return 1.0 - self.taken / self.taken_most if self.taken_most else 1.0

    def lines(self) -> list[str]:
        """The summary for a person, in lines of at most 80 columns."""
        managed, alone = self.managed, self.alone
        rows = [
            ("", "with mom", "without"),
            ("least memory available", size(managed.least_available), size(alone.least_available)),
            ("most in the host's swap", size(managed.most_swapped), size(alone.most_swapped)),
            ("most memory pressure (10 s)", f"{managed.most_pressure:.0f} %", f"{alone.most_pressure:.0f} %"),
            ("programs waited for memory", f"{managed.waited:.0f} s", f"{alone.waited:.0f} s"),
        ]
        program = f"; a program took {size(self.program)} of it" if self.program else ""
        return [
            f"{self.guests} guests were sold {size(self.sold)} on a host of {size(self.host)}{program}.",
            "",
            *(f"  {what:<30}{ours:>12}{theirs:>12}" for what, ours, theirs in rows),
            "",
            f"  ballooned at most {size(self.taken_most)}, from {len(self.shrunk)} guests, with {self.commands} commands;"
            f" merged {size(self.merged_most)}",
            f"  given back afterwards: {self.returned:.0%}",
            f"  not touched and moved to compressed swap: at most {size(self.cold_most)}, from {len(self.offloaded)} guests",
            f"  shrunk below what it was known to need: {len(self.below_need) or 'no guest'}",
            f"  longest that a growing guest waited for mom: {self.longest_short:.0f} s",
            *(f"  left alone: {printable(name, 20)}, {reason}" for name, reason in sorted(self.left_alone.items())),
        ]


NEXT = (
    ("demo --seed 2", "another host"),
    ("simulate --list", "scenarios, to try policies on; `demo --scenario` shows one"),
    ("replay --help", "tries policies on the recording"),
    ("here", "what mom sees on this host, and how it would be managed"),
)
"""The verbs to type next, which work where this one does, and why."""


def program(called: Path, found: str | None) -> str:
    """How to call the mom that runs: `mom`, where that is the one that a shell finds, and else where it is, as seen from here.

    :param called: what this process was started as
    :param found: what a shell finds for `mom`
    """
    if called.name != "mom" or not called.exists() or (found is not None and Path(found).samefile(called)):
        return "mom"
    near = os.path.relpath(called)
    return shlex.quote(str(called.resolve()) if near.startswith("..") else near)
