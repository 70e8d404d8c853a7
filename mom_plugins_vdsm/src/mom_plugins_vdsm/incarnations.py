"""Tells a guest that was started anew from the same one: vdsm has no number for that, only for how long the guest has been running.

vdsm counts that by the wall clock. When the clock is set, all guests seem to have been running for longer or shorter by as much; what is
known of them is moved along, by how far the wall clock has moved against the clock since the host's start.

What was found out is kept in a file, so that mom knows a guest again after mom itself was restarted. Where that file says nothing of a
guest, as it was damaged or could not be written, the ledger may: it has the mark that the guest had when mom changed something on it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter

from mom_core import LedgerEntry, StateError, StateFile
from mom_plugins_vdsm.statistics import Vm

_SLACK_SECONDS = 30.0
"""By how much a guest may have been running shorter than expected and still be the same: clocks are set, and answers are cached."""

_KEPT_SECONDS = 600.0
"""How long a guest that is not listed is remembered: vdsm may be restarted, and be wrong for a moment."""


@dataclass(slots=True)
class _GuestRun:
    """One run of a guest: its mark, since when it runs and when it was last seen, in seconds since the host was started."""

    mark: str
    started: float
    seen: float


@dataclass(frozen=True, slots=True)
class KeptIncarnations:
    """The file: of which run of the host, and each guest's mark and start in seconds since that began, by the guest's id; and when it
    began by the wall clock by which those starts were found, in seconds since the epoch."""

    boot: str
    guests: dict[str, tuple[str, float]]
    boot_time: float


FORM: Final = TypeAdapter(KeptIncarnations)


@dataclass(slots=True)
class Incarnations:
    """Gives every run of every guest a mark of its own."""

    file: StateFile[KeptIncarnations]
    """Where they are kept."""
    boot: str
    """Tells one run of the host from the next, in which no guest is the same."""
    since_boot: Callable[[], float]
    """The clock that was 0 then."""
    changes: Callable[[], Collection[LedgerEntry]] = tuple
    """Gives what mom has changed and not put back yet."""
    keep: bool = True
    """Write the file: a command that only takes a look must not."""
    wall: Callable[[], float] = time.time
    """The clock by which `changes` are dated, and by which vdsm counts for how long guests run."""
    _boot_time: float = field(init=False)
    """When the host was started by the wall clock as it is set now."""
    _rebooted: bool = False
    _runs: dict[str, _GuestRun] = field(default_factory=dict)
    _written: bool = True

    def __post_init__(self) -> None:
        kept = self.file.read()
        self._boot_time = self.wall() - self.since_boot()
        self._rebooted = kept is not None and kept.boot != self.boot
        if kept is not None and not self._rebooted:
            now = self.since_boot()
            self._runs = {identity: _GuestRun(mark, started, now) for identity, (mark, started) in kept.guests.items()}
            self._boot_time = kept.boot_time

    def follow(self, vms: Collection[Vm]) -> Mapping[str, str]:
        """The marks of these guests, which are all that run here now, by guest id."""
        now = self.since_boot()
        self._move_with_the_clock(now)
        runs: dict[str, _GuestRun] = {}
        before = self._runs
        in_ledger = {} if all(vm.id in before for vm in vms) else self._in_ledger()
        for vm in vms:
            run = before.get(vm.id)
            started = None if vm.elapsed is None else now - vm.elapsed
            if run is None or (started is not None and started > run.started + _SLACK_SECONDS):
                mark = self._mark_of_same(vm, in_ledger.get(vm.id)) if run is None else ""
                run = _GuestRun(mark or uuid.uuid4().hex[:12], now if started is None else started, now)
                self._written = False
            elif started is not None:
                run.started = started
            run.seen = now
            runs[vm.id] = run
        marks = {identity: run.mark for identity, run in runs.items()}
        for identity, run in before.items():
            if identity not in runs and now - run.seen < _KEPT_SECONDS:
                runs[identity] = run
        self._written = self._written and len(runs) == len(before)
        self._runs = runs
        if self.keep and not self._written:
            self._write()
        return marks

    def _move_with_the_clock(self, now: float) -> None:
        boot_time = self.wall() - now
        set_by, self._boot_time = boot_time - self._boot_time, boot_time
        for run in self._runs.values():
            run.started -= set_by

    def _in_ledger(self) -> dict[str, LedgerEntry]:
        """The last change that mom made to each guest, by the guest's id; nothing when the host was started anew since."""
        changes = () if self._rebooted else sorted(self.changes(), key=lambda entry: entry.time)
        return {entry.entity.id: entry for entry in changes if entry.incarnation}

    def _mark_of_same(self, vm: Vm, changed: LedgerEntry | None) -> str:
        """The mark that a guest had when mom changed it; empty if it was started after that.

        Where vdsm does not say since when it runs, it is taken for the same: what is put back is compared with what stands there.
        """
        if changed is None or (vm.elapsed is not None and self.wall() - vm.elapsed > changed.time + _SLACK_SECONDS):
            return ""
        return changed.incarnation

    def _write(self) -> None:
        guests = {identity: (run.mark, run.started) for identity, run in self._runs.items()}
        # Without it all works, so it is tried again with the next list; mom says what is wrong with the file.
        with suppress(StateError):
            self.file.write(asdict(KeptIncarnations(self.boot, guests, self._boot_time)), durable=False)
            self._written = True
