"""Reads and writes KSM's knobs, in the kernel's files or through a hypervisor. Finds the processes of ksmd and QEMU."""

from __future__ import annotations

import errno
import re
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
from mom_kvm import ProcessStat, read_kernel_file, read_meminfo, write_file
from mom_plugins_ksm.fields import FILES, is_count

FOLDER = "sys/kernel/mm/ksm"
ADVISOR_CURE = f"echo none > /{FOLDER}/advisor_mode"

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
class KsmWriter(Protocol):
    """Writer of KSM files for an unprivileged mom."""

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these settings, keyed by file name."""


@runtime_checkable
class KsmControl(KsmWriter, Protocol):
    """KSM of a simulated host, or of a management system that owns the files."""

    def ksm_read(self) -> Mapping[str, Value]:
        """Return settings and counters, keyed by file name in /sys/kernel/mm/ksm.

        If known, add `ksmd_cpu_seconds`, and `shareable_kib`: guests' memory that KSM may merge.
        """


@dataclass(frozen=True, slots=True)
class KsmKnobs:
    """Access to KSM's knobs.

    :param page_size: in bytes
    :param unmerging: file that keeps the former value of `run` while mom unmerges everything
    :param spare_kib: function that returns the KiB that unmerging may take (None if unknown); None if the hypervisor checks the memory
    :param folder: the kernel's files; None if the hypervisor has its own KSM
    """

    ksm_read: Callable[[], Mapping[str, Value]]
    ksm_write: Callable[[Mapping[str, int]], None]
    page_size: int
    unmerging: StateFile[int]
    spare_kib: Callable[[], int | None] | None = None
    folder: Path | None = None

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
            with suppress(StateError):  # a remaining file is harmless: `run` is not 2
                self.unmerging.remove()

    def end_unmerging(self) -> int | None:
        """Restore `run` after a crash during unmerging. Return the restored value; None if there is none. Raise `MomError` on failure."""
        former = self.unmerging.read()
        if former is None:
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


_LOOK_AGAIN_AFTER = 60.0
"""Seconds between searches for an invisible ksmd (as in a container). Searches are slow with thousands of processes."""


class Ksmd:
    """Kernel thread ksmd.

    :param root: folder with /proc
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._pid = 0
        self._look_again_at = 0.0

    def cpu_seconds(self) -> float | None:
        """Return the CPU seconds that ksmd has used; None if ksmd is not visible."""
        seconds, now = self._seconds_of(self._pid) if self._pid else None, time.monotonic()
        if seconds is None and (self._pid or now >= self._look_again_at):
            self._look_again_at = now + _LOOK_AGAIN_AFTER
            self._pid = next((pid for pid in ProcessStat.ids(self._proc) or () if self._seconds_of(pid) is not None), 0)
            seconds = self._seconds_of(self._pid) if self._pid else None
        return seconds

    def _seconds_of(self, pid: int) -> float | None:
        process = ProcessStat.of(f"{self._proc}/{pid}")
        return process.cpu_seconds if process is not None and process.is_kernel_thread and process.name == "ksmd" else None


_SEARCH_SECONDS = 30.0
"""Seconds between two sums of QEMU's address spaces, because reading thousands of names is slow."""


class QemuProcesses:
    """QEMU processes of this host.

    :param root: folder with /proc
    :param page_size: in bytes
    """

    def __init__(self, root: Path, page_size: int) -> None:
        self._proc = root / "proc"
        self._page_size = page_size
        self._search_at = float("-inf")
        self._kib: int | None = None

    def address_space_kib(self, now: float) -> int | None:
        """Return the address space of all QEMU processes in KiB (VSZ in ps); None if /proc is unreadable."""
        if now >= self._search_at:
            self._search_at = now + _SEARCH_SECONDS
            pids = ProcessStat.ids(self._proc)
            self._kib = None if pids is None else sum(map(self._pages_of, pids)) * self._page_size // 1024
        return self._kib

    def _pages_of(self, pid: int) -> int:
        # QEMU's name is kvm on Proxmox.
        name = read_kernel_file(f"{self._proc}/{pid}/comm")
        if b"qemu" not in name and name != b"kvm\n":
            return 0
        pages = read_kernel_file(f"{self._proc}/{pid}/statm").partition(b" ")[0]
        return int(pages) if pages.isdigit() else 0


_KEPT_SHARE = 0.05
"""Unmerging must leave this share of the host's memory available, because guests may grow. Near 0, the OOM killer acts."""

_COUNT = re.compile(rb"[0-9]{1,20}\n?")
_SIGNED = re.compile(rb"-?[0-9]{1,20}\n?")
_NUMBERS = {file: _SIGNED if unit is Unit.BYTES else _COUNT for _, file, unit, _ in FILES if unit is not Unit.TEXT}
_CHOSEN = re.compile(rb"\[([A-Za-z0-9_-]{1,40})\]")


class SysfsKsm:
    """KSM's files of this kernel.

    :param root: folder with /sys and /proc
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self._ksmd = Ksmd(root)
        self._root = root

    def ksm_read(self) -> Mapping[str, Value]:
        """Return the value of each readable file, keyed by name, and `ksmd_cpu_seconds` if mom can see ksmd."""
        files: dict[str, Value] = {}
        for name, pattern in _NUMBERS.items():
            text = read_kernel_file(f"{self.folder}/{name}")
            if pattern.fullmatch(text):
                files[name] = int(text)
        if not files:
            return files  # no KSM
        if chosen := _CHOSEN.search(read_kernel_file(f"{self.folder}/advisor_mode")):
            files["advisor_mode"] = chosen[1].decode("ascii")
        if (seconds := self._ksmd.cpu_seconds()) is not None:
            files["ksmd_cpu_seconds"] = seconds
        return files

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write the knobs in the given order. Raise `NotSupported` for a missing knob, or `HypervisorError` for a failed write."""
        for name, value in knobs.items():
            try:
                write_file(self.folder / name, f"{value:d}")
            except HypervisorError as error:
                raise _explained(error, name) from error.__cause__

    def spare_kib(self) -> int | None:
        """Return the KiB that unmerging may take; None if unknown."""
        meminfo = read_meminfo(self._root)
        available, total = meminfo.get("MemAvailable"), meminfo.get("MemTotal")
        return None if available is None or total is None else max(0, available - int(_KEPT_SHARE * total))


def _explained(error: HypervisorError, name: str) -> HypervisorError:
    # The meanings are from the kernel's mm/ksm.c.
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if isinstance(error, NotSupported):
        return NotSupported(f"this kernel has no KSM knob {name}")
    if number == errno.EBUSY and name == "merge_across_nodes":
        return HypervisorError("merge_across_nodes can change only while no pages are shared", hint="set ksm_run to 2 first")
    if number == errno.EINVAL and name == "pages_to_scan":
        return HypervisorError("the kernel rejects pages_to_scan while its advisor is active", hint=ADVISOR_CURE)
    return error
