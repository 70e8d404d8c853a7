"""Plugin `oom`: when the host's kernel must kill a guest, it kills a guest of a low service class first."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Declaration,
    FieldSpec,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    PluginSettings,
    Refused,
    Scope,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
    hookimpl,
)
from mom_kvm import Helper, ProcessStat, pid_of, read_kernel_file, set_each, write_file

SCORE: Final = "oom_score_adj"
PRIORITY: Final = "priority"

_HIGHEST: Final = 1000
"""The kernel kills a process with this score first. One point counts as much as a thousandth of the host's memory."""

_DESCRIPTION: Final = "score of the guest's process: if memory runs out, the kernel kills guests with high scores first"


def scores(priorities: Mapping[str, float]) -> dict[str, int]:
    """Return each guest's score: 1000 for the lowest priority, 0 for the highest. Empty if all priorities are equal."""
    ranks = {priority: rank for rank, priority in enumerate(sorted(set(priorities.values()), reverse=True))}
    return {name: _HIGHEST * ranks[priority] // (len(ranks) - 1) for name, priority in priorities.items()} if len(ranks) > 1 else {}


class OomPlugin:
    """Controller of guests' OOM scores, by the priorities of their classes."""

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        self._context, self._source = context, Source(context.name)
        self._guests: Mapping[str, Guest] = {}

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        yield FieldSpec(SCORE, Unit.COUNT, Scope.GUEST, _DESCRIPTION, "/proc/PID/oom_score_adj")
        yield FieldSpec.reads(PRIORITY, Unit.COUNT, Scope.GUEST)
        yield ControlSpec(SCORE, Unit.COUNT, Scope.GUEST, _DESCRIPTION, SCORE, minimum=0, maximum=_HIGHEST)

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        self._guests = {guest.id: guest for guest in guests}
        return {guest.id: {SCORE: self._read(guest)} for guest in guests}

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterator[Decision]:
        """Yield decisions on scores. Keep scores other than 0 that another program has set."""
        priorities = {name: priority for name, guest in snapshot.guests.items() if (priority := guest.number(PRIORITY)) is not None}
        targets = scores(priorities)
        ours = {entry.entity.id for entry in self._context.engine_state().changes if entry.control == SCORE} if targets else ()
        for name, score in targets.items():
            guest = snapshot.guests[name]
            present = guest.fields.get(SCORE)
            if present != score and (present == 0 or (present is not None and name in ours)):
                yield Decision(guest.entity, SCORE, score, f"its service class has priority {priorities[name]:g}", self._source)

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        guests = self._listed(hypervisor, targets)
        return {target: self._read(guests[target.entity.id]) for target in targets if target.entity.id in guests}

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        guests = self._listed(hypervisor, [change.target for change in changes])

        def write(change: Change) -> None:
            guest = guests.get(change.entity.id)
            if guest is None or not isinstance(change.value, int):
                raise GuestGone("the guest is gone") if guest is None else NotSupported("a score is a whole number")
            self._write(guest, change.value)

        return set_each(changes, write)

    def _listed(self, hypervisor: Hypervisor, targets: Iterable[Target]) -> Mapping[str, Guest]:
        # After a crash, mom restores guests before it has collected them.
        are_collected = self._guests.keys() >= {target.entity.id for target in targets}
        return self._guests if are_collected else {guest.id: guest for guest in hypervisor.guests()}

    def _file(self, guest: Guest) -> Path | None:
        pid = pid_of(guest)
        return None if pid is None else self._context.root / f"proc/{pid}" / SCORE

    def _read(self, guest: Guest) -> int | None:
        file = self._file(guest)
        text = b"" if file is None else read_kernel_file(file).strip()
        return int(text) if text.removeprefix(b"-").isdigit() else None

    def _write(self, guest: Guest, score: int) -> None:
        file, helper = self._file(guest), Helper.reached()
        if file is None or helper is None:
            write_file(file or "", score)
            return
        stat = ProcessStat.of(str(file.parent))
        if stat is None:
            raise GuestGone("its process is gone")
        try:
            helper.set_oom_score(pid_of(guest) or 0, stat.started, score)
        except OSError as error:
            kind = GuestGone if error.errno == errno.ESRCH else Refused
            raise kind(f"mom-helper did not set {SCORE}: {error.strerror}") from error
