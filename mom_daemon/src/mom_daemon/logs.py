"""Log of a running mom. A full disk or a flood of lines does not delay a cycle."""

from __future__ import annotations

import logging
import os
import sys
import threading
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, Final

from mom_core import Config
from mom_core.plugins.secrets import SecretMask, without_secrets
from mom_core.texts import printable_lines

LOG: Final = logging.getLogger("mom")

WAITING: Final = 2000
"""Maximum number of waiting records. Further records are lost and counted."""

CLOSE_SECONDS: Final = 0.5

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class LineFormatter(logging.Formatter):
    """Formatter for lines without secrets.

    :param for_journal: for systemd's journal, omit the time and write the level before each line (sd-daemon(3))
    """

    def __init__(self, hide: SecretMask, *, for_journal: bool) -> None:
        super().__init__()
        self._hide = hide
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. Indent further lines, so that none of them looks like a record."""
        level = f"<{next(priority for level, priority in _PRIORITIES if record.levelno >= level)}>" if self._for_journal else ""
        stamp = "" if self._for_journal else f"{self.formatTime(record)} "
        text = printable_lines(without_secrets(record.getMessage())).replace("\n", f"\n{level}    ")
        return self._hide(f"{level}{stamp}{record.levelname} {record.name}: {text}")


class Log(QueueHandler):
    """Handler of all logging in this process. Its thread writes the records, so that no other thread waits.

    :param sink: handler that writes; None for standard error
    """

    queue: SimpleQueue[Any]

    def __init__(self, sink: logging.Handler | None = None) -> None:
        super().__init__(SimpleQueue())
        self.hide = SecretMask()
        self.lost = 0
        self.sink = sink or logging.StreamHandler(sys.stderr)
        self.sink.setFormatter(LineFormatter(self.hide, for_journal=sink is None and _leads_to_journal()))
        self.sink.handleError = self._lose  # type: ignore[method-assign]  # a full disk must not stop mom
        self._used: Config | None = None
        self._level_before = LOG.level
        self._thread: threading.Thread | None = None
        logging.getLogger().addHandler(self)

    def learn(self, config: Config) -> None:
        """Hide this configuration's secrets, even if mom later refuses the configuration."""
        self.hide.learn(plugin.settings for plugin in config.plugins.values())

    def use(self, config: Config) -> None:
        """Use this configuration's log level."""
        if config is not self._used:
            self._used = config
            self.learn(config)
            LOG.setLevel(config.log_level.upper())

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record without waiting."""
        if self._thread is None or not self._thread.is_alive():  # a fork copies no threads
            # Not a bounded Queue: a signal handler may log while it interrupts `put`.
            self.queue = SimpleQueue()
            self._thread = threading.Thread(target=self._write, args=(self.queue,), name="log", daemon=True)
            self._thread.start()
        if self.queue.qsize() >= WAITING:
            self.lost += 1
        else:
            self.queue.put(record)

    def end(self) -> bool:
        """Write waiting records within half a second; return False if the thread would keep Python from exiting."""
        logging.getLogger().removeHandler(self)
        LOG.setLevel(self._level_before)  # for a program that embeds mom
        if self._thread is None:
            return True
        self.queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        return not self._thread.is_alive()

    def _lose(self, record: logging.LogRecord) -> None:
        self.lost += 1

    def _write(self, records: SimpleQueue[Any]) -> None:
        reported = 0
        while (record := records.get()) is not None:
            lost = self.lost
            self.sink.handle(record)
            if lost > reported and lost == self.lost:
                text = f"dropped {lost - reported} log lines that could not be written in time"
                self.sink.handle(logging.LogRecord("mom", logging.WARNING, __file__, 0, text, None, None))
                reported = lost


def _leads_to_journal() -> bool:
    # JOURNAL_STREAM has the device and inode of standard error (systemd.exec(5)).
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"
