"""Guests that lack memory, and programs that guests' kernels killed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import Condition, Entity, GuestColumn, Severity, Snapshot, Unit, Value, count_of, first_names
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.names import KILLED, SUFFERS, UNHEALTHY
from mom_plugins_balloon.states import MemoryState

KILLED_SECONDS: Final = 600.0
"""Seconds for which a kill is reported."""

KILLS: Final = "guest_oom_kills"
"""Field: programs killed since the guest's boot."""

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


class RecentKills:
    """Kills by guests' kernels (`guest_oom_kills`) in the last `KILLED_SECONDS`."""

    def __init__(self) -> None:
        self.kills: Sequence[Kill] = ()
        self._seen_at = -math.inf

    def see(self, records: BalloonedGuests, state: MemoryState = MemoryState.HIGH) -> None:
        """Record the kills in the last snapshot, unless already recorded."""
        snapshot, now, short = records.snapshot, records.snapshot.monotonic, state in {MemoryState.LOW, MemoryState.HARD}
        if now == self._seen_at:
            return
        kills = [kill for kill in self.kills if now - kill.time <= KILLED_SECONDS]
        for guest, past in zip(snapshot.listed, records.of_all(snapshot.listed), strict=True):
            if past.killed is not None and past.killed.new:
                kills.append(Kill(now, past.killed.new, past.killed.lacked > 0, short, guest.entity))
        self.kills, self._seen_at = kills, now

    def lately(self) -> Mapping[str, int]:
        """Return the number of recent kills, keyed by guest ID."""
        lately = Counter[str]()
        for kill in self.kills:
            lately[kill.guest.id] += kill.programs
        return lately


def host_fields(snapshot: Snapshot, killed: RecentKills) -> Mapping[str, Value]:
    """Return the host's field with all recent kills; empty if no guest reports a count."""
    reports = any(count is not None for count in snapshot.numbers(KILLS))
    return {KILLED: sum(killed.lately().values())} if reports or killed.kills else {}


def guest_columns(snapshot: Snapshot, unhealthy: Sequence[str | None], killed: RecentKills) -> Mapping[str, Sequence[Value]]:
    """Return the guests' fields about harm, keyed by name."""
    lately, numbers = killed.lately(), snapshot.numbers(KILLS)
    counts = [lately.get(guest.id, None if kills is None else 0) for guest, kills in zip(snapshot.listed, numbers, strict=True)]
    return {UNHEALTHY: unhealthy, KILLED: counts, SUFFERS: list(map(_suffers, counts, unhealthy))}


def _suffers(killed: int | None, unhealthy: str | None) -> str | None:
    if not killed:
        return unhealthy
    programs = f"{count_of(killed, 'program')} killed"
    return f"{unhealthy}, {programs}" if unhealthy else programs


def conditions(snapshot: Snapshot, killed: RecentKills) -> Iterator[Condition]:
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
            f"{count} of {len(snapshot.listed)} guests suffer{'s' if count == 1 else ''}: {'; '.join(parts)}",
            cure="`mom explain GUEST` says since when, why, and what to do",
            severity=Severity.WARNING,
        )


def _fare(names: str, count: int, unhealthy: str) -> str:
    return f"{names} {'is' if count == 1 else 'are'} {unhealthy}" if unhealthy else f"{names} had programs killed"


def _killed(kills: Sequence[Kill]) -> Condition:
    count, names = sum(kill.programs for kill in kills), _named(kills)
    message = f"{count_of(count, 'program')} killed in 10 min: {names} ran out of memory"
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
