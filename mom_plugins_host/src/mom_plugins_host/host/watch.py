"""Sees between two cycles that the host runs low on memory, and wakes the engine.

Pressure stall information tells that tasks suffer already, which is late; what is available falls before that. So both are watched: the
first by a trigger of the kernel where it takes one, the second by reading one small file a few times a second, or once while there is
more than could be taken until then.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, Field

from mom_core import Duration, PluginContext, PluginSettings, Size, format_duration
from mom_kvm import AvailableGauge, Pressure, read_kernel_file
from mom_plugins_host.host.cpu_lists import CpuLists
from mom_plugins_host.host.trigger import WINDOW_SECONDS, NoTrigger, StallTrigger

FIRST_GAP_SECONDS = 1.0
LONGEST_GAP_SECONDS = 30.0
"""While tasks go on waiting for memory, cycles are asked for at gaps that double between these: if the first ones did not help, more will
not, and scheduled cycles go on anyway."""

_MEMINFO_BYTES = 256
"""MemTotal, MemFree and MemAvailable are the first three lines, of 28 characters each."""

_TOTAL = re.compile(rb"^MemTotal: +([0-9]{1,18}) kB$", re.MULTILINE)
_AVAILABLE = re.compile(rb"^MemAvailable: +([0-9]{1,18}) kB$", re.MULTILINE)

_MOST_REST_SECONDS = 1.0
"""So often is a host with plenty of memory looked at: stalls, which the looks tell where the kernel takes no trigger, are counted over this
time anyway."""

_TAKEN_KIB = 2 << 20
"""So much memory a second can each CPU take: the kernel clears pages before it gives them away, at 1.8 GiB/s where it was measured."""

_JOIN_SECONDS = 0.3
"""A plugin has 0.4 s to end; the thread needs the time of one look."""


_SHORTEST_WATCH_SECONDS = 0.01
"""A look takes some 10 µs: more often than this would cost more than 0.1 % of a CPU, and tell no more."""


def _not_too_often(seconds: float) -> float:
    if 0 < seconds < _SHORTEST_WATCH_SECONDS:
        raise ValueError(f"must be at least {format_duration(_SHORTEST_WATCH_SECONDS)}, or 0s for never")
    return seconds


class HostSettings(PluginSettings):
    """How closely the host is watched between two cycles."""

    watch: Annotated[Duration, Field(ge=0, le=10), AfterValidator(_not_too_often)] = 0.2
    """How often to look whether the host runs low on memory, which wakes mom for a cycle at once. `0s`: never. With
    plenty available, less often, down to once a second: before all CPUs together could take it."""
    watch_available: Size | None = None
    """Wake when less memory than this is available. Unset: what the plugin balloon wants to be available (`mem_watermark_high`), or
    without it a fifth of the host's memory, at most 32 GiB."""
    watch_stall: Annotated[Duration, Field(gt=0, le=WINDOW_SECONDS)] = 0.05
    """Wake when tasks have waited so long for memory within one second (PSI). A host with enough memory stays near 0; at 50 ms,
    programs lose a twentieth of their time."""
    take_back: bool = True
    """Ask CPUs for the free memory that they keep for themselves, while less than twice what should be available is.
    Linux 6.7 and newer do not count it as available; CPUs return it within minutes by themselves."""


class StallGauge:
    """How long tasks have waited in the last window, from a counter that is looked at several times in it."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def stalled(self, total: int, now: float) -> float:
        """Seconds of waiting in the window that ends now; 0.0 at the first look.

        :param total: microseconds since the host has started
        :param now: monotonic seconds
        """
        looks = self._looks
        if looks and total < looks[-1][1]:
            looks.clear()
        looks.append((now, total))
        while len(looks) > 2 and looks[1][0] <= now - WINDOW_SECONDS:
            looks.popleft()
        since, before = looks[0]
        elapsed = max(now - since, WINDOW_SECONDS)  # the first of them may be older than the window: then, its share
        return (total - before) / 1e6 * WINDOW_SECONDS / elapsed


class Patience:
    """Lets a trouble that goes on through at growing gaps, and one that is new at once."""

    def __init__(self) -> None:
        self._gap = 0.0
        self._next = 0.0
        self._last = float("-inf")

    def allows(self, now: float) -> bool:
        """True if one is to act on the trouble that there is at `now` (monotonic seconds)."""
        quiet, self._last = now - self._last, now
        if quiet > 2 * self._gap:
            self._gap = FIRST_GAP_SECONDS
        elif now < self._next:
            return False
        else:
            self._gap = min(2 * self._gap, LONGEST_GAP_SECONDS)
        self._next = now + self._gap
        return True


@dataclass(eq=False)
class HostWatch:
    """A thread that looks at the host from `start` to `stop`, and wakes the engine when it runs low on memory."""

    settings: HostSettings
    context: PluginContext
    monotonic: Callable[[], float] = time.monotonic
    how: str = "not at all"
    """How the host is watched, for people."""
    why_not: str = ""
    """Why it is not watched, though it was to be; empty if it is."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _available: AvailableGauge = field(default_factory=AvailableGauge)
    _stalls: StallGauge = field(default_factory=StallGauge)
    _patience: Patience = field(default_factory=Patience)
    _another_host: bool = False
    _wanted: int | None = None
    _trigger: StallTrigger | None = None
    _end: int = -1
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._pressure_path = self.context.root / "proc/pressure/memory"
        self._meminfo = self.context.root / "proc/meminfo"
        self._most_kib = _TAKEN_KIB * (os.cpu_count() or 1)
        self.lists = CpuLists(self.context.root, self.context.log, self.monotonic)
        """The lists in which CPUs keep free memory of the host."""

    def start(self) -> None:
        """Start the thread. Where there can be none, `why_not` says why."""
        every = format_duration(self.settings.watch)
        try:
            self._trigger = StallTrigger(self._pressure_path, self.settings.watch_stall)
            self.how = f"by a trigger of the kernel, and by what is available, every {every}"
        except NoTrigger as error:
            self.how = f"every {every}; without a trigger of the kernel, as {error}"
        self._end = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._run, name="host-watch", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the unit may have no more: scheduled cycles see the same, later
            self._close()
            self._trigger = None
            self.why_not = f"memory pressure is not watched between cycles: {error}"
            self.context.log.error("%s", self.why_not)
            return
        self._thread = thread
        self.context.log.info("memory pressure is watched %s", self.how)

    def stop(self) -> None:
        """End the thread and wait for it."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        os.eventfd_write(self._end, 1)
        thread.join(_JOIN_SECONDS)
        if not thread.is_alive():  # else it uses them still; they go with the process
            self._close()

    def _close(self) -> None:
        os.close(self._end)
        if self._trigger is not None:
            self._trigger.close()

    def saw(self, available: int | None, total: int | None, wanted: int | None = None, collected: int | None = None) -> None:
        """A cycle goes by these values of the host's memory in KiB, of any collector; `wanted` is what should be available, and `collected`
        the total that this plugin has told of it: a host that is a VM itself gets and loses memory in the midst of a cycle."""
        with self._lock:
            own = _number(_TOTAL, read_kernel_file(self._meminfo, _MEMINFO_BYTES))
            self._wanted = wanted
            if total is not None and own is not None:  # what came too late for this cycle makes no other host of it
                self._another_host = total not in {own, collected}  # a simulated one, perhaps: then this one does not matter
            if available is not None and own is not None:
                self._available.saw(available, self._low(own))

    def look(self) -> float:
        """Look once, and wake the engine if need be; seconds until the next look, before which nothing can be of interest."""
        with self._lock:
            if self._another_host:
                return self._rest(float("inf"))
            text = read_kernel_file(self._meminfo, _MEMINFO_BYTES)
            total, available = _number(_TOTAL, text), _number(_AVAILABLE, text)
            why, headroom = "", 0.0
            if total is not None and available is not None:
                low = self._low(total)
                why, headroom = self._available.why(available, low), available - AvailableGauge.FALL_BELOW * low
        if not why and self._trigger is None:
            some = Pressure.parse(read_kernel_file(self._pressure_path)).get("some")
            if some is not None:
                self._judge(self._stalls.stalled(some.total, self.monotonic()))
        if why:
            self.context.wake(f"host memory pressure: {why}")
        if self.settings.take_back and headroom < 0 and not self.context.observes:
            self.lists.take_back(max(AvailableGauge.FALL_KIB, AvailableGauge.FALL_SHARE * (available or 0)))
        return self._rest(headroom)

    def _rest(self, headroom: float) -> float:
        """Seconds that all CPUs need at least to take this much memory, in KiB."""
        return max(self.settings.watch, min(_MOST_REST_SECONDS, headroom / self._most_kib))

    def _judge(self, seconds: float) -> None:
        if seconds >= self.settings.watch_stall and self._patience.allows(self.monotonic()):
            self.context.wake(f"host memory pressure: tasks waited {seconds * 1000:.0f} ms in the last second for memory")

    def _low(self, total: int) -> float:
        if self.settings.watch_available is not None:
            return self.settings.watch_available / 1024
        return AvailableGauge.usual_low(total) if self._wanted is None else self._wanted

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._end, select.POLLIN)
        if self._trigger is not None:
            poller.register(self._trigger, StallTrigger.events)
        rest = self.settings.watch
        while True:
            for fd, events in poller.poll(rest * 1000):
                if fd == self._end:
                    return
                self._told(poller, fd, events)
            try:
                rest = self.look()
            except Exception as error:  # noqa: BLE001  # when memory runs out, anything may fail, and the watch matters most
                self.context.log.warning("a look at the host failed: %r", error)
                rest = _MOST_REST_SECONDS

    def _told(self, poller: select.poll, fd: int, events: int) -> None:
        """The kernel's trigger has something to say."""
        if events & (select.POLLERR | select.POLLNVAL | select.POLLHUP):
            poller.unregister(fd)
            if self._trigger is not None:
                self._trigger.close()
                self._trigger = None
            self.how = f"every {format_duration(self.settings.watch)}; the kernel has ended its trigger"
            self.context.log.warning("memory pressure is watched %s", self.how)
        elif not self._another_host and self._patience.allows(self.monotonic()):
            waited = f"{self.settings.watch_stall * 1000:.0f} ms and more within a second"
            self.context.wake(f"host memory pressure: tasks waited {waited} for memory")


def _number(pattern: re.Pattern[bytes], text: bytes) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None
