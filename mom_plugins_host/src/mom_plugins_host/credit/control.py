"""Growth on credit in the plugin `cgroup`: fields, control, problems and decisions. Limits are `memory.high`, which kills no process."""

from __future__ import annotations

import logging
import math
import os
import re
import select
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    FieldSpec,
    Guest,
    GuestColumn,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    Problem,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
    first_names,
    format_kib,
)
from mom_kvm import GroupLimit, Helper, LookThread, read_kernel_file, read_meminfo
from mom_plugins_host.capabilities import GrowthControl
from mom_plugins_host.cgroup.groups import CURRENT, MEMORY_HIGH, NO_LIMIT, GuestGroup, explained, limit_write
from mom_plugins_host.credit.limiter import ORDINARY_PRIORITY, Borrower, GrowthLimiter

CREDIT: Final = "memory_credit"
DELAY: Final = "memory_credit_delay"

DECLARED: Final = (
    FieldSpec(CREDIT, Unit.FLAG, Scope.GUEST, "1: mom limits how fast the guest grows while guests could exhaust the host", "memory.high"),
    FieldSpec(DELAY, Unit.SECONDS, Scope.GUEST, "time in the last cycle for which the limit delayed the guest's growth", "memory.events"),
    FieldSpec.reads("mem_watermark_low", Unit.KIB, Scope.HOST),
    FieldSpec.reads("mem_watermark_high", Unit.KIB, Scope.HOST),
    FieldSpec.reads("priority", Unit.COUNT, Scope.GUEST),
    ControlSpec(CREDIT, Unit.FLAG, Scope.GUEST, "1: limit how fast the guest grows while guests could exhaust the host", CREDIT),
    GuestColumn(
        "held back", (DELAY,), Unit.SECONDS,
        "time in the last cycle for which the guest could not grow, because the host had no memory left", 29, 2,
        "mom_guest_held_back_seconds", mark_from=0.1,
    ),
)  # fmt: skip

_HIGH_SHARE: Final = 0.1
_RESERVE_SHARE: Final = 0.02
"""Without the balloon plugin, the low watermark is this share of the host's memory, and the high watermark is `_HIGH_SHARE` of it."""

_PODS: Final = "/kubepods"
"""Part of the path of a pod's control group. The kubelet, not mom, limits pods."""

_TOLD_SECONDS: Final = 0.5
"""mom reports a guest that was delayed for at least this long in a cycle. Shorter delays are usual while limits follow growth."""


def can_limit(group: GuestGroup | None, fields: Mapping[str, Value]) -> bool:
    """Return whether mom may limit the growth of a guest.

    :param group: None for a simulated guest
    """
    return MEMORY_HIGH in fields and (group is None or _PODS not in group.folder)


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


class GrowthCredit:
    """Growth on credit: limits on how fast guests grow.

    :param is_wanted: the setting `credit`
    """

    def __init__(self, context: PluginContext, groups: KernelGroups, *, is_wanted: bool) -> None:
        self._context, self._source, self._is_wanted = context, Source(context.name), is_wanted
        self.limiter = GrowthLimiter(groups, context.monotonic)
        self._incarnations: Mapping[str, str] | None = None
        """Incarnations of the guests in the last cycle, keyed by guest id; None before the first cycle."""
        self._on_credit: set[str] = set()
        """Ids of guests on credit (`memory_credit` is 1)."""

    def stop(self) -> None:
        """Lift all limits: without mom, nobody would raise them."""
        self.limiter.control.watch_growth(None)
        self.limiter.lift()

    # --- each cycle ---------------------------------------------------------------------------------------------------------------

    def add_fields(self, hypervisor: Hypervisor, guests: Iterable[Guest], fields: Mapping[str, dict[str, Value]]) -> None:
        """Add the fields of growth on credit to `fields`, for guests whose limit is known."""
        if isinstance(hypervisor, GrowthControl):
            self.limiter.control = hypervisor
        if self._is_wanted and self._context.serves and self._incarnations is None:
            self.limiter.control.watch_growth(self.limiter.look)
        before, self._incarnations = self._incarnations or {}, {guest.id: guest.incarnation for guest in guests}
        # A guest that has restarted has a new group.
        self._on_credit = {name for name in self._on_credit if name in before and before[name] == self._incarnations.get(name)}
        if not self._is_wanted and not self._on_credit:
            return
        # If an earlier mom process set a limit, mom lifts it first.
        ours = {(entry.entity.id, entry.incarnation) for entry in self._context.engine_state().changes if entry.control == CREDIT}
        delays = self.limiter.delays()
        for name, own in fields.items():
            if name in self._on_credit:
                own |= {CREDIT: 1, DELAY: delays.get(name, 0.0)}
            elif own[MEMORY_HIGH] == NO_LIMIT or (name, self._incarnations[name]) in ours:
                own[CREDIT] = 0

    def decisions(self, snapshot: Snapshot, limited: Container[str]) -> Iterator[Decision]:
        """Yield a decision for each guest that is not on credit yet. `limited`: ids of guests whose settings contain a limit."""
        for guest in snapshot.guests.values() if self._is_wanted else ():
            if guest.fields.get(CREDIT) == 0 and guest.id not in limited:
                yield Decision(guest.entity, CREDIT, 1, "the setting `credit`", self._source)

    def update(self, snapshot: Snapshot, promised: Callable[[Guest], int], overhead_kib: int) -> None:
        """Pass this cycle's figures to the limiter.

        :param promised: returns the memory promised to a guest in KiB, including QEMU's own memory
        """
        host = snapshot.host
        total, high, low = (host.number(name) for name in ("mem_available", "mem_watermark_high", "mem_watermark_low"))
        if total is not None:
            high, low = _HIGH_SHARE * total if high is None else high, _RESERVE_SHARE * total if low is None else low
        guests = [guest for guest in snapshot.guests.values() if guest.id in self._on_credit]
        borrowers: dict[str, Borrower] = {}
        for guest in guests:
            held, maximum, priority = (guest.number(name) for name in (CURRENT, "balloon_max", "priority"))
            if held is not None:
                most = math.inf if maximum is None else maximum + overhead_kib
                priority = ORDINARY_PRIORITY if priority is None else priority
                borrowers[guest.id] = Borrower(int(held), promised(guest), most, priority)
        unlimited = {guest.id for guest in guests if guest.number(MEMORY_HIGH) == NO_LIMIT}
        self.limiter.update(borrowers, high, low or 0.0, unlimited)

    def refused(self, decisions: Iterable[Decision]) -> Iterator[Revision]:
        """Refuse decisions on `memory.high` of guests on credit."""
        for decision in decisions:
            if decision.control == MEMORY_HIGH and decision.entity.id in self._on_credit:
                yield Revision(decision, None, f"mom itself limits the guest's growth with memory.high: set {CREDIT} to 0 first")

    def problems(self, snapshot: Snapshot) -> Iterator[Problem]:
        """Yield problems: guests whose growth was delayed, and guests that mom cannot limit."""
        available = snapshot.host.number("mem_really_available")
        left = "" if available is None else f": the host has {format_kib(available)} available"
        for guest in snapshot.guests.values():
            if (delay := guest.number(DELAY)) is not None and delay >= _TOLD_SECONDS:
                hint = "move guests away, or add memory to the host"
                yield Problem(self._source, f"its growth was delayed by {delay:.1f} s{left}", guest.entity, Severity.WARNING, hint)
        without = [guest.name for guest in snapshot.guests.values() if self._is_wanted and guest.fields.get(CREDIT) is None]
        if without:
            message = f"mom cannot limit the growth of {first_names(without)}"
            hint = "each guest needs its own control group (v2) with the memory controller and memory.high=max; pods cannot be limited"
            yield Problem(self._source, message, None, Severity.WARNING, hint)

    # --- control -------------------------------------------------------------------------------------------------------------------

    def read(self, name: str, high: int | None) -> int | NotSupported:
        """Return 1 if a guest is on credit, else 0. `high` is the limit of the guest's group."""
        # Before the first cycle, a limit means that an earlier mom process put the guest on credit.
        if high is None and isinstance(self.limiter.control, KernelGroups):
            return NotSupported("its control group has no memory.high")
        return int(name in self._on_credit or (self._incarnations is None and high not in {None, NO_LIMIT}))

    def write(self, changes: Iterable[Change]) -> Mapping[Target, HypervisorError]:
        """Put guests on credit or end their credit. Return the failures."""
        # In both cases, first lift the limit.
        targets = {change.entity.id: change.target for change in changes}
        failures = self.limiter.lift(targets)
        self._on_credit -= targets.keys() - failures.keys()
        self._on_credit |= {change.entity.id for change in changes if change.value and change.entity.id not in failures}
        return {targets[name]: error for name, error in failures.items()}
