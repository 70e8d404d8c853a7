"""Sweeps: what a guest has used and freed is taken with its balloon, and its headroom given back at once. One short operation for each
guest.

A sweep ends when it has arrived, when the guest begins to use memory, when the balloon gets nothing more for the host, or when its time is
over; whatever the cycle does meanwhile. It begins by statistics of the guest that are a second old at most, and where the cycle's are older
it waits for the next. From then on it does not rely on them alone, as they come once in a second or two: it looks at them after each slice,
and besides at the guest's process: its CPU time, its resident size and its page faults, which the kernel tells in microseconds. A balloon
that moves has a CPU of the guest busy, and one that has arrived leaves it idle. So the balloon takes slice by slice, and between two slices
it can be seen whether the guest has anything else to do.

Which pages a balloon gets is up to the guest's kernel: those that it has had before, and gave back, come first more often than not. They
hold nothing of the host's memory (they are hollow), so that a sweep has to go through them until the host has what it was to get.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from mom_core import Entity, GuestGone, NoChangeNeeded, Refused, StateError, format_kib
from mom_plugins_balloon.parameters import SLOW_BALLOON_KIB_PER_SECOND
from mom_toolkit import ProcessStat

_PAGE_KIB: Final = mmap.PAGESIZE / 1024

SLICE_KIB: Final = 128 * 1024.0
FIRST_SLICE_KIB: Final = 64 * 1024.0
LEAST_SLICE_KIB: Final = 16 * 1024.0
"""KiB. The balloon takes so much at most, at first, and at least, before the guest is looked at again: 128 MiB are 0.15 s at 0.86 GiB/s.
Larger slices are noticed later; smaller ones cost more looks and commands. The first one shows how fast the balloon is."""

SLICE_SECONDS: Final = 0.25
"""s. A slice is as large as the balloon takes in this time, by the one before it: where the CPUs of the host are busy, a guest that grows
would be noticed later otherwise."""

POLL_SECONDS: Final = 0.01
"""s. Between two looks at the CPU time of a guest whose balloon moves: what each slice takes longer than its balloon at most."""

FRESH_SECONDS: Final = 1.0
"""s. Statistics that a sweep begins by are no older: a program may have begun to take what they call unused."""

NEXT_STATISTICS_SECONDS: Final = 2.5
ASK_SECONDS: Final = 0.1
"""s. For how long to wait for a guest's next statistics, which come once in a second or two, and how often to ask for them."""

QUIET_SECONDS: Final = 0.2
"""s. For so long a guest is to be idle before it is swept, which costs it nothing: a program that fills memory in slots of 100 ms pauses
for half of each."""

PAUSE_SECONDS: Final = 0.02
"""s. For so long a guest is to be idle after each slice."""

AT_WORK: Final = 0.08
"""Ratio of one CPU. A guest that does more for `QUIET_SECONDS` or `DOUBT_SECONDS` is at work: one that only keeps its services up needs
0.02 to 0.04, and a program that fills memory at 320 MiB/s 0.15, or a whole CPU where the host has to find that memory first. What grows
without being seen grows slowly, and has the headroom that a sweep leaves."""

STILL_MOVES: Final = 0.25
"""Ratio of one CPU. A guest that does more within `POLL_SECONDS` or `PAUSE_SECONDS` is at work, or its balloon still moves: one that only
keeps its services up, with tasks of 3 ms, needs 0.15 in the 20 ms in which one falls."""

GROWN_KIB: Final = 4 * 1024.0
"""KiB. A process that holds or has faulted in so much more, while its balloon stands still: its programs take memory. A balloon that moves
faults pages in, too: Linux zeroes what it allocates."""

MORE_WORK: Final = 1.4
FAR_MORE_WORK: Final = 2.0
"""Ratios. A slice that cost the guest so much more CPU time than its cheapest one: something besides the balloon may be at work, or is.
What
the balloon needs itself differs by half where the host's CPUs are busy."""

DOUBT_SECONDS: Final = 0.1
"""s. For so long a guest is looked at when something may be at work: no program that fills memory pauses for so long."""

WORK_SECONDS: Final = 0.015
"""s of CPU time that a slice may cost more in any case: a timer, a service that wakes up."""

USUAL_SHARE: Final = 0.75
"""Ratio of a slice. By a slice of which the host gets more, the CPU time of the next ones is judged: it went as it should."""

VAIN_SHARE: Final = 0.25
VAIN_SLICES: Final = 2
"""Ratio of a slice, and slices. A slice of which the host gets less is hollow. When there were so many more than the guest has hollow
memory, they were the last: the kernel of the guest reads what the balloon takes back from its own swap, or QEMU holds more than was
thought."""

GOT_SHARE: Final = 0.97
"""Ratio of what the host is to get: a sweep that has got so much is over. What a process holds goes up and down by some MiB."""

SLICE_WAIT_SECONDS: Final = 1.0
"""s. A slice that takes longer is given up: the balloon is stuck, or the host has no CPU for the guest."""

ARRIVED_KIB: Final = 1024.0
"""KiB. A balloon that is so near to what was asked of it has arrived: hypervisors round to whole MiB."""

BACK_AGAIN_SECONDS: Final = (0.1, 0.3, 1.0, 2.0)
"""s. When to try again to give headroom back after the hypervisor has failed to. After these, the next cycle finds it as it is."""

RELEASE_SECONDS: Final = 0.1
"""s. From the command that gives headroom back until a guest has the first of it: a balloon gives back 2 GiB/s, and begins at once."""

TAKEN_OVER_SECONDS: Final = 5.0
"""s. For so long another change of the guest waits for a command of its sweep that hangs."""

END_SECONDS: Final = 0.3
"""s. For so long an ending mom waits until guests have their headroom again; what `mom_teardown` may take is 0.4."""


class SweepEnd(StrEnum):
    """Why a sweep has ended."""

    ARRIVED = "arrived"  #: it took all that it was to take
    NOTHING_MORE = "nothing-more"  #: the host got nothing more for what the balloon took
    GREW = "grew"  #: the guest began to use memory
    AT_WORK = "at-work"  #: it was not begun, as the guest was at work
    LATE = "late"  #: its time was over
    SLOW = "slow"  #: its balloon moved too slowly, as where the host has no CPU for it
    TAKEN_OVER = "taken-over"  #: the guest was to have another size
    UNSEEN = "unseen"  #: its process could not be looked at, as one that has gone
    FAILED = "failed"  #: the hypervisor did not do as it was told
    GONE = "gone"  #: the guest has gone


REST_SECONDS: Final = {
    SweepEnd.AT_WORK: 2.0,
    SweepEnd.GREW: 10.0,
    SweepEnd.LATE: 60.0,
    SweepEnd.SLOW: 10.0,
    SweepEnd.UNSEEN: 600.0,
    SweepEnd.FAILED: 60.0,
    SweepEnd.NOTHING_MORE: 10.0,
}
"""s. For so long a guest is not swept again after one that has ended so: a burst lasts seconds, as does a moment without CPU, and a
balloon that is stuck much longer."""


class ProcessMemory(NamedTuple):
    """The resident size of a process, and what it has faulted in since it was started; KiB. A fault of a huge page counts as one of a small
    one: the resident size tells of those."""

    resident: float
    faulted: float


class GuestProcess(Protocol):
    """What is looked at while a guest is swept."""

    def cpu_seconds(self) -> float | None:
        """CPU time of all its threads, as exact as the kernel has it; None when it has gone."""

    def memory(self) -> ProcessMemory | None:
        """The host's memory that it holds, and how often it has faulted; None when it has gone."""


class QemuProcess:
    """The process of a guest, by its number.

    :param proc: where /proc is found
    """

    def __init__(self, pid: int, proc: Path) -> None:
        self._process = proc / str(pid)
        self._started = None if (stat := ProcessStat.of(self._process)) is None else stat.started
        # The clock of another process's CPU time, as clock_getcpuclockid(3) makes it. It is that of this system, wherever `proc` is.
        self._clock = (~pid << 3) | 2 if proc == Path("/proc") else None

    def cpu_seconds(self) -> float | None:
        """As `GuestProcess`: to the nanosecond on this system."""
        if self._clock is not None:
            with suppress(OSError):
                return time.clock_gettime(self._clock)
        stat = ProcessStat.of(self._process)
        return None if stat is None or stat.started != self._started else stat.cpu_seconds

    def memory(self) -> ProcessMemory | None:
        """As `GuestProcess`."""
        stat = ProcessStat.of(self._process)
        if stat is None or stat.started != self._started or stat.resident_kib is None:
            return None
        return ProcessMemory(stat.resident_kib, (stat.minor_faults + stat.major_faults) * _PAGE_KIB)


class SweepPlan(NamedTuple):
    """What a sweep is to do: a guest of `size` goes down to `bottom` at most, until the host has got `gain`, through `hollow` memory that
    holds nothing; KiB. It may take `wait` seconds besides what a slow balloon needs. `usable` in the guest is what it goes by, from before
    `said` (monotonic seconds). It takes nothing more `within` seconds after it was planned."""

    size: int
    bottom: int
    gain: float
    hollow: float
    wait: float
    usable: float = 0.0
    said: float = math.inf
    within: float = math.inf


class SweepCost(NamedTuple):
    """CPU seconds that a guest's balloon needs for a KiB at least: of memory that the host gets, and of hollow memory, which the kernel of
    the guest may zero first."""

    backed: float = math.inf
    hollow: float = math.inf


class _Look(NamedTuple):
    """A process that was looked at for a while: how much of a CPU it used, what it held at the end, by how much that had grown, and what it
    had faulted in; KiB."""

    busy: float
    resident: float
    grown: float
    faulted: float


class SweepOutcome(NamedTuple):
    """The outcome of a sweep of one guest.

    `lowest` is the smallest size that was asked for, `gave` what the host got, `resident` what the process held at the end (None: unknown):
    KiB. `slice` is what its balloon takes in `SLICE_SECONDS`, as far as is known. `seconds` is how long the guest was without its headroom,
    `reaction` how long it took at most to notice that the guest grows and to give headroom back. `ended` is in monotonic seconds.
    `is_back`: the guest was asked to have its headroom again, or never lacked it."""

    guest: Entity
    incarnation: str
    plan: SweepPlan
    lowest: float
    gave: float
    seconds: float
    reaction: float
    ended: float
    end: SweepEnd
    cost: SweepCost | None = None
    resident: float | None = None
    error: str = ""
    slice: float = FIRST_SLICE_KIB
    is_back: bool = True

    @property
    def missed(self) -> float:
        """KiB that the host was to get and did not, although the sweep went as far as it was to, or got nothing more."""
        went = self.end in {SweepEnd.ARRIVED, SweepEnd.NOTHING_MORE} and self.lowest < self.plan.size
        return self.plan.gain - self.gave if went and self.gave < GOT_SHARE * self.plan.gain else 0.0


@dataclass(eq=False)
class Sweep:
    """One sweep, carried out by `perform` in a thread of its own."""

    guest: Entity
    incarnation: str
    plan: SweepPlan
    command: Callable[[int], None]
    """Asks the guest for a size; raises `HypervisorError`."""
    process: GuestProcess
    cost: SweepCost | None = None
    """Of the balloon of this guest in the sweeps before; None: there was none."""
    statistics: Callable[[], tuple[float, float] | None] | None = None
    """When the guest's last statistics were made (s since the epoch), and what was usable by them, in KiB; None: it says nothing. Raises
    `HypervisorError`."""
    size_now: Callable[[], float | None] | None = None
    """What its balloon leaves the guest now, in KiB; None: the hypervisor does not say. Raises `HypervisorError`."""
    first_slice: float = math.inf
    """KiB that its balloon takes at most before the guest is looked at for the first time."""
    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] | None = None
    """None: until it is taken over."""
    told: Callable[[SweepOutcome], object] | None = None
    """Told what became of it, in its thread, when it is not under way any more."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: bool = False
    takes: bool = field(default=False, init=False)
    """It has begun to take memory."""
    _slowest: float = 0.0
    """Seconds of the slowest slice."""
    _first: float | None = None
    """KiB that the process held before the first slice."""
    _resident: float | None = None

    def __post_init__(self) -> None:
        self._pause = self.pause or self._stopped.wait
        self._cost, self._slice = self.cost or SweepCost(), min(FIRST_SLICE_KIB, self.first_slice)
        self._fresh_until = self.plan.said + FRESH_SECONDS
        self._longest = self.plan.wait + (self.plan.size - self.plan.bottom) / SLOW_BALLOON_KIB_PER_SECOND
        self._lowest, self._began = self.plan.size, self.monotonic()
        self._until = self._began + self.plan.within

    @property
    def noted(self) -> tuple[str, int, int]:
        """What the next mom has to know of it: incarnation, least and former size in KiB."""
        return self.incarnation, self.plan.bottom, self.plan.size

    def end(self) -> None:
        """Have it end now; the guest gets its headroom back."""
        self._stopped.set()

    def take_over(self) -> None:
        """End it without giving anything back: the guest is about to get another size. Nothing is commanded after this returns."""
        self._stopped.set()
        taken = self._lock.acquire(timeout=TAKEN_OVER_SECONDS)
        self._over = True
        if taken:
            self._lock.release()

    def perform(self, turns: threading.Semaphore | None = None) -> SweepOutcome:
        """Take what there is, and give the headroom back.

        :param turns: one is held while the balloon takes memory, and none while statistics are waited for
        """
        error = lacks = ""
        try:
            end = self._read_anew() or self._in_turn(turns or threading.Semaphore())
        except GuestGone:
            end = SweepEnd.GONE
        except Exception as failure:  # noqa: BLE001  # whatever happens, the guest gets its headroom back
            end, error = SweepEnd.FAILED, str(failure) or type(failure).__name__
        commanded = self.monotonic()
        if self._lowest < self.plan.size:
            try:
                lacks = self._give_back()
            except GuestGone:
                end = SweepEnd.GONE
        now = self.monotonic()
        reaction = self._slowest + PAUSE_SECONDS + (now - commanded) + RELEASE_SECONDS
        gave = 0.0 if self._first is None or self._resident is None else max(0.0, self._first - self._resident)
        end = SweepEnd.TAKEN_OVER if self._over and end is not SweepEnd.GONE else end
        seconds = now - self._began if self._lowest < self.plan.size else 0.0
        told = (self.guest, self.incarnation, self.plan, self._lowest, gave, seconds, reaction, now, end)
        is_back = not lacks and not (self._over and self._lowest < self.plan.size)
        return SweepOutcome(*told, self._cost, self._resident, lacks or error, self._slice, is_back)

    def _in_turn(self, turns: threading.Semaphore) -> SweepEnd:
        """Wait for a turn, and take what there is. Raises `HypervisorError`."""
        while not turns.acquire(timeout=ASK_SECONDS):
            if self._stopped.is_set():
                return SweepEnd.TAKEN_OVER
        try:
            return self._read_anew() or self._taken()
        finally:
            turns.release()

    def _read_anew(self) -> SweepEnd | None:
        """Wait for the guest's next statistics where those that it is swept by have become too old; why it is not swept, if it is not.
        Raises `HypervisorError`."""
        now = self.monotonic()
        if now <= self._fresh_until or self.statistics is None:
            return None if now <= self._fresh_until else SweepEnd.LATE
        first, until = self.statistics(), now + NEXT_STATISTICS_SECONDS
        while self.monotonic() < until:
            self._pause(ASK_SECONDS)
            asked, told = self.monotonic(), self.statistics()
            if self._stopped.is_set():
                return SweepEnd.TAKEN_OVER
            first = first or told
            if told is not None and first is not None and told[0] != first[0]:
                self._fresh_until = asked - ASK_SECONDS + FRESH_SECONDS
                return self._told(told)
        return SweepEnd.LATE

    def _asked(self) -> SweepEnd | None:
        """What the guest's last statistics tell now. Raises `HypervisorError`."""
        return None if self.statistics is None else self._told(self.statistics())

    def _told(self, told: tuple[float, float] | None) -> SweepEnd | None:
        """Whether the guest has used, by these statistics, some of what the sweep goes by. They may be from before the last slices, when
        the balloon had taken less."""
        grew = told is not None and told[1] + self.plan.size - self._lowest < self.plan.usable - GROWN_KIB
        return SweepEnd.GREW if grew else None

    def _taken(self) -> SweepEnd:
        """Take slice after slice. Raises `HypervisorError`."""
        memory, began = self.process.memory(), self.monotonic()
        if memory is None:
            return SweepEnd.UNSEEN
        self.takes, self._resident, self._first = True, memory.resident, memory.resident
        vain = 0.0  # KiB that the balloon took, and the host did not get
        if (end := self._at_rest(QUIET_SECONDS, SweepEnd.AT_WORK) or self._asked()) is not None:
            return end
        for size in self._sizes():
            if (now := self.monotonic()) > self._until:
                return SweepEnd.LATE
            if now - began > self._longest:
                return SweepEnd.SLOW
            before = self._resident
            used, asked = self.process.cpu_seconds(), self.monotonic()
            if used is None:
                return SweepEnd.UNSEEN
            if self._lowest == self.plan.size:
                self._began = asked
            if not self._ask(size):
                return SweepEnd.TAKEN_OVER
            taken, self._lowest = self._lowest - size, size
            dearest = max(self._cost) if vain < self.plan.hollow else self._cost.backed
            budget = FAR_MORE_WORK * taken * min(dearest, 1 / SLOW_BALLOON_KIB_PER_SECOND) + WORK_SECONDS
            end = self._arrived(used, budget, self._lowest + taken)
            self._slice = self._slice_after(taken, self.monotonic() - asked)
            if end is not None:
                return end
            spent = self.process.cpu_seconds()
            if spent is None:
                return SweepEnd.UNSEEN
            got = before - self._resident
            usual = taken * min(self._cost.backed if got > VAIN_SHARE * taken else self._cost.hollow, 1 / SLOW_BALLOON_KIB_PER_SECOND)
            doubtful = spent - used > MORE_WORK * usual + WORK_SECONDS
            end = (self._at_rest(DOUBT_SECONDS, SweepEnd.GREW) if doubtful else None) or self._asked()
            if end is not None:
                return end
            if got > USUAL_SHARE * taken:
                self._cost = self._cost._replace(backed=min(self._cost.backed, (spent - used) / taken))
            elif got < VAIN_SHARE * taken:
                self._cost = self._cost._replace(hollow=min(self._cost.hollow, (spent - used) / taken))
            vain += taken - max(0.0, got)
            if self._first - self._resident >= GOT_SHARE * self.plan.gain:
                return SweepEnd.ARRIVED
            if vain >= self.plan.hollow + VAIN_SLICES * SLICE_KIB:
                return SweepEnd.NOTHING_MORE
        return SweepEnd.ARRIVED

    def _sizes(self) -> Iterator[int]:
        """The sizes that the guest is asked for, one after the other."""
        size = self.plan.size
        while size > self.plan.bottom:
            size = max(self.plan.bottom, int(size - self._slice))
            yield size

    def _slice_after(self, taken: float, seconds: float) -> float:
        """How much the balloon takes next, in KiB, after it has taken so much in so many seconds; a rest of a slice tells nothing."""
        if taken < 0.5 * self._slice or seconds <= 0:
            return self._slice
        return min(SLICE_KIB, max(LEAST_SLICE_KIB, taken * SLICE_SECONDS / seconds))

    def _ask(self, size: int) -> bool:
        """Ask for a size, unless the guest is another's to change by now. Raises `HypervisorError`."""
        with self._lock:
            if self._over or self._stopped.is_set():
                return False
            self.command(size)
            return True

    def _arrived(self, used: float, budget: float, before: float) -> SweepEnd | None:
        """Wait until the balloon stands still, which leaves the guest idle; why the sweep ends if it does not.

        On a busy host the balloon's CPU may be kept from it for a while, which looks like idle: so the hypervisor is asked how far it has
        come, and the guest is looked at twice where the hypervisor does not say.

        :param used: CPU seconds of the guest before the slice
        :param budget: CPU seconds that the balloon may need for the slice; in one that takes longer, what an idle guest does comes on top
        :param before: KiB that the balloon left it before the slice
        """
        began = self.monotonic()
        while True:
            look, size = self._look(POLL_SECONDS), None
            idle = look is not None and look.busy < STILL_MOVES
            if idle and self.size_now is not None:
                size = self.size_now()
                idle = size is None or size - self._lowest <= ARRIVED_KIB
            if idle:
                look = self._look(PAUSE_SECONDS)
            spent, passed = self.process.cpu_seconds(), self.monotonic() - began
            self._slowest = max(self._slowest, passed)
            if look is None or spent is None:
                return SweepEnd.UNSEEN
            self._resident = look.resident
            if self._stopped.is_set():
                return SweepEnd.TAKEN_OVER
            if (idle and look.grown > GROWN_KIB) or spent - used > budget + STILL_MOVES * max(0.0, passed - SLICE_SECONDS):
                return SweepEnd.GREW
            if idle and look.busy < STILL_MOVES:
                return None
            if passed > SLICE_WAIT_SECONDS:
                return SweepEnd.SLOW if size is not None and before - size > ARRIVED_KIB else SweepEnd.LATE

    def _at_rest(self, seconds: float, otherwise: SweepEnd) -> SweepEnd | None:
        """Why the sweep ends, if the guest does something for so long; None where it does nothing."""
        look = self._look(seconds)
        if look is None or self._resident is None:
            return SweepEnd.UNSEEN
        grown = max(look.resident - self._resident, look.faulted)
        self._resident = look.resident
        if self._stopped.is_set():
            return SweepEnd.TAKEN_OVER
        if grown > GROWN_KIB:
            return otherwise
        return None if look.busy < AT_WORK else otherwise

    def _look(self, seconds: float) -> _Look | None:
        """Look at the process for so long; None when it has gone."""
        before, used, began = self.process.memory(), self.process.cpu_seconds(), self.monotonic()
        self._pause(seconds)
        spent, passed, after = self.process.cpu_seconds(), self.monotonic() - began, self.process.memory()
        if before is None or used is None or spent is None or after is None:
            return None
        busy = (spent - used) / passed if passed > 0 else 0.0
        return _Look(busy, after.resident, after.resident - before.resident, after.faulted - before.faulted)

    def _give_back(self) -> str:
        """Let the guest have its headroom again; why it has not, or an empty text. Raises `GuestGone`."""
        error = ""
        for seconds in (0.0, *BACK_AGAIN_SECONDS):
            if seconds:
                time.sleep(seconds)
            with self._lock:
                if self._over:
                    return ""
                try:
                    self.command(self.plan.size)
                except GuestGone:
                    raise
                except Exception as failure:  # noqa: BLE001  # whatever happens, it is tried again
                    error = f"its headroom could not be given back: {failure or type(failure).__name__}"
                else:
                    return ""
        return error


class Sweeper:
    """The sweeps that are under way. Its methods may be called in any thread.

    :param note: told what is under way, as guest id, incarnation, least and former size, before the first command and after the last
    :param ended: called when none is left under way, in the thread of the last one
    """

    def __init__(self, log: logging.Logger, note: Callable[[dict[str, tuple[str, int, int]]], None], ended: Callable[[str], None]) -> None:
        self._log = log
        self._note = note
        self._ended = ended
        self._lock = threading.RLock()
        self._under_way: dict[str, Sweep] = {}
        self._not_back: dict[str, tuple[str, int, int]] = {}
        """Guests that could not be given their headroom back, and have not been asked for another size since: as they are noted."""
        self._threads: list[threading.Thread] = []
        self._outcomes: list[SweepOutcome] = []
        self._most = max(1, (os.cpu_count() or 1) // 2)
        """A balloon that moves has a CPU busy: more at a time would keep programs of guests from theirs. One sweep after the other takes
        0.5 GiB a second, which is more than a burst does. As many wait for statistics meanwhile."""
        self._turns = threading.Semaphore(self._most)

    def begin(self, sweep: Sweep) -> None:
        """Carry it out in a thread of its own. Raises `NoChangeNeeded` and `Refused` where it has to wait."""
        identity = sweep.guest.id
        with self._lock:
            if identity in self._under_way:
                raise NoChangeNeeded("it is swept now")
            if len(self._under_way) >= 2 * self._most:
                raise NoChangeNeeded(f"as many guests are swept now as may be at a time ({self._most}): this one will be later")
            self._under_way[identity] = sweep
            thread = threading.Thread(target=self._perform, args=(sweep,), name="mom-sweep", daemon=True)
            try:
                self._note(self._noted())
                thread.start()
            except (StateError, RuntimeError) as error:  # no thread can be started where the unit may have no more
                del self._under_way[identity]
                self.note()
                raise Refused(f"no sweep can be begun, or noted for a mom that is started after a crash: {error}") from error
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]

    def take_over(self, identity: str) -> bool:
        """The guest is about to get another size: its sweep ends, if it has one, and commands nothing after this. True if it had one."""
        with self._lock:
            sweep = self._under_way.get(identity)
        if sweep is not None:
            sweep.take_over()
        return sweep is not None

    def asked(self, identity: str) -> None:
        """A guest was asked for another size: it is no longer one that could not be given its headroom back."""
        with self._lock:
            if self._not_back.pop(identity, None) is not None:
                self.note()

    def end_of(self, identity: str) -> None:
        """Have the sweep of a guest end, if it has one; the guest gets its headroom back."""
        with self._lock:
            if (sweep := self._under_way.get(identity)) is not None:
                sweep.end()

    def end(self, seconds: float = END_SECONDS) -> None:
        """Have all sweeps end, each with the guest's headroom given back, and wait for that no longer."""
        until = time.monotonic() + seconds
        with self._lock:
            for sweep in self._under_way.values():
                sweep.end()
            threads = self._threads
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def taking(self) -> frozenset[str]:
        """The ids of guests whose balloons take memory now: not of those that wait for statistics, or for their turn."""
        with self._lock:
            return frozenset(identity for identity, sweep in self._under_way.items() if sweep.takes)

    def outcomes(self) -> list[SweepOutcome]:
        """The sweeps that have ended since this was asked last."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _noted(self) -> dict[str, tuple[str, int, int]]:
        return self._not_back | {identity: one.noted for identity, one in self._under_way.items()}

    def note(self) -> None:
        """Note what is under way once more, as that has changed, or what is noted with it."""
        with self._lock:
            try:
                self._note(self._noted())
            except StateError as error:
                self._log.warning("what is swept cannot be noted: %s", error.message)

    def _perform(self, sweep: Sweep) -> None:
        outcome = None
        try:
            outcome = sweep.perform(self._turns)
        except Exception:  # noqa: BLE001  # containment: what one sweep meets must not leave the others unnoted
            self._log.exception("sweeping %s failed", sweep.guest)
        with self._lock:
            self._under_way.pop(sweep.guest.id, None)
            if outcome is not None:
                self._outcomes.append(outcome)
            if outcome is None or (not outcome.is_back and outcome.end is not SweepEnd.TAKEN_OVER):
                self._not_back[sweep.guest.id] = sweep.noted
            last = not self._under_way
            self.note()
        if outcome is not None:
            self._log.debug("sweep of %s: %s", sweep.guest, described(outcome))
            if sweep.told is not None:
                sweep.told(outcome)
        if last and outcome is not None and outcome.gave > SLICE_KIB:
            self._ended("guests were swept")


def described(outcome: SweepOutcome) -> str:
    """The outcome of a sweep, in words."""
    gave = f"gave {format_kib(outcome.gave)} of {format_kib(outcome.plan.gain)} in {outcome.seconds:.2f} s"
    return f"{gave}, {outcome.end}{': ' if outcome.error else ''}{outcome.error}"
