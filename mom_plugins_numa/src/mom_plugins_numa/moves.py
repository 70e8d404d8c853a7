"""Moves guests' memory to a node: one guest at a time, in small steps at a bounded rate, never into memory that the host keeps back."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mom_core import format_kib
from mom_plugins_numa.pages import PageMover
from mom_plugins_numa.process import Area, Process

STEP_KIB = 4 << 10
"""What is moved in one step. A thousand pages take about 4 ms, for which a vCPU that touches one of them may have to wait."""

_LOOK_PAGES = 4096
"""For how many pages at a time the kernel is asked where they are: 16 MiB of addresses, in less than a millisecond."""

_REST = 3.0
"""How long the thread rests after each question, as a multiple of what it took: looking takes a quarter of one CPU at most."""

_JOIN_SECONDS = 0.3
"""How long the end waits for a step that has begun: it takes a few milliseconds."""


class Stage(StrEnum):
    """How far a move is."""

    WAITING = "waiting"  #: another guest is being moved
    MOVING = "moving"
    DONE = "done"  #: everything was looked at once, and what could be moved was moved
    STOPPED = "stopped"  #: it could not go on


@dataclass(slots=True)
class PageMove:
    """A guest that is to be moved. `left_kib` is what is still to be looked at; `kept_pages` could not be moved."""

    pid: int
    started: int
    node: int
    stage: Stage = Stage.WAITING
    moved_kib: int = 0
    left_kib: int = 0
    kept_pages: int = 0
    reason: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)


class PacedMover:
    """Moves what it is told to; its thread runs while there is something to move.

    :param rate: KiB/s
    :param room: gives what a node can still take, in KiB, beside what the host keeps back; None: unknown
    """

    def __init__(self, root: Path, pages: PageMover, rate: float, room: Callable[[int], int | None]) -> None:
        self._proc = root / "proc"
        self._pages = pages
        self._rate = rate
        self._room = room
        self._changed = threading.Condition()
        self._moves: dict[str, PageMove] = {}
        self._thread: threading.Thread | None = None
        self._ended = False

    def moves(self) -> dict[str, PageMove]:
        """All moves that were asked for and not taken back, by guest id."""
        with self._changed:
            return dict(self._moves)

    def begin(self, guest: str, pid: int, node: int) -> str:
        """Move this guest's memory to that node, when its turn comes. Why not; empty when it will."""
        started = Process(self._proc / str(pid)).started()
        if started is None:
            return "its process is not there"
        with self._changed:
            before = self._moves.pop(guest, None)
            if before is not None:
                before.cancelled.set()
            self._moves[guest] = PageMove(pid, started, node)
            self._changed.notify()
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._run, name="mom-numa-mover", daemon=True)
                self._thread.start()
        return ""

    def cancel(self, guest: str) -> None:
        """Move it no further; what was moved stays."""
        with self._changed:
            move = self._moves.pop(guest, None)
            if move is not None:
                move.cancelled.set()
                self._changed.notify()

    def keep(self, guests: dict[str, int]) -> None:
        """These guests are there, with their process ids: moves of others end."""
        for guest in [guest for guest, move in self.moves().items() if guests.get(guest) != move.pid]:
            self.cancel(guest)

    def end(self) -> None:
        """Move nothing any more."""
        with self._changed:
            self._ended = True
            for move in self._moves.values():
                move.cancelled.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while (move := self._next()) is not None:
            move.stage = Stage.MOVING
            try:
                self._perform(move)
            except OSError as error:
                gone = error.errno in {errno.ESRCH, errno.ENOENT}
                self._stop(move, "the guest has ended" if gone else f"the kernel refused: {error.strerror}")
            if move.stage is Stage.MOVING:
                move.stage = Stage.DONE

    def _next(self) -> PageMove | None:
        with self._changed:
            while not self._ended:
                waiting = next((move for move in self._moves.values() if move.stage is Stage.WAITING), None)
                if waiting is not None:
                    return waiting
                self._changed.wait()
        return None

    @staticmethod
    def _stop(move: PageMove, reason: str) -> None:
        move.stage, move.reason = Stage.STOPPED, reason

    def _perform(self, move: PageMove) -> None:
        process = Process(self._proc / str(move.pid))
        ends = process.ends()
        areas = [area for area in process.areas() if area.elsewhere_kib(move.node) and area.start in ends]
        areas.sort(key=lambda area: -area.elsewhere_kib(move.node))  # the guest's own memory is the largest of them
        move.left_kib = sum(ends[area.start] - area.start for area in areas) >> 10
        for area in areas:
            for batch in _batches(area, ends[area.start]):
                if move.cancelled.is_set():
                    return
                if process.started() != move.started:
                    self._stop(move, "the guest has ended")
                    return
                began = time.monotonic()
                where = self._pages.where(move.pid, batch)
                took = time.monotonic() - began
                wrong = [address for address, node in zip(batch, where, strict=True) if node >= 0 and node != move.node]
                if not self._move(move, area, wrong):
                    return
                move.left_kib = max(0, move.left_kib - len(batch) * area.page_kib)
                move.cancelled.wait(_REST * took)

    def _move(self, move: PageMove, area: Area, addresses: list[int]) -> bool:
        """Move these pages, step by step; whether to go on."""
        step = max(1, STEP_KIB // area.page_kib)
        for first in range(0, len(addresses), step):
            began = time.monotonic()
            part = addresses[first : first + step]
            size = len(part) * area.page_kib
            room = self._room(move.node)
            if room is None or room < size:
                have = "an unknown amount of memory" if room is None else f"room for {format_kib(max(0, room))}"
                self._stop(move, f"node {move.node} has {have} besides what the host keeps back")
                return False
            after = self._pages.move(move.pid, part, move.node)
            there = sum(1 for node in after if node == move.node)
            move.moved_kib += there * area.page_kib
            move.kept_pages += sum(1 for node in after if node not in {move.node, -errno.ENOENT})
            if -errno.ENOMEM in after:
                self._stop(move, f"node {move.node} is full")
                return False
            if move.cancelled.wait(max(0.0, size / self._rate - (time.monotonic() - began))):
                return False
        return True


def _batches(area: Area, end: int) -> Iterator[list[int]]:
    page = area.page_kib << 10
    for first in range(area.start, end, page * _LOOK_PAGES):
        yield list(range(first, min(end, first + page * _LOOK_PAGES), page))
