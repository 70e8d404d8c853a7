"""Writes log records in a thread of its own: a thread that logs never waits for a disk, a pipe or a journal."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from mom_daemon.logs.formats import EXTRA, extra_of, text_of
from mom_daemon.logs.repeats import Again, Repeats

WAITING: Final = 2000
"""Records that wait to be written: with a disk that hangs, ten minutes of a busy mom. What comes besides is counted and lost."""

SWEEP_SECONDS: Final = 15.0
"""How often it is looked for repetitions whose window is over."""


CLOSE_SECONDS: Final = 0.5
"""Lines that wait at the end are written for so long: a stop has two seconds for everything."""


class Writer(logging.Handler):
    """Hands records on to `sink`.

    :param cycle: the number of the cycle that runs
    """

    def __init__(self, sink: logging.Handler, cycle: Callable[[], int] = lambda: 0) -> None:
        super().__init__()
        self.sink = sink
        self.cycle = cycle
        self.lost = 0
        self._repeats = Repeats()
        # Not a bounded Queue: this one may be used in a signal handler that has interrupted its own `put`.
        self._queue: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended: threading.Thread | None = None
        self._pid = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record in; returns at once."""
        if self._pid != os.getpid():  # the first one, or the first after a fork: threads do not come along
            self._pid = os.getpid()
            self._queue = SimpleQueue()
            self._thread = threading.Thread(target=self._write, args=(self._queue,), name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the system gives no more of them now: this line is written here, and the next one tries again
                self._pid, self._thread = 0, None
                self._hand_on(record)
                return
        if self._queue.qsize() >= WAITING:
            self.lost += 1
            return
        text = text_of(record)  # now: what the arguments say later may be another thing
        taken = copy.copy(record)
        taken.msg, taken.args, taken.exc_info, taken.exc_text = text, None, None, None
        cycle = self.cycle()
        if cycle:
            setattr(taken, EXTRA, {"cycle": cycle, **extra_of(record)})
        if self._repeats.takes(taken, text, time.monotonic()):
            self._queue.put(taken)

    @property
    def stuck(self) -> bool:
        """True if the thread did not end with `close`: whatever it writes to does not take it."""
        return self._ended is not None and self._ended.is_alive()

    def tell_repeats(self) -> None:
        """Say now what was said again and held back: what comes after this was logged later."""
        for again in self._over(all_of_them=True):
            self._queue.put(_said_again(again))

    def close(self) -> None:
        """Write what waits, for `CLOSE_SECONDS` at the most, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            self._ended = thread
            self.tell_repeats()
            self._queue.put(None)
            thread.join(CLOSE_SECONDS)
            self._pid = 0
        super().close()

    def _write(self, queue: SimpleQueue[logging.LogRecord | None]) -> None:
        told = 0
        while True:
            try:
                record = queue.get(timeout=SWEEP_SECONDS)
            except Empty:
                pass
            else:
                if record is None:
                    return
                if not self._hand_on(record):
                    self.lost += 1
            lost = self.lost - told
            if lost and self._hand_on(_made(f"lost {lost} of the log's lines, which could not be written in time")):
                told += lost  # a disk that is still full has not taken that either: it is said again, with all of them
            for again in self._over():
                if not self._hand_on(_said_again(again)):
                    self.lost += 1

    def _over(self, *, all_of_them: bool = False) -> list[Again]:
        """Repetitions to be said now. Under the lock that `emit` is called with, as who logs counts in there."""
        with self.lock or threading.Lock():
            return self._repeats.over(time.monotonic(), all_of_them=all_of_them)

    def _hand_on(self, record: logging.LogRecord) -> bool:
        """True if the sink has taken it."""
        try:
            self.sink.handle(record)
        except Exception:  # noqa: BLE001  # a full disk, a journal that is gone: mom goes on, and what was lost is counted
            return False
        return True


def _said_again(again: Again) -> logging.LogRecord:
    record = copy.copy(again.record)
    record.created = time.time()
    first, *others = str(record.msg).splitlines() or [""]
    # Of a traceback, its last line: all of it was said when it was said first.
    record.msg = f"{first} {others[-1].strip()} {again.words}" if others else f"{first} {again.words}"
    setattr(record, EXTRA, {**extra_of(record), "repeated": again.times})
    return record


def _made(text: str) -> logging.LogRecord:
    return logging.LogRecord("mom", logging.WARNING, __file__, 0, text, None, None)
