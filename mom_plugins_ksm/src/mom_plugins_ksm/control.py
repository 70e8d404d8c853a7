"""Reads and writes KSM's knobs, in the kernel's files or through a hypervisor."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, runtime_checkable

from pydantic import Field, TypeAdapter

from mom_core import (
    Change,
    ControlSpec,
    HypervisorError,
    NotSupported,
    Refused,
    Scope,
    StateError,
    StateFile,
    Target,
    Unit,
    Value,
    as_whole,
)
from mom_plugins_ksm.fields import is_count
from mom_plugins_ksm.sysfs import ADVISOR_CURE, FOLDER

RUN, MERGE_ACROSS_NODES, SLEEP, PAGES_TO_SCAN = "run", "merge_across_nodes", "sleep_millisecs", "pages_to_scan"
STOPPED, MERGING, UNMERGED = 0, 1, 2

_MOST_PAGES = 1_000_000
"""Largest batch: 4 GiB, which ksmd scans in some seconds."""

_MOST_SLEEP_MS = 60_000
"""Longest sleep; a longer one would in effect stop KSM. The shortest is 1: with 0, ksmd keeps a CPU busy."""


def _control(knob: str, unit: Unit, about: str, most: float | None = None, choices: tuple[int, ...] = ()) -> ControlSpec:
    name, file = f"ksm_{knob}", f"/{FOLDER}/{knob}"
    return ControlSpec(name, unit, Scope.HOST, about, name, most and 1, most, choices, file=file)


CONTROLS = (
    _control(RUN, Unit.COUNT, "1: merge; 0: stop, keep merged pages; 2: stop and unmerge all pages", None, (STOPPED, MERGING, UNMERGED)),
    _control(PAGES_TO_SCAN, Unit.PAGES, "pages that ksmd scans before it sleeps; an active kernel advisor sets this itself", _MOST_PAGES),
    _control(SLEEP, Unit.MILLISECONDS, "time that ksmd sleeps between two batches of pages", _MOST_SLEEP_MS),
    _control(MERGE_ACROSS_NODES, Unit.FLAG, "1: also merge pages of different NUMA nodes; can change only while no pages are merged"),
)

_BUSY_TRIES = 10
"""mom retries to set `merge_across_nodes` this many times, because the kernel may briefly hold shared pages after unmerging."""

_BUSY_PAUSE = 0.05
"""Seconds between attempts to set `merge_across_nodes`."""


UNMERGING: Final = TypeAdapter(Annotated[int, Field(ge=STOPPED, le=UNMERGED)])
"""Content of the file that keeps the value of `run` from before unmerging."""


def knob_of(control: str) -> str:
    """Return the file in /sys/kernel/mm/ksm that a control sets."""
    return control.removeprefix("ksm_")


@runtime_checkable
class KsmControl(Protocol):
    """KSM of a simulated host, or of a management system that owns the files."""

    def ksm_read(self) -> Mapping[str, Value]:
        """Return settings and counters, keyed by file name in /sys/kernel/mm/ksm.

        If known, add `ksmd_cpu_seconds`, and `shareable_kib`: guests' memory that KSM may merge.
        """

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these settings, keyed by file name."""


@runtime_checkable
class KsmWriter(Protocol):
    """Writer of KSM files for an unprivileged mom."""

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these settings, keyed by file name."""


@dataclass(frozen=True, slots=True)
class KsmKnobs:
    """Access to KSM's knobs.

    :param page_size: in bytes
    :param spare_kib: function that returns the KiB that unmerging may take (None if unknown); None if the hypervisor checks the memory
    :param folder: the kernel's files; None if the hypervisor has its own KSM
    :param unmerging: file that keeps the former value of `run` while mom unmerges everything
    """

    ksm_read: Callable[[], Mapping[str, Value]]
    ksm_write: Callable[[Mapping[str, int]], None]
    page_size: int
    spare_kib: Callable[[], int | None] | None
    folder: Path | None = None
    unmerging: StateFile[int] | None = None

    def read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """Return the present values. Raise `HypervisorError` if they cannot be read."""
        files = self.ksm_read()
        values: dict[Target, Value | HypervisorError] = {}
        mode = files.get("advisor_mode", "none")
        for target in targets:
            knob = knob_of(target.control)
            if knob not in files and (self.folder is None or not (self.folder / knob).exists()):
                values[target] = NotSupported(f"this kernel has no KSM knob {knob}")
            elif knob == PAGES_TO_SCAN and mode != "none":
                values[target] = Refused(f"the kernel's advisor ({mode}) sets pages_to_scan by itself; to set it, first {ADVISOR_CURE}")
            else:  # unreadable now; mom restores it later
                values[target] = files.get(knob)
        return values

    def write(self, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set knobs in one call, or if that fails, each in its own. Raise `HypervisorError` if the present values cannot be read."""
        files = self.ksm_read()
        due: dict[Target, int] = {}
        errors: dict[Target, HypervisorError] = {}
        for change in sorted(changes, key=_turn):
            number, unmerges = as_whole(change.value), knob_of(change.control) == RUN and change.value == UNMERGED
            hindrance = self._unmerge_hindrance(files) if unmerges else ""
            if hindrance or number is None:
                errors[change.target] = Refused(hindrance or f"{change.value!r:.40} is not a valid value of {change.control}")
            else:
                due[change.target] = number
        if len(due) > 1:
            with suppress(HypervisorError):
                self.ksm_write({knob_of(target.control): value for target, value in due.items()})
                return errors
        back = {change.target for change in changes if change.back}
        for target, value in due.items():
            knob = knob_of(target.control)
            set_knob = self._put_merge_across_nodes_back if knob == MERGE_ACROSS_NODES and target in back else self.ksm_write
            try:
                set_knob({knob: value})
            except HypervisorError as error:
                errors[target] = error
        return errors

    def _unmerge_hindrance(self, files: Mapping[str, Value]) -> str:
        # Unmerging copies every shared page, and since Linux 6.6 also the zero page. Without enough memory, the OOM killer kills mom.
        sharing, empty = files.get("pages_sharing"), files.get("ksm_zero_pages")
        if self.spare_kib is None:
            return ""
        if not is_count(sharing):
            return "the number of merged pages is unknown, and so is the memory that unmerging needs"
        sharing += empty if is_count(empty) else 0
        needed, spare = sharing * self.page_size // 1024, self.spare_kib()
        if not needed or (spare is not None and needed < spare):
            return ""
        memory = "the available memory is unknown" if spare is None else f"the host has only {spare // 1024} MiB to spare"
        return f"unmerging {sharing} pages needs {needed // 1024} MiB, but {memory}; stop guests first"

    def _put_merge_across_nodes_back(self, knob: Mapping[str, int]) -> None:
        # If shared pages prevent the change, mom unmerges all pages if memory allows, and then restores `run`.
        try:
            self.ksm_write(knob)
        except HypervisorError as error:
            files = self.ksm_read()
            run, hindrance = files.get(RUN), self._unmerge_hindrance(files)
            if not files.get("pages_shared") or not is_count(run):
                raise
            if hindrance:
                raise HypervisorError(f"{error}; {hindrance}") from error
            try:
                if self.unmerging is not None:
                    self.unmerging.write(run)
            except StateError as unnoted:
                raise HypervisorError(f"{error}; {unnoted.message}") from error
        else:
            return
        try:  # even if a write fails, the kernel may have stopped KSM or unmerged pages
            self.ksm_write({RUN: UNMERGED})
            for _ in range(_BUSY_TRIES):
                with suppress(HypervisorError):
                    self.ksm_write(knob)
                    return
                time.sleep(_BUSY_PAUSE)
            self.ksm_write(knob)
        finally:
            self.ksm_write({RUN: run})
            if self.unmerging is not None:
                with suppress(StateError):  # a remaining file is harmless: `run` is not 2
                    self.unmerging.remove()

    def end_unmerging(self) -> int | None:
        """Restore `run` after a crash during unmerging. Return the restored value; None if there is none. Raise `MomError` on failure."""
        former = None if self.unmerging is None else self.unmerging.read()
        if self.unmerging is None or former is None:
            return None
        now = self.ksm_read().get(RUN)
        if now is None:
            raise HypervisorError("the mode of KSM is unknown")
        if now == UNMERGED:
            self.ksm_write({RUN: former})
        self.unmerging.remove()
        return former if now == UNMERGED else None


def _turn(change: Change) -> int:
    knob = knob_of(change.control)
    if knob == RUN:
        return 4 if change.value == MERGING else 0
    return {MERGE_ACROSS_NODES: 1, SLEEP: 2}.get(knob, 3)
