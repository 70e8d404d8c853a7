"""Accounts of a running mom, written every few minutes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from mom_core import Report
from mom_plugins_record.report.accounts import Accounts, Hour
from mom_plugins_record.report.accounts_file import AccountsDamaged, AccountsError, AccountsFile, read_hosts
from mom_plugins_record.report.hours import AccountedHour, MinuteRow, Minutes
from mom_plugins_record.report.summary import total_of

WRITES_EVERY: Final = 300.0
"""Seconds between writes. A crash loses what was recorded since the last write."""

FIRST_AFTER: Final = 60.0
"""Seconds from the start to the first write: new users soon ask for a report."""

MOST_UNWRITTEN: Final = 48
"""Maximum number of hours in memory while the disk is full. Beyond that, mom drops the oldest."""

MOST_UNWRITTEN_MINUTES: Final = 10_000
"""Maximum number of rows of minutes in memory while the disk is full: 17 hours."""

DAY: Final = 86_400.0


class AccountsKeeper:
    """Accounts of a running mom. Not thread-safe."""

    def __init__(self, file: AccountsFile, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._log, self._clock = file, log, clock
        self._accounts = Accounts()
        self._minutes = Minutes()
        self._unwritten: list[Hour] = []
        self._unwritten_minutes: list[MinuteRow] = []
        self._written = clock() - WRITES_EVERY + FIRST_AFTER
        self._day = 0
        self._earlier = AccountedHour(0)
        self._opened = False
        self._file_opened = False
        self.damage = ""
        """Message about the last damage of the file; empty if there was none."""
        self.write_error = ""
        """Why the accounts are not on disk; empty if they are."""
        self.write_hint = ""

    def open(self, now: float) -> None:
        """Continue the accounts that the previous mom process wrote."""
        self._opened = True
        try:
            self._open_file()
            self._accounts = Accounts(self._file.touched(now))
            self._day = int(now // DAY)
            self._earlier = total_of(read_hosts(self._file.path, self._day * DAY, now))
        except AccountsDamaged as error:
            self._accounts, self._earlier = Accounts(), AccountedHour(0)
            try:
                self._note_damage(self._file.set_aside(error.reason))
            except AccountsError as fatal:
                self._note_write_error(fatal)
        except AccountsError as error:
            self._note_write_error(error)

    def add(self, report: Report, cpu_seconds: float | None) -> None:
        """Add a cycle, and write the accounts if a write is due. Store an error of the file in `write_error`."""
        if not self._opened:
            self.open(report.time)
        self._accounts.add(report, cpu_seconds)
        self._minutes.add(report)
        day = int(report.time // DAY)
        over = self._accounts.take()
        if day != self._day:
            self._day, self._earlier = day, AccountedHour(0)
            with suppress(AccountsError):  # after a correction of the clock, this day may have past hours
                self._earlier = total_of(read_hosts(self._file.path, day * DAY, report.time))
        total_of((host for host, _ in over if host.hour // 24 == day), self._earlier)
        self._unwritten = [*self._unwritten, *over][-MOST_UNWRITTEN:]
        if over or self._clock() - self._written >= WRITES_EVERY:
            self.write()

    def write(self) -> None:
        """Write everything new, including the present hour so far."""
        if not self._opened:
            return  # there was no cycle
        self._written = self._clock()
        current = self._accounts.current()
        self._unwritten_minutes = [*self._unwritten_minutes, *self._minutes.take()][-MOST_UNWRITTEN_MINUTES:]
        try:
            if not self._file_opened or self._file.is_away():
                self._open_file()
            self._file.write([*self._unwritten, *([current] if current else [])], self._unwritten_minutes)
        except AccountsError as error:
            self._note_write_error(error)
            return
        self._unwritten, self._unwritten_minutes = [], []
        if self.write_error:
            self._log.info("mom writes the accounts to disk again")
        self.write_error = ""

    def given_back(self) -> Mapping[str, float | None]:
        """Return the KiB given back to the host as of the last cycle, keyed by host field; None if unknown."""
        return self._accounts.given_back()

    def today(self) -> AccountedHour:
        """Return the sums since midnight, UTC."""
        current = self._accounts.current()
        return total_of([self._earlier, *([current[0]] if current else [])])

    def _open_file(self) -> None:
        self._note_damage(self._file.open())
        self._file_opened = True

    def _note_damage(self, damage: str) -> None:
        if damage:
            self.damage = damage
            self._log.warning("%s", damage)

    def _note_write_error(self, error: AccountsError) -> None:
        if not self.write_error:
            self._log.warning("%s; %s; mom keeps up to %d hours of accounts in memory", error.message, error.hint, MOST_UNWRITTEN)
        self.write_error, self.write_hint = error.message, error.hint
        self._file_opened = False  # it may be damaged or replaced: the next write opens it again
