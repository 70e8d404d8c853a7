"""Harm to guests, for the verdict and for those who look: which lack memory, and in which programs were killed lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final

from mom_core import Condition, Guest, GuestColumn, Severity, Snapshot, Unit, Value, first_names

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


class KilledPrograms:
    """Programs that guests' kernels have killed lately, as far as guests tell (`guest_oom_kills`). What stood there at first is no news."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[str, float, float]] = {}
        """How many there were since a guest was booted, with what tells it from the same guest booted anew, and how much smaller than
        sold it was then (KiB), by id."""
        self._telling: Set[str] = frozenset()
        """The ids of guests that told in the last snapshot."""
        self._killed: dict[str, deque[tuple[float, int, bool, str]]] = {}
        """When how many were killed, in monotonic seconds, whether the guest was smaller than it was sold then, and its name, by id."""

    def see(self, snapshot: Snapshot) -> None:
        """Take in what guests tell now. One that does not tell, or is not there for a while, is asked again."""
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
                self._killed.setdefault(guest.id, deque()).append((now, int(count - before[1]), max(taken, before[2]) > 0, guest.name))
        self._telling = telling
        for identity, killed in list(self._killed.items()):
            while killed and now - killed[0][0] > KILLED_SECONDS:
                killed.popleft()
            if not killed:
                del self._killed[identity]
        if snapshot.listed and len(self._counted) > 2 * len(snapshot.listed) + 100:  # guests that are gone for good
            self._counted = {guest.id: self._counted[guest.id] for guest in snapshot.listed if guest.id in self._counted}

    def lately(self) -> Mapping[str, int]:
        """How many within the last `KILLED_SECONDS`, of each guest with any."""
        return {identity: sum(count for _, count, *_ in killed) for identity, killed in self._killed.items()}

    def names(self) -> Sequence[str]:
        """Those of the guests in which these were killed: they may be gone, or their hypervisor away."""
        return [killed[-1][3] for killed in self._killed.values()]

    def shrunk(self) -> Sequence[str]:
        """The names of those that were smaller than they were sold when one of these was killed."""
        return [killed[-1][3] for killed in self._killed.values() if any(shrunk for _, _, shrunk, _ in killed)]

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
    return f"{killed} program{'' if killed == 1 else 's'} killed in 10 min" + (f", {unhealthy}" if unhealthy else "")


def conditions(snapshot: Snapshot, killed: KilledPrograms) -> Iterator[Condition]:
    """Yield that programs were killed in guests, and that guests suffer."""
    if lately := killed.lately():
        yield _killed(sum(lately.values()), killed.names(), killed.shrunk())
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
            cure="`mom explain GUEST` says why the guest has its size, and what is done for it",
            severity=Severity.WARNING,
        )


def _fare(names: str, count: int, unhealthy: str) -> str:
    return f"{names} {'is' if count == 1 else 'are'} {unhealthy}" if unhealthy else f"{names} had programs killed"


def _killed(count: int, names: Sequence[str], shrunk: Sequence[str]) -> Condition:
    """It is an error where one of these guests was smaller than it was sold."""
    message = f"{count} program{'' if count == 1 else 's'} killed for want of memory in the last 10 min, in {first_names(names, NAMED)}"
    if shrunk:
        why = f"{first_names(shrunk, NAMED)} had less than the maximum"
        cure = "give what must not be killed a guarantee, or move guests away"
    else:
        why, cure = "their guests had all the memory that they can have", "give these guests more memory: raise their maximum"
    return Condition("killed", message, why, cure, Severity.ERROR if shrunk else Severity.WARNING)
