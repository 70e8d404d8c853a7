"""Harm to guests, for the verdict and for those who look: which lack memory, and in which programs were killed lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final, NamedTuple

from mom_core import Condition, Guest, GuestColumn, Severity, Snapshot, Unit, Value, first_names
from mom_plugins_balloon.states import MemoryState

KILLED_SECONDS: Final = 600.0
"""s. For so long it is told that a guest's kernel killed a program: an operator who is woken by an alert is there by then."""

NAMED: Final = 3
"""So many guests are named, and the others counted: a verdict is read at a glance."""

UNHEALTHY: Final = "unhealthy"
KILLED: Final = "killed_lately"
SUFFERS: Final = "suffers"

COLUMNS: Final = (
    GuestColumn(
        "killed", (KILLED,), Unit.COUNT, "programs that its kernel killed in the last 10 min for want of memory", 28, 1,
        "mom_guest_killed_programs", mark_from=1,
    ),
    GuestColumn(GuestColumn.REMARKS, (SUFFERS,), Unit.TEXT, "what it suffers from"),
)  # fmt: skip


class Kill(NamedTuple):
    """Programs that a guest's kernel killed between two looks, in monotonic seconds.

    `shrunk` says whether the guest was smaller than it was sold, `host_short` whether the host had no memory to give back.
    """

    time: float
    programs: int
    shrunk: bool
    host_short: bool
    guest: str


class KilledPrograms:
    """Programs that guests' kernels have killed lately, as far as guests tell (`guest_oom_kills`). What stood there at first is no news."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[str, float, float]] = {}
        """How many there were since a guest was booted, with what tells it from the same guest booted anew, and how much smaller than
        sold it was then (KiB), by id."""
        self._telling: Set[str] = frozenset()
        """The ids of guests that told in the last snapshot."""
        self._killed: dict[str, deque[Kill]] = {}
        """By guest id."""

    def see(self, snapshot: Snapshot, state: MemoryState = MemoryState.HIGH) -> None:
        """Take in what guests tell now. One that does not tell, or is not there for a while, is asked again.

        :param state: how the host is off
        """
        short = state in {MemoryState.LOW, MemoryState.HARD}
        now, telling = snapshot.monotonic, set[str]()
        numbers = map(snapshot.numbers, ("guest_oom_kills", "balloon_max", "balloon_cur"))
        for guest, count, maximum, size in zip(snapshot.listed, *numbers, strict=True):
            if count is None:
                continue
            telling.add(guest.id)
            before, taken = self._counted.get(guest.id), 0.0 if maximum is None or size is None else max(0.0, maximum - size)
            self._counted[guest.id] = guest.incarnation, count, taken
            if before is not None and before[0] == guest.incarnation and count > before[1]:
                # It was some time between the two looks, and the guest may have got back what it lacked since.
                kill = Kill(now, int(count - before[1]), max(taken, before[2]) > 0, short, guest.name)
                self._killed.setdefault(guest.id, deque()).append(kill)
        self._telling = telling
        for identity, killed in list(self._killed.items()):
            while killed and now - killed[0].time > KILLED_SECONDS:
                killed.popleft()
            if not killed:
                del self._killed[identity]
        if snapshot.listed and len(self._counted) > 2 * len(snapshot.listed) + 100:  # guests that are gone for good
            self._counted = {guest.id: self._counted[guest.id] for guest in snapshot.listed if guest.id in self._counted}

    def lately(self) -> Mapping[str, int]:
        """How many within the last `KILLED_SECONDS`, of each guest with any."""
        return {identity: sum(kill.programs for kill in killed) for identity, killed in self._killed.items()}

    def kills(self) -> Sequence[Kill]:
        """Return those of the last `KILLED_SECONDS`, by guest: it may be gone, or its hypervisor away."""
        return [kill for killed in self._killed.values() for kill in killed]

    def columns(self, guests: Sequence[Guest]) -> Mapping[str, Sequence[Value]]:
        """The field of each guest that tells, or has told of some lately; nothing where none does."""
        if not self._telling and not self._killed:
            return {}
        lately = self.lately()
        return {KILLED: [lately.get(guest.id, 0 if guest.id in self._telling else None) for guest in guests]}

    def together(self) -> Mapping[str, Value]:
        """The field of the host; nothing where no guest tells."""
        return {KILLED: sum(self.lately().values())} if self._telling or self._killed else {}


def guest_columns(snapshot: Snapshot, unhealthy: Sequence[str | None], killed: KilledPrograms) -> Mapping[str, Sequence[Value]]:
    """Return why guests are unhealthy, how many programs were killed in each, and what they suffer from: one or both of these."""
    columns = killed.columns(snapshot.listed)
    counts = columns.get(KILLED, [None] * len(unhealthy))
    return {UNHEALTHY: unhealthy, **columns, SUFFERS: list(map(_suffers, counts, unhealthy))}


def _suffers(killed: Value, unhealthy: str | None) -> str | None:
    """Return what a guest suffers from; empty: nothing; None: unknown."""
    if not killed:
        return unhealthy
    programs = f"{killed} program{'' if killed == 1 else 's'} killed"
    return f"{unhealthy}, {programs}" if unhealthy else programs


def conditions(snapshot: Snapshot, killed: KilledPrograms) -> Iterator[Condition]:
    """Yield that programs were killed in guests, and that guests suffer."""
    if kills := killed.kills():
        yield _killed(kills)
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
    """It is an error where one of these guests was smaller than it was sold."""
    count, names = sum(kill.programs for kill in kills), _named(kills)
    message = f"{count} program{'' if count == 1 else 's'} killed in 10 min: {names} ran out of memory"
    shrunk = [kill for kill in kills if kill.shrunk]
    if not shrunk:
        why, cure = "their guests had all the memory that they can have", "give these guests more memory: raise their maximum"
        return Condition("killed", message, why, cure, Severity.WARNING)
    why, cures = f"{_named(shrunk)} had less than the maximum", []
    if any(kill.host_short for kill in shrunk):
        why = f"{why}, and the host had no memory to give back"
        cures.append("make room on the host: a guarantee does not help while the host lacks memory")
    if not all(kill.host_short for kill in shrunk):
        cures.append("give what must not be killed a guarantee")
    return Condition("killed", message, why, "; ".join(cures))


def _named(kills: Sequence[Kill]) -> str:
    return first_names(list(dict.fromkeys(kill.guest for kill in kills)), NAMED)
