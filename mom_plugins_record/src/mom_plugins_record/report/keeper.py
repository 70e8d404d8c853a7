"""Keeps the accounts while mom runs: takes in each cycle, and writes every few minutes. A disk that is full stops nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from mom_core import Report
from mom_plugins_record.report.accounts import Accounts, GivenBack, GuestHour
from mom_plugins_record.report.accounts_file import AccountsDamaged, AccountsError, AccountsFile, Hour, read_guests, read_hosts

WRITES_EVERY: Final = 300.0
"""Seconds: as much is unknown after a crash. 1,000 guests take 40 ms each time."""

FIRST_AFTER: Final = 60.0
"""Seconds after the start at which they are written first: a newcomer asks for a report soon."""

MOST_UNWRITTEN: Final = 48
"""Hours that are held in memory while the disk is full; beyond that the oldest are lost, and unknown."""

TODAY_EVERY: Final = 60.0
"""Seconds between two sums of today's: it takes half a millisecond with 1,000 guests."""

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Today:
    """Since midnight, UTC: the average of what was given back in KiB, seconds that guests waited because of mom, seconds for which promises
    were broken, programs killed. None: unknown."""

    given_back: float | None = None
    waited_for_mom: float | None = None
    promise_broken: float | None = None
    killed: int | None = None


@dataclass(slots=True)
class _DaySums:
    """Of the hours of a day: seconds, KiB times seconds, counts."""

    seconds: float = 0.0
    given: float = 0.0
    waited: float = 0.0
    waiting_known: float = 0.0
    broken: float = 0.0
    killed: int = 0
    killed_known: float = 0.0

    def add(self, hour: Hour) -> None:
        """Take in an hour."""
        host, guests = hour
        self.seconds += host.seconds
        self.given += host.ksm_kib_seconds
        for row in guests:
            self.given += row.by_balloon_kib_seconds + row.by_sweeps_kib_seconds + row.by_cold_kib_seconds
            self.waited += row.waited_for_mom_seconds
            self.waiting_known += row.waiting_known_seconds
            self.broken += row.promise_broken_seconds
            self.killed += row.killed
            self.killed_known += row.killed_known_seconds

    def told(self) -> Today:
        """For a person."""
        if not self.seconds:
            return Today()
        return Today(
            self.given / self.seconds,
            self.waited if self.waiting_known else None,
            self.broken,
            self.killed if self.killed_known else None,
        )


class AccountsKeeper:
    """The accounts of a mom that runs. Not for several threads at once."""

    def __init__(self, file: AccountsFile, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._file, self._log, self._clock = file, log, clock
        self._accounts = Accounts()
        self._unwritten: list[Hour] = []
        self._written = clock() - WRITES_EVERY + FIRST_AFTER
        self._day = 0
        self._earlier = _DaySums()
        self._today = Today()
        self._summed: float | None = None
        self._opened = False
        self.damage = ""
        """What was wrong with the file at the start; empty: nothing."""
        self.write_error = ""
        """Why the accounts are not on disk; empty: they are."""

    def open(self, now: float) -> None:
        """Go on with what the mom before has kept. The first cycle does so, if this was not called before.

        :param now: seconds since the epoch
        """
        self._opened = True
        try:
            self.damage = self._file.open()
            self._accounts = Accounts(self._file.touched(now))
            midnight = now // DAY * DAY
            self._day = int(now // DAY)
            guests: dict[int, list[GuestHour]] = {}
            for row in read_guests(self._file.path, midnight, now):
                guests.setdefault(row.hour, []).append(row)
            for host in read_hosts(self._file.path, midnight, now):
                self._earlier.add((host, guests.pop(host.hour, [])))
        except AccountsDamaged as error:
            self._accounts, self._earlier = Accounts(), _DaySums()
            try:
                self.damage = self._file.set_aside(error.what)
            except AccountsError as worse:
                self._not_written(worse)
        except AccountsError as error:
            self._not_written(error)
        if self.damage:
            self._log.warning("%s", self.damage)

    def add(self, report: Report, cpu_seconds: float | None) -> None:
        """Take in a cycle, and write when it is time to. Raises nothing for the sake of the file."""
        if not self._opened:
            self.open(report.time)
        self._accounts.add(report, cpu_seconds)
        day = int(report.time // DAY)
        over = self._accounts.take()
        if day != self._day:
            self._day, self._earlier = day, _DaySums()
        for hour in over:
            if hour[0].hour // 24 == day:
                self._earlier.add(hour)
        self._unwritten = [*self._unwritten, *over][-MOST_UNWRITTEN:]
        if over or self._clock() - self._written >= WRITES_EVERY:
            self.write()

    def write(self) -> None:
        """Write what is not written yet, and this hour as it is."""
        if not self._opened:
            return  # there was no cycle
        self._written = self._clock()
        current = self._accounts.current()
        try:
            self._file.write([*self._unwritten, *([current] if current else [])])
        except AccountsError as error:
            self._not_written(error)
            return
        self._unwritten = []
        if self.write_error:
            self._log.info("the accounts are on disk again")
        self.write_error = ""

    def given_back(self) -> GivenBack | None:
        """As of the last cycle; None before the first."""
        return self._accounts.given_back()

    def today(self) -> Today:
        """The sums since midnight, a minute old at the most."""
        now = self._clock()
        if self._summed is not None and now - self._summed < TODAY_EVERY and self._today.given_back is not None:
            return self._today
        self._summed = now
        sums = replace(self._earlier)
        current = self._accounts.current()
        if current is not None:
            sums.add(current)
        self._today = sums.told()
        return self._today

    def _not_written(self, error: AccountsError) -> None:
        if not self.write_error:
            self._log.warning("%s; %s: they are kept in memory for up to %d hours", error.message, error.hint, MOST_UNWRITTEN)
        self.write_error = error.message
