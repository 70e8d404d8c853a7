"""SQLite file of the accounts: a row of JSON for each hour of the host and of each guest, and the host's figures for each minute.

mom writes the file every few minutes in one transaction, and renames a damaged file.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter

from mom_core import MomError, Report, printable
from mom_kvm import RecordedPoint
from mom_plugins_record.recording.cycles import json_text
from mom_plugins_record.report.accounts import Accounts, Hour
from mom_plugins_record.report.hours import HOUR, MINUTE, AccountedHour, GuestHour, MinuteRow, Minutes, total_of

NAME: Final = "accounts.sqlite3"

FORMAT: Final = 6
"""Version of the tables: SQLite's `user_version`."""

WAITS_SECONDS: Final = 2.0
"""Longest wait for a reader's lock, in seconds. After that, mom tries again at the next write."""

HOST_KEPT: Final = 400 * 86_400.0
"""Seconds for which mom keeps the host's rows."""

WRITES_EVERY: Final = 300.0
"""Seconds between writes. A crash loses what was recorded since the last write."""

FIRST_AFTER: Final = 60.0
"""Seconds from the start to the first write: new users soon ask for a report."""

MOST_UNWRITTEN: Final = 48
"""Maximum number of hours in memory while the disk is full. Beyond that, mom drops the oldest."""

MOST_UNWRITTEN_MINUTES: Final = 10_000
"""Maximum number of rows of minutes in memory while the disk is full: 17 hours."""

DAY: Final = 86_400.0

_CREATE: Final = f"""
    CREATE TABLE IF NOT EXISTS host_hours (hour INTEGER, run INTEGER, sums TEXT NOT NULL, PRIMARY KEY (hour, run));
    CREATE TABLE IF NOT EXISTS guest_hours (hour INTEGER, run INTEGER, id TEXT, sums TEXT NOT NULL, PRIMARY KEY (hour, run, id));
    CREATE TABLE IF NOT EXISTS minutes (
        minute INTEGER, series TEXT, least REAL, mean REAL, most REAL, PRIMARY KEY (minute, series)) WITHOUT ROWID;
    PRAGMA user_version = {FORMAT};
"""

_ADD_MINUTE: Final = """INSERT INTO minutes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET least = min(least, excluded.least), mean = excluded.mean, most = max(most, excluded.most)"""

_HOST_HOUR: Final = TypeAdapter(AccountedHour)
_GUEST_HOUR: Final = TypeAdapter(GuestHour)

Row = TypeVar("Row", bound=AccountedHour)


class AccountsError(MomError):
    """Error: the file cannot be read or written."""


class AccountsDamaged(AccountsError):
    """Error: the file has content that mom has not written."""


def read_hosts(path: Path, since: float, until: float) -> list[AccountedHour]:
    """Return the host's hours, oldest first. Raise `AccountsError` if the file is unreadable.

    :param since: seconds since the epoch
    """
    return list(_read(path, "host_hours", _HOST_HOUR, since, until))


def read_guests(path: Path, since: float, until: float) -> Iterator[GuestHour]:
    """Yield the guests' hours, oldest first. Raise `AccountsError` if the file is unreadable."""
    return _read(path, "guest_hours", _GUEST_HOUR, since, until)


def _read(path: Path, table: str, kind: TypeAdapter[Row], since: float, until: float) -> Iterator[Row]:
    hours = [int(min(max(moment, 0.0), 1e15) // HOUR) for moment in (since, until)]
    query = f"SELECT sums FROM {table} WHERE hour BETWEEN ? AND ? ORDER BY hour, run"  # noqa: S608  # names of this module only
    with _opened(path) as connection:
        for (text,) in connection.execute(query, hours):
            yield kind.validate_json(text)


def read_minutes(path: Path, since: float, until: float, most: int) -> Sequence[RecordedPoint]:
    """Return up to `most` points of the host, each for equally many minutes. Raise `AccountsError` if the file is unreadable."""
    first, last = int(since // MINUTE), int(until // MINUTE)
    width = max(1, -(-(last - first + 1) // most))
    query = """SELECT (minute - :first) / :width AS part, json_group_object(series, least), json_group_object(series, mean),
        json_group_object(series, most) FROM (SELECT minute, series, min(least) AS least, avg(mean) AS mean, max(most) AS most FROM minutes
        WHERE minute BETWEEN :first AND :last GROUP BY (minute - :first) / :width, series) GROUP BY part ORDER BY part"""
    with _opened(path) as connection:
        rows = connection.execute(query, {"first": first, "last": last, "width": width}).fetchall()
        return [
            RecordedPoint((first + (part + 0.5) * width) * MINUTE, width * MINUTE, *map(json.loads, figures)) for part, *figures in rows
        ]


def check(path: Path) -> None:
    """Raise `AccountsError` if the file is unreadable, or has damaged pages, which may have lost rows."""
    with _opened(path) as connection:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(str(result))


def write(path: Path, run: int, hours: Iterable[Hour], minutes: Iterable[MinuteRow], keep: float) -> None:
    """Replace rows of these hours, add minutes, and delete old rows. Create the file if it is missing. Raise `AccountsError` on failure.

    Each write deletes at most one hour for its age: with a wrong clock, mom must not delete everything.

    :param run: number that distinguishes rows of this mom process from earlier rows
    :param keep: seconds for which rows of guests and minutes are kept
    """
    with _opened(path, write=True) as connection:
        newest = 0
        for host, guests in hours:
            newest = max(newest, host.hour)
            connection.execute("INSERT OR REPLACE INTO host_hours VALUES (?, ?, ?)", (host.hour, run, _as_json(host)))
            rows = ((row.hour, run, row.id, _as_json(row)) for row in guests)
            connection.executemany("INSERT OR REPLACE INTO guest_hours VALUES (?, ?, ?, ?)", rows)
        connection.executemany(_ADD_MINUTE, minutes)
        for table, column, oldest, most in (
            ("minutes", "minute", newest * 60 - int(keep // MINUTE), 60),
            ("guest_hours", "hour", newest - int(keep // HOUR), 1),
            ("host_hours", "hour", newest - int(HOST_KEPT // HOUR), 1),
        ):
            query = f"DELETE FROM {table} WHERE {column} < min(?, (SELECT min({column}) FROM {table}) + ?)"  # noqa: S608  # names of this module only
            connection.execute(query, (oldest, most))


def _as_json(row: AccountedHour) -> str:
    return json_text({name: _short(getattr(row, name)) for name in row.__dataclass_fields__}).decode()


def _short(value: object) -> object:
    # Leave out zeros, and round to thousandths.
    if isinstance(value, Mapping):
        return {name: item for name, item in zip(value, map(_short, value.values()), strict=True) if item}
    return round(value, 3) if isinstance(value, float) else value


@contextmanager
def _opened(path: Path, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    # Readers cannot roll back a killed mom's transaction. A forged journal could make SQLite delete another file.
    verb, mode = ("written", "rw") if write else ("read", "ro")
    try:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            path.touch(mode=0o640)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAITS_SECONDS)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")  # SQL that is stored in the file must not run
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if write and not version:
                connection.executescript(_CREATE)
            elif version != FORMAT:
                hint = "move the file away; mom then starts new accounts" if write else "use the version of mom that wrote it"
                raise AccountsError(f"{path} has the format {version}; this mom reads {FORMAT}", hint=hint)
            with connection:
                yield connection
    except (OSError, sqlite3.OperationalError) as error:
        hint = "check the disk, the file's owner, and programs that read the file"
        raise AccountsError(f"{path} cannot be {verb}: {getattr(error, 'strerror', None) or error}", hint=hint) from error
    except (sqlite3.Error, ValueError) as error:
        hint = "move the file away; mom then starts new accounts"
        raise AccountsDamaged(f"{path} is damaged: {printable(str(error), 100)}", hint=hint) from error


class AccountsKeeper:
    """Accounts of a running mom, written every few minutes. Not thread-safe."""

    def __init__(
        self, path: Path, keep: float, log: logging.Logger, clock: Callable[[], float] = time.monotonic, run: int | None = None
    ) -> None:
        self._path, self._keep, self._log, self._clock = path, keep, log, clock
        self._run = time.time_ns() if run is None else run
        self._accounts = Accounts()
        self._minutes = Minutes()
        self._unwritten: list[Hour] = []
        self._unwritten_minutes: list[MinuteRow] = []
        self._written = clock() - WRITES_EVERY + FIRST_AFTER
        self._day: int | None = None
        self._earlier = AccountedHour(0)
        self.damage = ""
        """Message about the last damage of the file; empty if there was none."""
        self.write_error = ""
        """Why the accounts are not on disk; empty if they are."""
        self.write_hint = ""

    def open(self, now: float) -> None:
        """Continue the accounts that the previous mom process wrote."""
        self._day = int(now // DAY)
        with self._noting_errors():
            if self._path.exists():
                self._accounts = Accounts(_touched(self._path, now))
                self._earlier = total_of(read_hosts(self._path, self._day * DAY, now))

    def add(self, report: Report, cpu_seconds: float | None) -> None:
        """Add a cycle, and write the accounts if a write is due. Store an error of the file in `write_error`."""
        if self._day is None:
            self.open(report.time)
        self._accounts.add(report, cpu_seconds)
        self._minutes.add(report)
        over, day = self._accounts.take(), int(report.time // DAY)
        if day != self._day:
            self._day, self._earlier = day, AccountedHour(0)
        for host, _ in over:
            if host.hour // 24 == day:
                self._earlier.add(host)
        self._unwritten = [*self._unwritten, *over][-MOST_UNWRITTEN:]
        if over or self._clock() - self._written >= WRITES_EVERY:
            self.write()

    def write(self) -> None:
        """Write everything new, including the present hour so far."""
        current = self._accounts.current()
        if current is None:
            return  # there was no cycle
        self._written = self._clock()
        self._unwritten_minutes = [*self._unwritten_minutes, *self._minutes.take()][-MOST_UNWRITTEN_MINUTES:]
        with self._noting_errors():
            write(self._path, self._run, [*self._unwritten, current], self._unwritten_minutes, self._keep)
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

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except AccountsDamaged as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            try:
                self._path.replace(aside)
            except OSError:
                self._note_write_error(error)
                return
            self.damage = f"{error.message}; it was renamed to {aside.name}: mom starts new accounts"
            self._log.warning("%s", self.damage)
        except AccountsError as error:
            self._note_write_error(error)

    def _note_write_error(self, error: AccountsError) -> None:
        if not self.write_error:
            self._log.warning("%s; %s; mom keeps up to %d hours of accounts in memory", error.message, error.hint, MOST_UNWRITTEN)
        self.write_error, self.write_hint = error.message, error.hint


def _touched(path: Path, now: float) -> dict[str, GuestHour]:
    # Each guest's last hour in the past two days. Its `touched_kib` is the maximum since the guest's start.
    result: dict[str, GuestHour] = {}
    for row in read_guests(path, now - 48 * HOUR, math.inf):
        before = result.get(row.id)
        if before is not None and before.incarnation == row.incarnation:
            row.latest["touched_kib"] = max(row.latest["touched_kib"], before.latest["touched_kib"])
        result[row.id] = row
    return result
