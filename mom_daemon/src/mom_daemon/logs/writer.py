"""Writer thread, so that no other thread waits for the log."""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Final

from mom_daemon.logs.formats import EXTRA, extra_of, text_of

WAITING: Final = 2000
"""Maximum number of waiting records. Further records are lost and counted."""

CLOSE_SECONDS: Final = 0.5


class Writer(QueueHandler):
    """Handler that passes records to `sink`.

    :param cycle: returns the running cycle's number
    """

    def __init__(self, sink: logging.Handler, cycle: Callable[[], int] = lambda: 0) -> None:
        # Not a bounded Queue: a signal handler may log while it interrupts `put`.
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        super().__init__(self._records)
        self.sink = sink
        self.cycle = cycle
        self.lost = 0
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def stuck(self) -> bool:
        """Return whether the thread outlived `close`."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format a copy of the record now, because its arguments may change."""
        prepared = copy.copy(record)
        prepared.msg, prepared.args, prepared.exc_info, prepared.exc_text = text_of(record), None, None, None
        if cycle := self.cycle():
            setattr(prepared, EXTRA, {"cycle": cycle, **extra_of(record)})
        return prepared

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record without waiting."""
        if self._pid != os.getpid() and not self._started():
            self._take(record)
        elif self._records.qsize() >= WAITING:
            self.lost += 1
        else:
            self._records.put(record)

    def close(self) -> None:
        """Write waiting records and end the thread within `CLOSE_SECONDS`."""
        if self._thread is not None and self._pid == os.getpid():
            self._records.put(None)
            self._thread.join(CLOSE_SECONDS)
            self._pid = 0
        super().close()

    def _started(self) -> bool:
        # A fork copies no threads: start the thread again.
        self.queue = self._records = SimpleQueue()
        thread = threading.Thread(target=self._write, args=(self._records,), name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads now: the next record tries again
            return False
        self._thread, self._pid = thread, os.getpid()
        return True

    def _write(self, records: SimpleQueue[logging.LogRecord | None]) -> None:
        reported = 0
        while (record := records.get()) is not None:
            if not self._take(record):
                self.lost += 1
            elif lost := self.lost - reported:
                text = f"dropped {lost} log lines that could not be written in time"
                if self._take(logging.LogRecord("mom", logging.WARNING, __file__, 0, text, None, None)):
                    reported += lost

    def _take(self, record: logging.LogRecord) -> bool:
        try:
            self.sink.handle(record)
        except Exception:  # noqa: BLE001  # a full disk or a missing journal must not stop mom
            return False
        return True
