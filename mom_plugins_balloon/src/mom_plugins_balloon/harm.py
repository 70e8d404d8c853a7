"""Harm to guests, for the verdict and for those who look: which lack memory, and in which programs were killed lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final

from mom_core import Condition, FieldSpec, Guest, GuestColumn, Metric, Scope, Severity, Snapshot, Unit, Value, first_names

KILLED_SECONDS: Final = 600.0
"""s. For so long it is told that a guest's kernel killed a program: an operator who is woken by an alert is there by then."""

NAMED: Final = 3
"""So many guests are named, and the others counted: a verdict is read at a glance."""

UNHEALTHY: Final = "unhealthy"
KILLED: Final = "killed_lately"

FIELDS: Final = (
    FieldSpec(UNHEALTHY, Unit.TEXT, Scope.GUEST, "why the guest is unhealthy, such as `short of memory`; empty if it is not", "mom"),
    FieldSpec(KILLED, Unit.COUNT, Scope.GUEST, "programs that its kernel killed in the last 10 min for want of memory", "guest_oom_kills"),
    FieldSpec(
        KILLED,
        Unit.COUNT,
        Scope.HOST,
        "programs that all guests' kernels killed in the last 10 min for want of memory",
        "guest_oom_kills",
        metric=Metric.GAUGE,
    ),
    FieldSpec.reads("guest_oom_kills", Unit.COUNT, Scope.GUEST),
)

COLUMNS: Final = (
    GuestColumn(
        "killed", (KILLED,), Unit.COUNT, "programs that its kernel killed in the last 10 min for want of memory", 28, 1,
        "mom_guest_killed_programs", mark_from=1,
    ),
    GuestColumn(GuestColumn.REMARKS, (UNHEALTHY,), Unit.TEXT, "why it is unhealthy"),
)  # fmt: skip


class KilledPrograms:
    """Programs that guests' kernels have killed lately, as far as guests tell (`guest_oom_kills`). What stood there at first is no news."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[str, float, float]] = {}
        """How many there were since a guest was booted, with what tells it from the same guest booted anew, and how much smaller than
        sold it was then (KiB), by id."""
        self._killed: dict[str, deque[tuple[float, int, bool]]] = {}
        """When how many were killed, in monotonic seconds, and whether the guest was smaller than it was sold then, by id."""

    def see(self, snapshot: Snapshot) -> None:
        """Take in what guests tell now. One that does not tell, or is not there for a while, is asked again."""
        now = snapshot.monotonic
        numbers = map(snapshot.numbers, ("guest_oom_kills", "balloon_max", "balloon_cur"))
        for guest, count, maximum, size in zip(snapshot.listed, *numbers, strict=True):
            if count is None:
                continue
            before, taken = self._counted.get(guest.id), 0.0 if maximum is None or size is None else max(0.0, maximum - size)
            self._counted[guest.id] = guest.incarnation, count, taken
            if before is not None and before[0] == guest.incarnation and count > before[1]:
                # It was some time between the two looks, and the guest may have got back what it lacked since.
                self._killed.setdefault(guest.id, deque()).append((now, int(count - before[1]), max(taken, before[2]) > 0))
        for identity, killed in list(self._killed.items()):
            while killed and now - killed[0][0] > KILLED_SECONDS:
                killed.popleft()
            if not killed:
                del self._killed[identity]
        if len(self._counted) > 2 * len(snapshot.listed) + 100:  # guests that are gone for good
            self._counted = {guest.id: self._counted[guest.id] for guest in snapshot.listed if guest.id in self._counted}

    def lately(self) -> Mapping[str, int]:
        """How many within the last `KILLED_SECONDS`, of each guest with any."""
        return {identity: sum(count for _, count, _ in killed) for identity, killed in self._killed.items()}

    def shrunk(self) -> Set[str]:
        """The ids of guests that were smaller than they were sold when one of these was killed."""
        return {identity for identity, killed in self._killed.items() if any(shrunk for *_, shrunk in killed)}

    def columns(self, guests: Sequence[Guest]) -> Mapping[str, Sequence[Value]]:
        """The field of each guest that tells; nothing where none does."""
        if not self._counted:
            return {}
        lately = self.lately()
        return {KILLED: [lately.get(guest.id, 0) if guest.id in self._counted else None for guest in guests]}

    def together(self) -> Mapping[str, Value]:
        """The field of the host; nothing where no guest tells."""
        return {KILLED: sum(self.lately().values())} if self._counted else {}


def conditions(snapshot: Snapshot, killed: KilledPrograms) -> Iterator[Condition]:
    """That programs were killed in guests, and that guests suffer."""
    if lately := killed.lately():
        yield _killed(snapshot, lately, killed.shrunk())
    suffering: dict[str, list[str]] = {}
    for guest, trouble in zip(snapshot.listed, snapshot.column(UNHEALTHY), strict=True):
        if trouble and isinstance(trouble, str):
            suffering.setdefault(trouble, []).append(guest.name)
    if suffering:
        count = sum(map(len, suffering.values()))
        parts = [f"{first_names(names, NAMED)} {'is' if len(names) == 1 else 'are'} {trouble}" for trouble, names in suffering.items()]
        yield Condition(
            "suffering",
            f"{count} guest{'' if count == 1 else 's'} of {len(snapshot.listed)} suffer{'s' if count == 1 else ''}: {'; '.join(parts)}",
            cure="`mom explain GUEST` says why the guest has its size, and what is done for it",
            severity=Severity.WARNING,
        )


def _killed(snapshot: Snapshot, killed: Mapping[str, int], were_shrunk: Set[str]) -> Condition:
    """It is an error where one of these guests was smaller than it was sold."""
    guests = [guest for guest in map(snapshot.guests.get, killed) if guest is not None]
    shrunk = [guest.name for guest in guests if guest.id in were_shrunk]
    count, names = sum(killed.values()), first_names([guest.name for guest in guests], NAMED) or "guests that are gone"
    message = f"{count} program{'' if count == 1 else 's'} killed for want of memory in the last 10 min, in {names}"
    if shrunk:
        why = f"{first_names(shrunk, NAMED)} had less than the maximum"
        cure = "give what must not be killed a guarantee, or move guests away"
    else:
        why, cure = "their guests had all the memory that they can have", "give these guests more memory: raise their maximum"
    return Condition("killed", message, why, cure, Severity.ERROR if shrunk else Severity.WARNING)
