"""Destination, format and level of a running mom's log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Final

from mom_core import Config
from mom_core.plugins.secrets import SecretMask
from mom_daemon.logs.formats import JsonFormatter, TextFormatter
from mom_daemon.logs.writer import Writer

LOG: Final = logging.getLogger("mom")


class StandardError(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the type of standard error
    """Handler for standard error that raises write errors."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name that logging calls
        """Raise the present error again."""
        raise  # noqa: PLE0704  # called from within the handler's `except`


class Log:
    """Handler of all logging in this process. `handler` replaces standard error, `level` replaces the configured level."""

    def __init__(self, handler: logging.Handler | None = None, level: str | None = None) -> None:
        self.hide = SecretMask()
        self._given = handler
        self._level = level
        self._used: Config | None = None
        self._toggled = False
        self._level_before = LOG.level
        self._writer = Writer(self._sink("text"))
        logging.getLogger().addHandler(self._writer)

    def learn(self, config: Config) -> None:
        """Hide this configuration's secrets, even if mom later refuses the configuration."""
        self.hide.learn(plugin.settings for plugin in config.plugins.values())

    def use(self, config: Config) -> None:
        """Use this configuration's log settings. This undoes `toggle_debug`."""
        if config is self._used:
            return
        self._used = config
        self.learn(config)
        LOG.setLevel((self._level or config.log_level).upper())
        self._toggled = False
        self._writer.sink = self._sink(config.log_format)

    def toggle_debug(self, config: Config) -> None:
        """Switch between debug and the configured level."""
        self._toggled = not self._toggled
        LOG.setLevel(logging.DEBUG if self._toggled else (self._level or config.log_level).upper())
        LOG.warning("log level is %s now", logging.getLevelName(LOG.level).lower())

    def watch(self, cycle: Callable[[], int]) -> None:
        """Add the cycle's number to records."""
        self._writer.cycle = cycle

    def close(self) -> bool:
        """Write waiting records within half a second; return False if the writer would keep Python from exiting."""
        logging.getLogger().removeHandler(self._writer)
        LOG.setLevel(self._level_before)  # for a program that embeds mom
        self._writer.close()
        return not self._writer.stuck

    def _sink(self, form: str) -> logging.Handler:
        sink = self._given or StandardError(sys.stderr)
        text = TextFormatter(self.hide, for_journal=self._given is None and _leads_to_journal())
        sink.setFormatter(JsonFormatter(self.hide) if form == "json" else text)
        return sink


def _leads_to_journal() -> bool:
    # JOURNAL_STREAM has the device and inode of standard error (systemd.exec(5)).
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"
