"""Limits of growth in the kernel's control groups (v2): `memory.high`, which slows a guest's processes down and never kills them."""

from __future__ import annotations

import logging
import os
import re
import select
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import GuestGone, HypervisorError
from mom_kvm import GroupLimit, Helper, LookThread, read_kernel_file, read_meminfo
from mom_plugins_host.cgroup.groups import MEMORY_HIGH, NO_LIMIT, GuestGroup, explained, limit_write

_EVENT_BYTES: Final = 4096
_HIGH: Final = re.compile(rb"^high ([0-9]{1,19})$", re.MULTILINE)

_LOOK_SHARE: Final = 0.1
"""Largest share of a CPU for updates of limits."""

_SWAP_SHARE: Final = 0.01
"""Free swap below this share of the host's memory counts as none."""

_JOIN_SECONDS: Final = 0.2
"""Longest wait for the thread to end. A plugin has 0.4 s to stop."""


class KernelGroups:
    """`GrowthControl` of real guests.

    :param root: folder that contains /proc
    :param write: writes files of control groups, and returns an error or None for each, in order
    """

    def __init__(
        self, root: Path, write: Callable[[Sequence[Helper.GroupWrite]], Sequence[HypervisorError | None]], log: logging.Logger
    ) -> None:
        self._root, self._write, self._log = root, write, log
        self.groups: Mapping[str, GuestGroup] = {}
        """Control groups keyed by guest id. The plugin replaces this mapping in each cycle."""
        self._files: dict[str, int] = {}
        """Descriptors of limited guests' `memory.events`, keyed by guest id. `epoll` reports changes since the last reading."""
        self._thread: LookThread | None = None

    def available_kib(self) -> int | None:
        """Return the host's available memory in KiB."""
        return read_meminfo(self._root).get("MemAvailable")

    def slips(self) -> bool:
        """Return whether guests can grow beyond their limits: without free swap, the kernel cannot reclaim their memory."""
        memory = read_meminfo(self._root)
        return memory.get("SwapFree", 0) < _SWAP_SHARE * memory.get("MemTotal", 0)

    def held_kib(self, guests: Collection[str]) -> dict[str, int]:
        """Return the KiB that guests' control groups hold."""
        groups = self.groups
        sizes = {name: GroupLimit.kib_in(f"{groups[name].folder}/memory.current") for name in guests if name in groups}
        return {name: kib for name, kib in sizes.items() if kib is not None}

    def slowed(self, guests: Collection[str]) -> dict[str, int]:
        """Return the kernel's counts of allocations above the limits, keyed by guest id."""
        groups = self.groups
        counts = {name: _HIGH.search(read_kernel_file(f"{groups[name].folder}/memory.events")) for name in guests if name in groups}
        return {name: int(count[1]) for name, count in counts.items() if count is not None}

    def limit_growth(self, limits: Mapping[str, int | None]) -> dict[str, HypervisorError]:
        """Write the limits in the given order. Return the errors."""
        groups = self.groups
        writes = {
            name: limit_write(MEMORY_HIGH, NO_LIMIT if kib is None else kib, groups[name]) for name, kib in limits.items() if name in groups
        }
        errors = zip(writes, self._write(list(writes.values())), strict=True)
        failures = {name: explained(error, writes[name]) for name, error in errors if error is not None}
        failures |= {name: GuestGone("its control group is gone") for name in limits if name not in groups}
        for name, kib in limits.items():
            self._follow(name, "" if kib is None or name in failures else groups[name].folder)
        return failures

    def watch_growth(self, look: Callable[[], float] | None) -> None:
        """Call `look` repeatedly in a separate thread. None ends the thread."""
        if self._thread is not None:
            self._thread.stop(_JOIN_SECONDS)
            self._thread = None
        if look is not None:
            self._thread = LookThread("growth-credit", "limiting guests' growth", look, self._log, _LOOK_SHARE)
            self._thread.start()

    def _follow(self, name: str, folder: str) -> None:
        # An empty folder ends the watch of this guest.
        if bool(folder) == (name in self._files):
            return
        if folder and self._thread is not None:
            with suppress(OSError):  # without events, mom looks later
                file = self._files[name] = os.open(f"{folder}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
                _read_events(file)
                self._thread.listen(file, select.EPOLLPRI, lambda _: _read_events(file))
        elif not folder:
            file = self._files.pop(name)
            if self._thread is not None:
                self._thread.ignore(file)
            os.close(file)


def _read_events(file: int) -> None:
    with suppress(OSError):  # the group is gone
        os.pread(file, _EVENT_BYTES, 0)
