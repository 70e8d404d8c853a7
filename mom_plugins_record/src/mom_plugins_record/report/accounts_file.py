"""SQLite file of the accounts: a row for each hour of the host and of each guest, and the host's figures for each minute.

mom writes the file every few minutes in one transaction, and renames a damaged file.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import TypeAdapter

from mom_core import MomError, is_there, printable
from mom_kvm import RecordedPoint
from mom_plugins_record.recording.cycles import checked
from mom_plugins_record.report.accounts import Hour
from mom_plugins_record.report.hours import HOUR, MINUTE, OF_GUESTS, AccountedHour, GuestHour, MinuteRow, new_sums

NAME: Final = "accounts.sqlite3"

FORMAT: Final = 5
"""Version of the tables: SQLite's `user_version`."""

APPLICATION: Final = 0x4D4F4D52
"""SQLite's `application_id`: MOMR."""

WAITS_SECONDS: Final = 2.0
"""Longest wait for a reader's lock, in seconds. After that, mom tries again at the next write."""

CHECKED_WHOLE: Final = 128 << 20
"""Bytes of the largest file whose pages mom checks at the start (10 ms per MiB)."""

LARGEST: Final = 512 << 20
"""Maximum size of the file in bytes: 40 days of 1,000 guests."""

HOST_KEPT: Final = 400 * 86_400.0
"""Seconds for which mom keeps the host's rows."""

START_ANEW: Final = "move the file away; mom then starts new accounts"

_FREE_SPACE: Final = "free space, or repair the disk"

_LONGEST_VALUE: Final = 4 << 20
"""Longest text or row that a reader accepts, in bytes: 100 times the largest need."""

_KNOWN: Final = ("kib_seconds", "known_seconds")


class _Columns(NamedTuple):
    # Columns of a table: the record's own fields, and items of its mappings.
    key: str
    own: Sequence[str]
    sums: Sequence[str]
    most: Sequence[str]
    latest: Sequence[str]
    spreads: Sequence[str]

    @property
    def types(self) -> Mapping[str, str]:
        numbers = dict.fromkeys((*self.sums, *self.most, *self.latest), "REAL")
        return {**dict.fromkeys(self.own, "TEXT"), **numbers, **dict.fromkeys(self.spreads, "TEXT"), "hour": "INTEGER"}

    def values(self, row: AccountedHour) -> Iterator[object]:
        yield from (getattr(row, name) for name in self.own)
        for names, part in ((self.sums, row.sums), (self.most, row.most), (self.latest, row.latest)):
            yield from (float(part.get(name, 0.0)) for name in names)
        yield from (row.spreads.get(name, {}) for name in self.spreads)

    def read(self, kind: type[Row], stored: Iterable[Any]) -> Row:
        values = iter(stored)
        own = dict(zip(self.own, values, strict=False))
        if "properties" in own:
            own["properties"] = _read_properties(own["properties"])
        sums, most, latest = (new_sums(zip(names, values, strict=False)) for names in (self.sums, self.most, self.latest))
        row = kind(**own, sums=sums, most=most, latest=latest)
        for name, text in zip(self.spreads, values, strict=False):
            row.spreads[name].update((int(number), seconds) for number, seconds in json.loads(text).items())
        return row


_TABLES: Final[Mapping[str, _Columns]] = {
    "host_hours": _Columns(
        "hour, run",
        ("hour", "name"),
        (
            "seconds", "unknown_seconds", "cycles", "evictions", *(f"{name}_{part}" for name in ("used", "ksm") for part in _KNOWN),
            *(f"{name}_{part}" for name in ("stalled", "ksmd_cpu", "mom_cpu") for part in ("seconds", "known_seconds")),
            *(f"below_{part}_seconds" for part in ("wanted", "hard", "low", "known")), *(f"guests_{name}" for name in OF_GUESTS),
        ),
        ("used_most_kib", "guests_most", "promised_most_kib", "sold_most_kib"),
        ("began", "ended", "total_kib", "wanted_kib", "promisable_kib"),
        ("used_spread",),
    ),
    "guest_hours": _Columns(
        "hour, run, id",
        ("hour", "name", "id", "service_class", "incarnation", "properties"),
        ("seconds", "unknown_seconds", *OF_GUESTS, *(f"{name}_{part}" for name in ("used", "worked_on", "ksm") for part in _KNOWN)),
        ("used_most_kib", "worked_on_most_kib"),
        ("sold_kib", "touched_kib"),
        ("held_spread", "used_spread", "worked_on_spread"),
    ),
}  # fmt: skip

_CREATE_MINUTES: Final = """CREATE TABLE minutes (
    minute INTEGER NOT NULL, series TEXT NOT NULL, least REAL NOT NULL, mean REAL NOT NULL, most REAL NOT NULL, PRIMARY KEY (minute, series)
) WITHOUT ROWID"""

_ADD_MINUTE: Final = """INSERT INTO minutes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET least = min(least, excluded.least), mean = excluded.mean, most = max(most, excluded.most)"""

_PROPERTIES: Final = TypeAdapter(Annotated[dict[str, Any], checked((str, list), str)])

_read_properties: Final = lru_cache(maxsize=4096)(_PROPERTIES.validate_json)

_SQL_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""Errors from a damaged file. SQLite's messages may contain bytes of the file that are not text."""

_JOURNAL: Final = bytes.fromhex("d9d505f920a163d7")
"""First bytes of any SQLite journal. A journal that names another file also ends with these bytes."""

Row = TypeVar("Row", bound=AccountedHour)


class AccountsError(MomError):
    """Error: the file cannot be read or written."""


class AccountsDamaged(AccountsError):
    """Error: the file has content that mom has not written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{path} is damaged: {reason}", hint=f"{START_ANEW}; or give the path of a copy")


class AccountsFile:
    """File of accounts, written by the running mom. Not thread-safe.

    :param keep: seconds for which guests' rows are kept
    :param run: number that distinguishes rows of this mom process from earlier rows
    """

    def __init__(self, path: Path, *, keep: float, run: int | None = None) -> None:
        self.path = path
        self._keep = keep
        self._run = time.time_ns() if run is None else run
        self._last = 0

    def open(self) -> str:
        """Create or check the file, and return an empty string. Rename a damaged file, create a new one, and return a message.

        Raise `AccountsError` if no file can be used."""
        try:
            if not self.is_away():
                return self._check_existing()
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._create()
            return ""
        except (OSError, sqlite3.Error) as error:
            raise AccountsError(f"{self.path} cannot be written: {_reason(error)}", hint=_FREE_SPACE) from error

    def _check_existing(self) -> str:
        try:
            self._check()
            return ""
        except (OSError, sqlite3.OperationalError) as error:
            if "locked" in str(error):
                return ""
            raise AccountsError(f"{self.path} cannot be used: {_reason(error)}", hint=_FREE_SPACE) from error
        except _SQL_ERRORS as error:
            return self.set_aside(_reason(error))

    def _check(self) -> None:
        if not self.path.stat().st_size:
            raise sqlite3.DatabaseError("it is empty")
        with closing(_connect(self.path, write=True)) as connection:
            _check_pages(self.path, connection)

    def is_away(self) -> bool:
        """Return whether the file is missing; False if unknown."""
        with suppress(OSError):  # the write reports the error
            return not is_there(self.path)
        return False

    def set_aside(self, reason: str) -> str:
        """Rename the damaged file, replacing an earlier one; create a new file, and return a message. Raise `AccountsError` on failure."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            self.path.replace(aside)
            self._create()
        except (OSError, sqlite3.Error) as error:
            raise AccountsError(f"{self.path} cannot be written: {_reason(error)}", hint=_FREE_SPACE) from error
        return f"{self.path} was damaged ({printable(reason, 100)}) and was renamed to {aside.name}: mom starts new accounts"

    def touched(self, now: float) -> dict[str, GuestHour]:
        """Return each guest's last hour in the past two days, keyed by guest id. Its `touched_kib` is the maximum since the guest's start.

        Raise `AccountsError` if the file is unreadable.
        """
        result: dict[str, GuestHour] = {}
        for row in read_guests(self.path, now - 48 * HOUR, math.inf):
            before = result.get(row.id)
            if before is not None and before.incarnation == row.incarnation:
                row.latest["touched_kib"] = max(row.latest["touched_kib"], before.latest["touched_kib"])
            result[row.id] = row
        return result

    def write(self, hours: Iterable[Hour], minutes: Iterable[MinuteRow] = ()) -> None:
        """Replace rows of these hours, add minutes, and delete old rows. Raise `AccountsError` on failure.

        Each write deletes at most one hour for its age: with a wrong clock, mom must not delete everything.
        """
        run, last = self._run, self._last
        try:
            with closing(_connect(self.path, write=True)) as connection, connection:
                newest = 0
                for host, guests in hours:
                    newest = max(newest, host.hour)
                    if host.hour < last:  # the clock was set back: new rows must not replace old ones
                        run += 1
                    last = host.hour
                    _put(connection, "host_hours", run, [host])
                    _put(connection, "guest_hours", run, guests)
                connection.executemany(_ADD_MINUTE, minutes)
                oldest = newest - int(self._keep // HOUR)
                _delete(connection, "minutes", "minute", newest * 60 - int(self._keep // MINUTE), 60)
                _delete(connection, "guest_hours", "hour", oldest)
                _delete(connection, "host_hours", "hour", newest - int(HOST_KEPT // HOUR))
                self._bound(connection, newest)
        except (*_SQL_ERRORS, OSError, OverflowError) as error:
            hint = "stop the program that reads the file" if "locked" in str(error) else _FREE_SPACE
            raise AccountsError(f"{self.path} cannot be written: {_reason(error)}", hint=hint) from error
        self._run, self._last = run, last

    def _bound(self, connection: sqlite3.Connection, newest: int) -> None:
        # Delete minutes and guests' hours first, and the host's hours last.
        page_size, pages, free = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
        )
        if (pages - free) * page_size <= LARGEST:
            return
        query = "SELECT min(hour) FROM (SELECT min(hour) AS hour FROM guest_hours UNION ALL SELECT min(minute) / 60 FROM minutes)"
        first = connection.execute(query).fetchone()[0]
        if first is None or first >= newest:
            connection.execute("DELETE FROM host_hours WHERE hour < min((SELECT min(hour) FROM host_hours) + 24, ?)", (newest,))
            return
        end = min(first + 24, newest)
        connection.execute("DELETE FROM guest_hours WHERE hour < ?", (end,))
        connection.execute("DELETE FROM minutes WHERE minute < ?", (end * 60,))

    def _create(self) -> None:
        new = self.path.with_name(f"{self.path.name}.new")  # on a full disk, half a file would look damaged
        for old in (f"{self.path.name}-journal", new.name, f"{new.name}-journal"):  # left by an earlier file
            self.path.with_name(old).unlink(missing_ok=True)
        new.touch(mode=0o640)
        try:
            with closing(_connect(new, write=True, checked=False)) as connection, connection:
                for name, value in (("application_id", APPLICATION), ("user_version", FORMAT)):
                    connection.execute(f"PRAGMA {name} = {value}")
                connection.execute(_CREATE_MINUTES)
                for table, columns in _TABLES.items():
                    made = ["checksum INTEGER", "run INTEGER", *(f"{name} {sql}" for name, sql in columns.types.items())]
                    keyed = f"{' NOT NULL, '.join(made)} NOT NULL, PRIMARY KEY ({columns.key})"
                    connection.execute(f"CREATE TABLE {table} ({keyed}) WITHOUT ROWID")
            new.rename(self.path)
        except (OSError, sqlite3.Error):
            new.unlink(missing_ok=True)
            raise


def read_hosts(path: Path, since: float, until: float) -> list[AccountedHour]:
    """Return the host's hours, oldest first. Raise `AccountsError` if the file is unreadable.

    :param since: seconds since the epoch
    """
    return list(_read(path, "host_hours", AccountedHour, since, until))


def read_guests(path: Path, since: float, until: float) -> Iterator[GuestHour]:
    """Yield the guests' hours, oldest first. Raise `AccountsError` if the file is unreadable."""
    return _read(path, "guest_hours", GuestHour, since, until)


def read_minutes(path: Path, since: float, until: float, most: int) -> Sequence[RecordedPoint]:
    """Return up to `most` points of the host, each for equally many minutes. Raise `AccountsError` if the file is unreadable."""
    first, last = int(since // MINUTE), int(until // MINUTE)
    width = max(1, -(-(last - first + 1) // most))
    query = """SELECT (minute - :first) / :width AS part, json_group_object(series, least), json_group_object(series, mean),
        json_group_object(series, most) FROM (SELECT minute, series, min(least) AS least, avg(mean) AS mean, max(most) AS most FROM minutes
        WHERE minute BETWEEN :first AND :last GROUP BY (minute - :first) / :width, series) GROUP BY part ORDER BY part"""
    try:
        with closing(_connect(path)) as connection:
            rows = connection.execute(query, {"first": first, "last": last, "width": width}).fetchall()
        return [
            RecordedPoint((first + (part + 0.5) * width) * MINUTE, width * MINUTE, *map(json.loads, figures)) for part, *figures in rows
        ]
    except (*_SQL_ERRORS, ValueError) as error:
        raise _unreadable(path, error, "points older than a few minutes are not shown") from error


def check(path: Path) -> None:
    """Raise `AccountsError` if the file is unreadable, or has damaged pages, which may have lost rows."""
    try:
        with closing(_connect(path)) as connection:
            _check_pages(path, connection)
    except sqlite3.OperationalError as error:  # a lock, or no permission
        raise _unreadable(path, error, "try again, or run as root or the user that recorded it") from error
    except _SQL_ERRORS as error:
        raise AccountsDamaged(path, _reason(error)) from error


def _check_pages(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size <= CHECKED_WHOLE:
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(str(result))


def _read(path: Path, table: str, kind: type[Row], since: float, until: float) -> Iterator[Row]:
    first, last = (int(min(max(moment, 0.0), 1e15) // HOUR) for moment in (since, until))
    columns = _TABLES[table]
    try:
        with closing(_connect(path)) as connection:
            query = f"SELECT checksum, run, {', '.join(columns.types)} FROM {table} WHERE hour BETWEEN ? AND ? ORDER BY hour, run"  # noqa: S608  # names of mom's own records
            for checksum, *stored in connection.execute(query, (first, last)):
                if checksum != _checksum(table, stored):
                    raise AccountsDamaged(path, f"a checksum in {table} is wrong")
                yield columns.read(kind, stored[1:])
    except (*_SQL_ERRORS, ValueError) as error:
        raise _unreadable(path, error, "give the path of a recording's folder, or of its file of accounts") from error


def _put(connection: sqlite3.Connection, table: str, run: int, rows: Iterable[AccountedHour]) -> None:
    columns = _TABLES[table]
    marks = ", ".join("?" * (len(columns.types) + 2))
    query = f"INSERT OR REPLACE INTO {table} (checksum, run, {', '.join(columns.types)}) VALUES ({marks})"  # noqa: S608  # names of this module only
    stored = [[run, *map(_sql_value, columns.values(row))] for row in rows]
    connection.executemany(query, [(_checksum(table, row), *row) for row in stored])


def _delete(connection: sqlite3.Connection, table: str, column: str, oldest: int, most: int = 1) -> None:
    # Delete only the first `most` hours or minutes.
    query = f"DELETE FROM {table} WHERE {column} < ? AND {column} < (SELECT min({column}) FROM {table}) + ?"  # noqa: S608  # names of this module only
    connection.execute(query, (oldest, most))


def _checksum(table: str, row: Sequence[object]) -> int:
    # SQLite checks its pages, but not their content.
    return zlib.crc32(repr((table, *row)).encode("utf-8", "surrogatepass"))


def _sql_value(value: object) -> object:
    if isinstance(value, Mapping):
        items = {str(name): round(item, 3) if isinstance(item, float) else item for name, item in value.items()}
        return json.dumps(items, separators=(",", ":"))
    if isinstance(value, float):
        return round(value, 3) + 0.0 if math.isfinite(value) else 0.0  # SQLite has no -0.0
    return value.encode("utf-8", "replace").decode()[:1000] if isinstance(value, str) else value


def _connect(path: Path, *, write: bool = False, checked: bool = True) -> sqlite3.Connection:
    # SQL that is stored in the file must not run.
    # Readers also open the file for writing: only a writer can roll back a killed mom's transaction. Without permission, SQLite only reads.
    _check_files(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAITS_SECONDS)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if not write:
            connection.execute("PRAGMA query_only = ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        if checked:
            application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
            if application != APPLICATION:
                hint = START_ANEW if write else f"give the path of a recording's folder, or of its file {NAME}"
                raise AccountsError(f"{path} is not a file of accounts", hint=hint)
            if version != FORMAT:
                hint = START_ANEW if write else "use the version of mom that wrote it"
                raise AccountsError(f"{path} has the format {version}; this mom reads {FORMAT}", hint=hint)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    return connection


def _check_files(path: Path) -> None:
    # A pipe would block SQLite. If a journal names another file, SQLite would delete that file (section 4.1 of
    # https://www.sqlite.org/fileformat.html).
    journal = path.with_name(f"{path.name}-journal")
    for item in (path, journal):
        with suppress(OSError):  # a missing file, or SQLite reports the error
            if not stat.S_ISREG(item.stat().st_mode):
                raise AccountsError(f"{item} is not a regular file", hint=f"give the path of a recording's folder, or of its file {NAME}")
    with suppress(OSError), journal.open("rb") as file:
        if file.seek(0, os.SEEK_END) >= len(_JOURNAL) and file.seek(-len(_JOURNAL), os.SEEK_END) and file.read() == _JOURNAL:
            raise AccountsError(
                f"mom did not write {journal}: it contains the name of another file", hint="find out who put it there, and delete it"
            )


def _unreadable(path: Path, error: Exception, hint: str) -> AccountsError:
    return AccountsError(f"{path} cannot be read: {_reason(error)}", hint=hint)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
