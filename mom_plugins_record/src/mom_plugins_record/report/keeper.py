"""Keeps the accounts while mom runs: takes in each cycle, and writes every few minutes. A disk that is full stops nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mom_core import Report
from mom_plugins_record.report.accounts import Accounts, GivenBack, HostHour, with_guests
from mom_plugins_record.report.accounts_file import AccountsDamaged, AccountsError, AccountsFile, Hour, read_hosts
from mom_plugins_record.report.minutes import MinuteRow, Minutes
from mom_plugins_record.report.summary import total_of

WRITES_EVERY: Final = 300.0
"""Seconds: as much is unknown after a crash. 1,000 guests take 40 ms each time."""

FIRST_AFTER: Final = 60.0
"""Seconds after the start at which they are written first: a newcomer asks for a report soon."""

MOST_UNWRITTEN: Final = 48
"""Hours that are held in memory while the disk is full; beyond that the oldest are lost, and unknown."""

MOST_UNWRITTEN_MINUTES: Final = 10_000
"""Figures of minutes, the same: of a day or so."""

DAY: Final = 86_400.0


class AccountsKeeper:
    """Accounts of a mom that runs. Not for several threads at once."""

    def __init__(self, file: AccountsFile, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._log, self._clock = file, log, clock
        self._accounts = Accounts()
        self._minutes = Minutes()
        self._unwritten: list[Hour] = []
        self._unwritten_minutes: list[MinuteRow] = []
        self._written = clock() - WRITES_EVERY + FIRST_AFTER
        self._day = 0
        self._earlier: list[HostHour] = []
        """The hours of this day that are over."""
        self._opened = False
        self._file_opened = False
        self.damage = ""
        """The last damage of the file that was found; empty: none was."""
        self.write_error = ""
        """Why the accounts are not on disk; empty: they are."""
        self.write_hint = ""
        """What to do about that."""

    def open(self, now: float) -> None:
        """Go on with what the mom before has kept. The first cycle does so, if this was not called before.

        :param now: seconds since the epoch
        """
        self._opened = True
        try:
            self._open_file()
            self._accounts = Accounts(self._file.touched(now))
            midnight = now // DAY * DAY
            self._day = int(now // DAY)
            self._earlier = read_hosts(self._file.path, midnight, now)
        except AccountsDamaged as error:
            self._accounts, self._earlier = Accounts(), []
            try:
                self._damaged(self._file.set_aside(error.what))
            except AccountsError as worse:
                self._not_written(worse)
        except AccountsError as error:
            self._not_written(error)

    def add(self, report: Report, cpu_seconds: float | None) -> None:
        """Take in a cycle, and write when it is time to. Raises nothing for the sake of the file."""
        if not self._opened:
            self.open(report.time)
        self._accounts.add(report, cpu_seconds)
        self._minutes.add(report)
        day = int(report.time // DAY)
        over = self._accounts.take()
        if day != self._day:
            self._day, self._earlier = day, []
            with suppress(AccountsError):  # a clock that was wrong for a while comes back to a day of which some hours are over
                self._earlier = read_hosts(self._file.path, day * DAY, report.time)
        self._earlier += [with_guests(*hour) for hour in over if hour[0].hour // 24 == day]
        self._unwritten = [*self._unwritten, *over][-MOST_UNWRITTEN:]
        if over or self._clock() - self._written >= WRITES_EVERY:
            self.write()

    def write(self) -> None:
        """Write what is not written yet, and this hour as it is."""
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
            self._not_written(error)
            return
        self._unwritten, self._unwritten_minutes = [], []
        if self.write_error:
            self._log.info("the accounts are on disk again")
        self.write_error = ""

    def given_back(self) -> GivenBack | None:
        """As of the last cycle; None before the first."""
        return self._accounts.given_back()

    def today(self) -> HostHour:
        """Return the sums since midnight, UTC. They take half a millisecond with 1,000 guests."""
        current = self._accounts.current()
        return total_of([*self._earlier, *([with_guests(*current)] if current else [])])

    def _open_file(self) -> None:
        self._damaged(self._file.open())
        self._file_opened = True

    def _damaged(self, damage: str) -> None:
        if damage:
            self.damage = damage
            self._log.warning("%s", damage)

    def _not_written(self, error: AccountsError) -> None:
        if not self.write_error:
            self._log.warning("%s; %s; until then they are kept in memory, for up to %d hours", error.message, error.hint, MOST_UNWRITTEN)
        self.write_error, self.write_hint = error.message, error.hint
        self._file_opened = False  # it may be damaged, or another one: it is opened anew before it is written again
