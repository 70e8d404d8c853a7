"""Proactive reclaim at work: who has asked for it, what each guest may lose in this cycle, and taking it within a bounded time."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from mom_core import HypervisorError
from mom_plugins_cgroup.files import Files, error_of
from mom_plugins_cgroup.reclaim import Mood, Observed, next_step

_CYCLES_IN_FORCE = 2
"""An order lapses when it was not renewed in the cycle before: the plugin that gave it may be gone."""

_PIECE_KIB = 4 << 10
"""What is written at once. The kernel takes 2 ms for it on a fast swap, and 100 ms on a slow one: so long may the budget be exceeded."""

BUDGET_SECONDS = 0.5
"""For all guests in one cycle; those that it leaves out come first in the next one."""


@dataclass(slots=True)
class _Order:
    """What is in force for one guest. `left` counts cycles, `kib` is what may be taken in this cycle."""

    pace: int
    left: int = _CYCLES_IN_FORCE
    kib: int = 0
    reason: str = ""


class Reclaimer:
    """Keeps orders by guest. An order is a pace, and must be renewed each cycle; what is taken in a cycle is decided in its review.

    :param monotonic: the engine's clock, by which the law goes; the budget is of real time
    """

    def __init__(self, files: Files, monotonic: Callable[[], float]) -> None:
        self._files = files
        self._monotonic = monotonic
        self._orders: dict[str, _Order] = {}
        self._moods: dict[str, Mood] = {}
        self._taken: dict[str, int] = {}
        self._allowed: dict[str, tuple[int, str]] = {}
        self._first = 0

    def begin_cycle(self, guests: Iterable[str]) -> None:
        """These guests (ids) are left; orders that are not renewed come to their end."""
        there = set(guests)
        for kept in (self._moods, self._taken, self._allowed):
            for identity in kept.keys() - there:
                del kept[identity]
        for identity, order in list(self._orders.items()):
            order.left -= 1
            if identity not in there or order.left < 0:
                del self._orders[identity]

    def forget(self, identity: str) -> None:
        """A guest that was started anew is another one."""
        for kept in (self._orders, self._moods, self._taken, self._allowed):
            kept.pop(identity, None)

    def pace(self, identity: str) -> int:
        """The pace in force, KiB per second; 0: none."""
        order = self._orders.get(identity)
        return 0 if order is None else order.pace

    def reason(self, identity: str) -> str | None:
        """Why nothing was taken in the last step; None if something was, or nothing is to be."""
        order = self._orders.get(identity)
        return (order.reason or None) if order is not None and order.pace else None

    def taken(self, identity: str) -> int:
        """KiB that were taken so far."""
        return self._taken.get(identity, 0)

    def allow(self, identity: str, seen: Observed, pace: int, limit: float, interval: float) -> None:
        """Decide what the guest may lose in this cycle."""
        step = next_step(seen, self._moods.get(identity, Mood()), pace, limit, self._monotonic(), interval)
        self._moods[identity] = step.mood
        self._allowed[identity] = step.kib, step.reason

    def order(self, identity: str, pace: int) -> None:
        """Put a pace in force, or renew it; 0 ends it."""
        kib, reason = self._allowed.pop(identity, (0, "nothing was allowed in this cycle"))
        if pace:
            self._orders[identity] = _Order(pace, kib=kib, reason=reason)
        else:
            self._orders.pop(identity, None)

    def take(self, folders: Mapping[str, str]) -> dict[str, HypervisorError]:
        """Take what may be taken from these guests (folders of their groups by id), until the time is over. Errors by guest.

        The guests take turns by pieces, so that a slow swap device costs all of them a little rather than one of them everything.
        """
        errors: dict[str, HypervisorError] = {}
        until = time.monotonic() + BUDGET_SECONDS
        due = [identity for identity in folders if (order := self._orders.get(identity)) is not None and order.kib > 0]
        if due:
            self._first %= len(due)
            due = due[self._first :] + due[: self._first]
        while due:
            again = []
            for identity in due:
                if time.monotonic() >= until:
                    return errors
                self._first += 1
                error = self._take_piece(identity, self._orders[identity], folders[identity])
                if error is not None:
                    errors[identity] = error
                elif self._orders[identity].kib > 0:
                    again.append(identity)
            due = again
        return errors

    def _take_piece(self, identity: str, order: _Order, folder: str) -> HypervisorError | None:
        """Take one piece from a guest, and see what really went: the kernel may take less, and twice as much."""
        allowed = order.kib
        piece = min(allowed, _PIECE_KIB)
        path, text = f"{folder}/memory.reclaim", str(piece << 10)
        before = self._held_kib(folder)
        refused = None
        try:
            self._files.write(path, text)
        except OSError as error:
            order.kib = 0
            if error.errno not in {errno.EAGAIN, errno.EINTR}:  # these say that it took some, and there was no more to be had
                refused = error_of(error, path, text)
            order.reason = "the kernel found less than that to take" if refused is None else str(refused)
        went = max(0, before - self._held_kib(folder))
        order.kib = max(0, order.kib - max(piece, went))
        self._taken[identity] = self._taken.get(identity, 0) + went
        mood = self._moods.get(identity)
        if went > allowed and mood is not None and mood.stepped is not None:  # paid back by waiting for so much longer
            self._moods[identity] = replace(mood, stepped=mood.stepped + (went - allowed) / order.pace)
        return refused

    def _held_kib(self, folder: str) -> int:
        word = (self._files.read(f"{folder}/memory.current") or b"").strip()
        return int(word) >> 10 if word.isdigit() else 0
