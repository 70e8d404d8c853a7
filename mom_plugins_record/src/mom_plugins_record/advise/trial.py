"""Trials: a recorded host simulated with additional guests, under the recorded plugins and policies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Final

from mom_core import MomError, Report, Value, format_kib, load_config, printable
from mom_kvm import HealthLimits, field_number
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.replay.stage import RecordedStage


class TimeIsOver(Exception):
    """Error: a run has reached the time limit."""


@dataclass(slots=True)
class TriedCount:
    """Runs with the same number of new guests. `harm` is the last run's harm, or empty."""

    count: int
    runs: int = 0
    harm: str = ""


@dataclass(slots=True)
class CapacitySearch:
    """Search for the largest number of new guests without harm, by doubling and bisection.

    :param run: simulates a number of guests with a seed, and returns the harm or an empty string; raises `TimeIsOver`
    :param seeds: number of runs for each number of guests
    :param most: largest number of guests to try
    """

    run: Callable[[int, int], str]
    seeds: int
    most: int
    counts: dict[int, TriedCount] = field(default_factory=dict)
    complete: bool = False

    def largest(self) -> int | None:
        """Return the largest number without harm; None if there is harm even without new guests, or if the time is too short."""
        try:
            result = self._largest()
            self.complete = True
            return result
        except TimeIsOver:
            return max((item.count for item in self.tried if not item.harm), default=None)

    @property
    def tried(self) -> list[TriedCount]:
        """Tried numbers of guests, the smallest first."""
        return sorted((count for count in self.counts.values() if count.runs), key=lambda one: one.count)

    def _largest(self) -> int | None:
        if not self._holds(0):
            return None
        good, bad, step = 0, self.most + 1, 1
        while good + step < bad:
            if not self._holds(good + step):
                bad = good + step
                break
            good += step
            step *= 2
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._holds(middle):
                good = middle
            else:
                bad = middle
        return good

    def _holds(self, count: int) -> bool:
        tried = self.counts.setdefault(count, TriedCount(count))
        while not tried.harm and tried.runs < (self.seeds if count else 1):
            tried.harm = self.run(count, tried.runs + 1)
            tried.runs += 1
        return not tried.harm


SWAPPED_KIB: Final = 64 << 10
"""Growth of swap during a run, in KiB, above which swapping counts as harm. Every host swaps a little."""

WORK, NEWCOMERS_WORK = 0.01, 0.05
"""Fractions of their work that guests may lose: a recorded guest beyond its loss without new guests, and a new guest in total."""

SETTLED_SECONDS: Final = 120.0
"""First seconds of a run, in which losses do not count: unlike real guests, all guests start at the same time."""


NAME: Final = "advised"
"""Prefix of the new guests' names. A pattern in the section `guests` sets their class."""

OFFLOADS: Final = "offload_room"

CLASSES: Final = "sla"


@dataclass(slots=True)
class TrialRun:
    """Figures collected during one run. Sizes in KiB.

    :param killed: OOM kills after the run has settled
    :param swapped: memory swapped out for lack of memory after the run has settled
    :param sold: largest amount of memory sold to guests
    :param total: the host's memory
    :param promisable: part of the host's memory that mom can promise to guests
    """

    killed: float = 0.0
    swapped: float = 0.0
    sold: float = 0.0
    total: float | None = None
    promisable: float | None = None
    _settled: tuple[float, float] | None = None
    _since: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    """Keyed by guest: name, time from which losses count, and lost seconds until then."""
    _lost: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Keyed by guest: time of its last cycle, and lost seconds until then. The guest may leave before the end."""

    @property
    def remark(self) -> str:
        """Harm in a run without new guests, or an empty string."""
        if self.killed:
            return f"there are {self.killed:.0f} OOM kills in guests"
        if self.swapped > SWAPPED_KIB:
            return f"the host swaps out {format_kib(self.swapped)}"
        worst = max(self.lost.values(), default=0.0)
        return f"a guest loses {100 * worst:.1f} % of its work" if worst > WORK else ""

    @property
    def lost(self) -> dict[str, float]:
        """Fraction of its work that each guest lost, keyed by guest id."""
        return {
            identity: (self._lost[identity][1] - lost) / (self._lost[identity][0] - since)
            for identity, (_, since, lost) in self._since.items()
            if self._lost[identity][0] - since > SETTLED_SECONDS
        }

    def add(self, report: Report, before: TrialRun | None) -> str:
        """Add a cycle. Return harm that ends the run, or an empty string.

        :param before: run without new guests; its OOM kills and swapping do not count. None for that run itself
        """
        snapshot = report.snapshot
        host, now = snapshot.host.fields, snapshot.monotonic
        self.sold = max(self.sold, sum(size for size in snapshot.numbers("balloon_max") if size is not None))
        self.total, self.promisable = snapshot.host.number("mem_available"), snapshot.host.number("mem_promisable")
        settled = now >= SETTLED_SECONDS
        promised, promisable = field_number(host, "mem_promised"), field_number(host, "mem_promisable")
        if promised > promisable + 1:
            return f"{format_kib(promised)} would be promised, but the host can promise only {format_kib(promisable)}"
        killed, swapped = field_number(host, "sim_killed"), field_number(host, "swap_usage")
        if self._settled is None or not settled:
            self._settled = killed, swapped
        self.killed = max(self.killed, killed - self._settled[0])
        if OFFLOADS not in host:  # otherwise swap holds cold memory, and losses show the harm
            self.swapped = max(self.swapped, swapped - self._settled[1])
        if before is not None and self.killed > before.killed:
            return "a guest's kernel kills programs for lack of memory"
        if before is not None and self.swapped > before.swapped + SWAPPED_KIB:
            return f"the host swaps: {format_kib(swapped)}"
        for guest in snapshot.guests.values():
            size, holds, lost = (field_number(guest.fields, name) for name in ("balloon_cur", "mem_promised", "sim_lost"))
            if settled and HealthLimits.breaks(size, holds):
                return f"{printable(guest.name)} has only {format_kib(size)}, but was promised {format_kib(holds)}"
            if not settled or guest.id not in self._since:
                self._since[guest.id] = guest.name, now, lost
            self._lost[guest.id] = now, lost
        return ""

    def slowed_down(self, without: TrialRun) -> str:
        """Return the name and loss of the guest that exceeds its allowed loss most, or an empty string."""
        shares, before = self.lost, without.lost
        beyond = {i: share - (before[i] + WORK if i in before else NEWCOMERS_WORK) for i, share in shares.items()}
        worst = max(beyond, key=beyond.__getitem__, default="")
        if not worst or beyond[worst] <= 0:
            return ""
        compared = f", without new guests {100 * before[worst]:.1f} %" if worst in before else ""
        return f"{printable(self._since[worst][0])} loses {100 * shares[worst]:.1f} % of its work{compared}"


@dataclass(slots=True)
class Trials:
    """Runs of a recorded host with new guests.

    :param sla_class: service class of the new guests
    :param memory_kib: size of each new guest; None for the recorded guests' sizes
    :param beat: called with the number of guests, the seed, and the finished fraction. Its exceptions end the run
    :param before: run without new guests
    """

    stage: RecordedStage
    sla_class: str
    memory_kib: float | None
    beat: Callable[[int, int, float], None]
    before: TrialRun = field(default_factory=TrialRun)
    sold: dict[int, float] = field(default_factory=dict)
    """Least memory sold in a run, in KiB, keyed by number of new guests."""

    def harm(self, count: int, seed: int) -> str:
        """Simulate this number of new guests. Return the first harm, or an empty string."""
        sim: dict[str, Value] = {"more": count, "seed": seed} if count else {}
        if count and self.memory_kib is not None:
            sim["more_memory"] = f"{round(self.memory_kib)}KiB"
        run, before = TrialRun(), self.before if count else None
        if not count:
            self.before = run
        for report in self.stage.run("advise", self.stage.policies, sim, {f"{NAME}-*": {"class": self.sla_class}}):
            self.beat(count, seed, min(1.0, report.snapshot.monotonic / self.stage.seconds))
            for problem in report.problems:
                if problem.source.name == CLASSES and problem.entity is not None and problem.entity.name.startswith(f"{NAME}-"):
                    raise MomError(problem.message.partition(", which")[0], hint=problem.hint)
            result = run.add(report, before)
            if result:
                return result
        self.sold[count] = min(run.sold, self.sold.get(count, run.sold))
        return "" if before is None else run.slowed_down(before)


def stage_of(path: Path, config: Path | None, seconds: float | None) -> RecordedStage:
    """Return a recorded host, to be simulated. Raise `MomError` if the recording is unreadable or too short.

    :param config: configuration that replaces the recorded one
    :param seconds: length of the period from the first cycle; None for the whole recording
    """
    recording = Recording(path)
    first = None if seconds is None else next(recording.cycles(), None)
    ends = math.inf if seconds is None or first is None else first.report.time + seconds
    cycles = takewhile(lambda recorded: recorded.report.time <= ends, recording.cycles())
    stage = RecordedStage.of(recording, cycles, None if config is None else load_config(config).in_force(), ("balloon", CLASSES))
    if stage.seconds < 10 * stage.interval:
        raise MomError(f"{path} covers only {stage.seconds:.0f} s", hint="record for hours, to cover the guests' use by day and by night")
    return stage
