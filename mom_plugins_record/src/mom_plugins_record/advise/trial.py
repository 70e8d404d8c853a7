"""One trial: a recorded host with some guests more, simulated under the plugins and policies of then; who comes to harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mom_core import MomError, Report, Value, format_kib, load_config, printable
from mom_plugins_record.recording.reader import Recording, nothing_in
from mom_plugins_record.recording.session import RecordedSession
from mom_plugins_record.replay.estimate import controllers
from mom_plugins_record.replay.installed import guest_rules
from mom_toolkit import SimulationSetup, field_number, is_broken, run_simulation

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


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A guest that would come: a class, and how much memory (KiB; None: as recorded guests have)."""

    sla_class: str
    memory_kib: float | None


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """The outcome of one run: which guest came to harm first and how (empty: none); what share of its work each guest lost, by id; how many
    programs were killed, and how much the host has swapped out at most by need (KiB), once all was settled."""

    harm: str = ""
    lost: Mapping[str, float] = field(default_factory=dict)
    killed: float = 0.0
    swapped: float = 0.0

    @property
    def remark(self) -> str:
        """The harm that a run without newcomers suffers already; empty: nothing."""
        if self.killed:
            return f"guests' kernels kill programs {self.killed:.0f} times"
        if self.swapped > SWAPPED_KIB:
            return f"the host swaps {format_kib(self.swapped)}"
        worst = max(self.lost.values(), default=0.0)
        return f"a guest loses {100 * worst:.1f} % of its work" if worst > WORK else ""


@dataclass(frozen=True, slots=True)
class TrialStage:
    """The stage that is simulated again and again: so many seconds of a recording, with these plugins, guests' settings and policies."""

    path: Path
    begins: float
    seconds: float
    interval: float
    plugins: Mapping[str, Mapping[str, Value]]
    guests: Mapping[str, Value]
    policies: Mapping[str, str]

    def run(
        self, newcomer: Newcomer, count: int, seed: int, before: TrialOutcome, beat: Callable[[float], None] = lambda share: None
    ) -> TrialOutcome:
        """Who comes to harm first, and how.

        :param before: what comes of a run without newcomers: what it suffers from is not their doing
        :param beat: called now and then with how much of it is done; what it raises ends the run
        """
        sim: dict[str, Value] = {"recording": str(self.path), "begins": self.begins, "ends": self.begins + self.seconds}
        if count:
            sim |= {"more": count, "seed": seed}
            if newcomer.memory_kib is not None:
                sim["more_memory"] = f"{round(newcomer.memory_kib)}KiB"
        guests = {**self.guests, f"{NAME}-*": {"class": newcomer.sla_class}}
        setup = SimulationSetup("advise", plugins=self.plugins, texts=self.policies, guests=guests)
        harm = _Harm()
        for report in run_simulation(sim, setup, self.interval, self.seconds):
            beat(min(1.0, report.snapshot.monotonic / self.seconds))
            for problem in report.problems:
                if problem.source.name == CLASSES and problem.entity is not None and problem.entity.name.startswith(f"{NAME}-"):
                    raise MomError(problem.message.partition(", which")[0], hint=problem.hint)
            found = harm.in_cycle(report, before, count)
            if found:
                return TrialOutcome(found, harm.shares())
        return TrialOutcome(harm.at_the_end(before) if count else "", harm.shares(), harm.most_killed, harm.most_swapped)


@dataclass(slots=True)
class _Harm:
    """The harm in a run."""

    swapped: float | None = None
    killed: float | None = None
    lost: dict[str, tuple[str, float]] = field(default_factory=dict)
    seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    now: float = 0.0
    most_killed: float = 0.0
    most_swapped: float = 0.0

    def in_cycle(self, report: Report, before: TrialOutcome, count: int) -> str:
        """Harm that cannot be made good any more; empty: none."""
        snapshot = report.snapshot
        host = snapshot.host.fields
        settled = snapshot.monotonic >= SETTLED_SECONDS
        promised, promisable = field_number(host, "mem_promised"), field_number(host, "mem_promisable")
        if promised > promisable + 1:
            return f"{format_kib(promised)} would be promised, and the host can promise {format_kib(promisable)}"
        killed, swapped = field_number(host, "sim_killed"), field_number(host, "swap_usage")
        self.killed = killed if self.killed is None or not settled else self.killed
        self.swapped = swapped if self.swapped is None or not settled else self.swapped
        self.most_killed = max(self.most_killed, killed - self.killed)
        if OFFLOADS not in host:  # else what is in swap is what guests hardly touch, and what they lose by it is harm enough
            self.most_swapped = max(self.most_swapped, swapped - self.swapped)
        if count and self.most_killed > before.killed:
            return "a guest's kernel kills programs for want of memory"
        if count and self.most_swapped > before.swapped + SWAPPED_KIB:
            return f"the host swaps: {format_kib(swapped)}"
        for guest in snapshot.guests.values():
            fields = guest.fields
            size, holds = field_number(fields, "balloon_cur"), field_number(fields, "mem_promised")
            if settled and is_broken(size, holds):
                return f"{printable(guest.name)} has {format_kib(size)} and is promised {format_kib(holds)}"
            lost = field_number(fields, "sim_lost")
            if not settled or guest.id not in self.lost:
                self.lost[guest.id] = guest.name, lost
                self.seen[guest.id] = snapshot.monotonic, 0.0
            else:
                self.seen[guest.id] = self.seen[guest.id][0], lost - self.lost[guest.id][1]
        self.now = snapshot.monotonic
        return ""

    def shares(self) -> dict[str, float]:
        """The share of its work that each guest lost, by id."""
        return {identity: lost / (self.now - since) for identity, (since, lost) in self.seen.items() if self.now - since > SETTLED_SECONDS}

    def at_the_end(self, without: TrialOutcome) -> str:
        """Who was slowed down, the worst of them."""
        shares, before = self.shares(), without.lost
        beyond = {i: share - (before[i] + WORK if i in before else NEWCOMERS_WORK) for i, share in shares.items()}
        worst = max(beyond, key=beyond.__getitem__, default="")
        if not worst or beyond[worst] <= 0:
            return ""
        compared = f", without newcomers {100 * before[worst]:.1f} %" if worst in before else ""
        return f"{printable(self.lost[worst][0])} loses {100 * shares[worst]:.1f} % of its work{compared}"


def stage_of(path: Path, config: Path | None, seconds: float | None) -> TrialStage:
    """The stage of a recording. Raises `MomError`.

    :param config: a configuration whose classes, guests and other settings are taken, instead of those of the recording
    :param seconds: how much of the recording at most, from its beginning; None: all
    """
    recording = Recording(path)
    begins = ends = 0.0
    session: RecordedSession | None = None
    for recorded in recording.cycles():
        if session is None:
            session, begins = recorded.session, recorded.report.time
        ends = max(ends, recorded.report.time)
        if seconds is not None and ends - begins >= seconds:
            break
    if session is None:
        raise nothing_in(recording)
    document = session.configuration if config is None else load_config(config).in_force()
    plugins, _ = controllers(document)
    plugins = {"balloon": {}, **plugins, CLASSES: dict(plugins.get(CLASSES, {}))}
    interval = session.interval
    lasts = ends - begins if seconds is None else min(seconds, ends - begins)
    if lasts < 10 * interval:
        raise MomError(f"{path} holds only {lasts:.0f} s", hint="record for hours: what guests want by day and by night")
    return TrialStage(path, begins, lasts, interval, plugins, guest_rules(document, plugins), session.policies)
