"""Incarnations of vdsm's guests: marks that distinguish the runs of a guest.

vdsm reports only how long a guest has been running, by the wall clock.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final

from pydantic import TypeAdapter

from mom_core import StateError, StateFile
from mom_plugins_vdsm.statistics import Vm

_SLACK_SECONDS = 30.0
"""How much later a guest's calculated start may become during one run. Clocks get adjusted, and vdsm caches answers."""

_KEPT_SECONDS = 600.0
"""How long mom keeps the mark of a guest that vdsm does not list. After a restart, vdsm may not list all guests for a moment."""


@dataclass(slots=True)
class _GuestRun:
    """Run of a guest. Times are in seconds since boot."""

    mark: str
    started: float
    listed: float


@dataclass(frozen=True, slots=True)
class KeptIncarnations:
    """State file: the boot ID, each guest's mark and start in seconds since boot, and the wall-clock time of the boot."""

    boot: str
    guests: dict[str, tuple[str, float]]
    boot_time: float


FORM: Final = TypeAdapter(KeptIncarnations)


@dataclass(slots=True)
class Incarnations:
    """Source of the guests' marks. A guest gets a new mark for each run."""

    file: StateFile[KeptIncarnations]
    boot: str
    """ID of the current boot. Marks of an earlier boot are dropped."""
    since_boot: Callable[[], float]
    keep: bool = True
    """Whether to write the file. Commands that only read must not write it."""
    wall: Callable[[], float] = time.time
    """Wall clock. The running times that vdsm reports refer to it."""
    _boot_time: float = field(init=False)
    """Time of the boot according to the wall clock as it is set now."""
    _runs: dict[str, _GuestRun] = field(default_factory=dict)
    _written: bool = True

    def __post_init__(self) -> None:
        kept = self.file.read()
        self._boot_time = self.wall() - self.since_boot()
        if kept is not None and kept.boot == self.boot:
            now = self.since_boot()
            self._runs = {identity: _GuestRun(mark, started, now) for identity, (mark, started) in kept.guests.items()}
            self._boot_time = kept.boot_time

    def follow(self, vms: Collection[Vm]) -> Mapping[str, str]:
        """Return the marks of all running guests, keyed by ID."""
        now = self.since_boot()
        self._move_with_the_clock(now)
        runs: dict[str, _GuestRun] = {}
        before = self._runs
        for vm in vms:
            run = before.get(vm.id)
            started = None if vm.elapsed is None else now - vm.elapsed
            if run is None or (started is not None and started > run.started + _SLACK_SECONDS):
                run = _GuestRun(uuid.uuid4().hex[:12], now if started is None else started, now)
                self._written = False
            elif started is not None:
                run.started = started
            run.listed = now
            runs[vm.id] = run
        marks = {identity: run.mark for identity, run in runs.items()}
        for identity, run in before.items():
            if identity not in runs and now - run.listed < _KEPT_SECONDS:
                runs[identity] = run
        self._written = self._written and len(runs) == len(before)
        self._runs = runs
        if self.keep and not self._written:
            self._write()
        return marks

    def _move_with_the_clock(self, now: float) -> None:
        boot_time = self.wall() - now
        moved, self._boot_time = boot_time - self._boot_time, boot_time
        for run in self._runs.values():
            run.started -= moved

    def _write(self) -> None:
        guests = {identity: (run.mark, run.started) for identity, run in self._runs.items()}
        # mom works without the file, and writes it with the next list. `StateFile` reports the problem.
        with suppress(StateError):
            self.file.write(asdict(KeptIncarnations(self.boot, guests, self._boot_time)), durable=False)
            self._written = True
