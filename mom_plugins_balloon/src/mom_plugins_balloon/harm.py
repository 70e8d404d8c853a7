"""Guests that lack memory, and programs that guests' kernels killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final, NamedTuple

from mom_core import Condition, Entity, Guest, GuestColumn, Severity, Snapshot, Unit, Value, first_names
from mom_plugins_balloon.names import KILLED, SUFFERS, UNHEALTHY
from mom_plugins_balloon.states import MemoryState

KILLED_SECONDS: Final = 600.0
"""Seconds. A kill is reported this long, so that an operator who was woken by an alert still sees it."""

NAMED: Final = 3
"""Maximum number of guests that a message names."""

COLUMNS: Final = (
    GuestColumn(
        "killed", (KILLED,), Unit.COUNT, "OOM kills in the guest in the last 10 min", 28, 1,
        "mom_guest_killed_programs", mark_from=1,
    ),
    GuestColumn(GuestColumn.REMARKS, (SUFFERS,), Unit.TEXT, "harm to the guest"),
)  # fmt: skip


class Kill(NamedTuple):
    """Programs that a guest's kernel killed between two cycles."""

    time: float
    """Monotonic seconds."""
    programs: int
    shrunk: bool
    host_short: bool
    guest: Entity


class KillCount(NamedTuple):
    """Programs killed so far in one incarnation of a guest."""

    incarnation: str
    programs: float
    lacks: float
    """By how many KiB the guest was below its maximum."""


class KilledPrograms:
    """Recent kills by guests' kernels (`guest_oom_kills`). Kills before the first report do not count."""

    def __init__(self) -> None:
        self._counts: dict[str, KillCount] = {}
        self._reporting: Set[str] = frozenset()
        self.kills: Sequence[Kill] = ()
        """Kills of the last `KILLED_SECONDS`; their guests may be gone."""

    def see(self, snapshot: Snapshot, state: MemoryState = MemoryState.HIGH) -> None:
        """Record a snapshot's counts."""
        now, short, reporting = snapshot.monotonic, state in {MemoryState.LOW, MemoryState.HARD}, set[str]()
        kills = [kill for kill in self.kills if now - kill.time <= KILLED_SECONDS]
        numbers = map(snapshot.numbers, ("guest_oom_kills", "balloon_max", "balloon_cur"))
        for guest, programs, maximum, size in zip(snapshot.listed, *numbers, strict=True):
            if programs is None:
                continue
            reporting.add(guest.id)
            before, lacks = self._counts.get(guest.id), 0.0 if maximum is None or size is None else max(0.0, maximum - size)
            self._counts[guest.id] = count = KillCount(guest.incarnation, programs, lacks)
            if before is not None and before.incarnation == count.incarnation and count.programs > before.programs:
                # The guest may have got memory back since the kill.
                shrunk = max(count.lacks, before.lacks) > 0
                kills.append(Kill(now, int(count.programs - before.programs), shrunk, short, guest.entity))
        self._reporting, self.kills = reporting, kills
        if snapshot.listed and len(self._counts) > 2 * len(snapshot.listed) + 100:  # guests that are gone for good
            self._counts = {guest.id: self._counts[guest.id] for guest in snapshot.listed if guest.id in self._counts}

    def lately(self) -> Mapping[str, int]:
        """Return recent kills keyed by guest ID."""
        lately = Counter[str]()
        for kill in self.kills:
            lately[kill.guest.id] += kill.programs
        return lately

    def counts(self, guests: Sequence[Guest]) -> Sequence[Value]:
        """Return these guests' recent kills in order; None for a guest that reports no count."""
        lately = self.lately()
        return [lately.get(guest.id, 0 if guest.id in self._reporting else None) for guest in guests]

    def together(self) -> Mapping[str, Value]:
        """Return the host's field with all recent kills; empty if no guest reports a count."""
        return {KILLED: sum(self.lately().values())} if self._reporting or self.kills else {}


def guest_columns(snapshot: Snapshot, unhealthy: Sequence[str | None], killed: KilledPrograms) -> Mapping[str, Sequence[Value]]:
    """Return the guests' fields about harm, keyed by name."""
    counts = killed.counts(snapshot.listed)
    return {UNHEALTHY: unhealthy, KILLED: counts, SUFFERS: list(map(_suffers, counts, unhealthy))}


def _suffers(killed: Value, unhealthy: str | None) -> str | None:
    if not killed:
        return unhealthy
    programs = f"{killed} program{'' if killed == 1 else 's'} killed"
    return f"{unhealthy}, {programs}" if unhealthy else programs


def conditions(snapshot: Snapshot, killed: KilledPrograms) -> Iterator[Condition]:
    """Yield conditions about killed programs and unhealthy guests."""
    if killed.kills:
        yield _killed(killed.kills)
    suffering: dict[str, list[str]] = {}
    for guest, suffers, unhealthy in zip(snapshot.listed, snapshot.column(SUFFERS), snapshot.column(UNHEALTHY), strict=True):
        if suffers:
            suffering.setdefault(str(unhealthy or ""), []).append(guest.name)
    if suffering:
        count = sum(map(len, suffering.values()))
        parts = [_fare(first_names(names, NAMED), len(names), unhealthy) for unhealthy, names in suffering.items()]
        yield Condition(
            "suffering",
            f"{count} guest{'' if count == 1 else 's'} of {len(snapshot.listed)} suffer{'s' if count == 1 else ''}: {'; '.join(parts)}",
            cure="`mom explain GUEST` says since when, why, and what to do",
            severity=Severity.WARNING,
        )


def _fare(names: str, count: int, unhealthy: str) -> str:
    return f"{names} {'is' if count == 1 else 'are'} {unhealthy}" if unhealthy else f"{names} had programs killed"


def _killed(kills: Sequence[Kill]) -> Condition:
    count, names = sum(kill.programs for kill in kills), _named(kills)
    message = f"{count} program{'' if count == 1 else 's'} killed in 10 min: {names} ran out of memory"
    shrunk = [kill for kill in kills if kill.shrunk]
    if not shrunk:
        why, cure = "these guests had their maximum memory already", "give these guests more memory: raise their maximum"
        return Condition("killed", message, why, cure, Severity.WARNING)
    why, cures = f"{_named(shrunk)} had less than the maximum memory", []
    if any(kill.host_short for kill in shrunk):
        why = f"{why}, and the host had no memory to return"
        cures.append("free memory on the host: a guarantee does not help while the host lacks memory")
    if not all(kill.host_short for kill in shrunk):
        cures.append("set a guarantee for guests whose programs must not be killed")
    return Condition("killed", message, why, "; ".join(cures))


def _named(kills: Sequence[Kill]) -> str:
    return first_names(list(dict.fromkeys(kill.guest.name for kill in kills)), NAMED)
