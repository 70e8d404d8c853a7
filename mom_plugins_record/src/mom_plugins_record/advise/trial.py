"""Trials: a recorded host with some guests more, simulated under the plugins and policies of then; who comes to harm."""

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

SWAPPED_KIB: Final = 64 << 10
"""In the host's swap beyond what was there at the beginning: less is what every host puts there in time."""

WORK, NEWCOMERS_WORK = 0.01, 0.05
"""Share of its work that a guest may lose more than without newcomers, and a newcomer in all: less is the balloon moving. Beyond that,
one is slowed down that bought something else, and the other gets what no customer would buy."""

SETTLED_SECONDS: Final = 120.0
"""The loss of guests in the first two minutes is not counted: all of them come at once, which they would not."""


NAME: Final = "advised"
"""Newcomers are called this and a number by the simulator, which adds them: a pattern of the section `guests` gives them their class."""

OFFLOADS: Final = "offload_room"
"""A field of hosts on which cold memory of guests goes to swap."""

CLASSES: Final = "sla"
"""The plugin that knows classes. It says which it does not know."""


@dataclass(slots=True)
class TrialRun:
    """Course of one run: how many programs were killed, and how much the host has swapped out by need (KiB), once all was settled.

    `sold`, `total` and `promisable` are what guests were sold at the most, the host's memory, and what of it can be promised, in KiB.
    """

    killed: float = 0.0
    swapped: float = 0.0
    sold: float = 0.0
    total: float | None = None
    promisable: float | None = None
    _settled: tuple[float, float] | None = None
    """The same when it was settled."""
    _since: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    """By guest its name, since when its losses count, and the seconds of work that it had lost by then."""
    _lost: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By guest when it was seen last, and the seconds that it had lost by then: it may have left long before the run ends."""

    @property
    def remark(self) -> str:
        """The harm that a run without newcomers suffers already; empty: nothing."""
        if self.killed:
            return f"guests' kernels kill programs {self.killed:.0f} times"
        if self.swapped > SWAPPED_KIB:
            return f"the host swaps {format_kib(self.swapped)}"
        worst = max(self.lost.values(), default=0.0)
        return f"a guest loses {100 * worst:.1f} % of its work" if worst > WORK else ""

    @property
    def lost(self) -> dict[str, float]:
        """The share of its work that each guest lost, by id."""
        return {
            identity: (self._lost[identity][1] - lost) / (self._lost[identity][0] - since)
            for identity, (_, since, lost) in self._since.items()
            if self._lost[identity][0] - since > SETTLED_SECONDS
        }

    def add(self, report: Report, before: TrialRun | None) -> str:
        """Take in a cycle. Harm that cannot be made good any more; empty: none.

        :param before: the run without newcomers, whose harm is not their doing; None: this is that one
        """
        snapshot = report.snapshot
        host, now = snapshot.host.fields, snapshot.monotonic
        self.sold = max(self.sold, sum(size for size in snapshot.numbers("balloon_max") if size is not None))
        self.total, self.promisable = snapshot.host.number("mem_available"), snapshot.host.number("mem_promisable")
        settled = now >= SETTLED_SECONDS
        promised, promisable = field_number(host, "mem_promised"), field_number(host, "mem_promisable")
        if promised > promisable + 1:
            return f"{format_kib(promised)} would be promised, and the host can promise {format_kib(promisable)}"
        killed, swapped = field_number(host, "sim_killed"), field_number(host, "swap_usage")
        if self._settled is None or not settled:
            self._settled = killed, swapped
        self.killed = max(self.killed, killed - self._settled[0])
        if OFFLOADS not in host:  # else what is in swap is what guests hardly touch, and what they lose by it is harm enough
            self.swapped = max(self.swapped, swapped - self._settled[1])
        if before is not None and self.killed > before.killed:
            return "a guest's kernel kills programs for want of memory"
        if before is not None and self.swapped > before.swapped + SWAPPED_KIB:
            return f"the host swaps: {format_kib(swapped)}"
        for guest in snapshot.guests.values():
            size, holds, lost = (field_number(guest.fields, name) for name in ("balloon_cur", "mem_promised", "sim_lost"))
            if settled and HealthLimits.breaks(size, holds):
                return f"{printable(guest.name)} has {format_kib(size)} and is promised {format_kib(holds)}"
            if not settled or guest.id not in self._since:
                self._since[guest.id] = guest.name, now, lost
            self._lost[guest.id] = now, lost
        return ""

    def slowed_down(self, without: TrialRun) -> str:
        """Return the guest that lost most beyond what it may lose; empty: none did."""
        shares, before = self.lost, without.lost
        beyond = {i: share - (before[i] + WORK if i in before else NEWCOMERS_WORK) for i, share in shares.items()}
        worst = max(beyond, key=beyond.__getitem__, default="")
        if not worst or beyond[worst] <= 0:
            return ""
        compared = f", without newcomers {100 * before[worst]:.1f} %" if worst in before else ""
        return f"{printable(self._since[worst][0])} loses {100 * shares[worst]:.1f} % of its work{compared}"


@dataclass(slots=True)
class Trials:
    """Runs of a stage with newcomers of a class, each with so much memory (KiB; None: as recorded guests have).

    :param beat: called now and then with the number of newcomers, the seed, and how much of the run is done; what it raises ends the run
    """

    stage: RecordedStage
    sla_class: str
    memory_kib: float | None
    beat: Callable[[int, int, float], None]
    before: TrialRun = field(default_factory=TrialRun)
    """The run without newcomers, which comes first."""
    sold: dict[int, float] = field(default_factory=dict)
    """By number of newcomers, what was sold together at the most, in KiB: in that run of them in which it was least."""

    def harm(self, count: int, seed: int) -> str:
        """Run it with so many newcomers. Who comes to harm first, and how; empty: nobody."""
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
    """Return the stage of a recording. Raises `MomError`.

    :param config: a configuration whose classes, guests and other settings are taken, instead of those of the recording
    :param seconds: how much of the recording at most, from its beginning; None: all
    """
    recording = Recording(path)
    first = None if seconds is None else next(recording.cycles(), None)
    ends = math.inf if seconds is None or first is None else first.report.time + seconds
    cycles = takewhile(lambda recorded: recorded.report.time <= ends, recording.cycles())
    stage = RecordedStage.of(recording, cycles, None if config is None else load_config(config).in_force(), ("balloon", CLASSES))
    if stage.seconds < 10 * stage.interval:
        raise MomError(f"{path} holds only {stage.seconds:.0f} s", hint="record for hours: what guests want by day and by night")
    return stage
