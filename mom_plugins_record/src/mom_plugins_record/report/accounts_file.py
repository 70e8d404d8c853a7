"""The file of accounts: SQLite, which any tool opens. One row for each hour of the host and of each guest in it; and the host by
minutes.

Written every few minutes, each time in one transaction. What is damaged is set aside and said, and keeps no mom from starting; what cannot
be written is kept in memory for a while, and tried again.
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
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import TypeAdapter

from mom_core import MomError, is_there, printable
from mom_kvm import PointsAsked, RecordedPoint
from mom_plugins_record.recording.cycles import checked
from mom_plugins_record.report.accounts import HOUR, GuestHour, HostHour, Touched, with_guests
from mom_plugins_record.report.minutes import MINUTE, MinuteRow

NAME: Final = "accounts.sqlite3"
"""In the folder of the recording."""

FORMAT: Final = 2
"""The version of the tables, as SQLite's `user_version`."""

APPLICATION: Final = 0x4D4F4D52
"""SQLite's `application_id`: MOMR. What it says to `file`, and to a mom that is given another program's file."""

WAITS_SECONDS: Final = 2.0
"""For a lock that a reader holds; then it is tried again at the next time."""

CHECKED_WHOLE: Final = 128 << 20
"""Bytes of a file that is looked through at the start, or when it seems to be damaged, which takes 10 ms for each MiB. What is damaged in
a larger one is found, and said, when it is read or written."""

HOST_KEPT: Final = 400 * 86_400.0
"""Seconds for which the host's rows are kept: growth is seen over months, and a year of them is 3 MiB."""

MOST_SET_ASIDE: Final = 3
"""Damaged files that are kept, as each may be as large as the file may become; beyond that, each takes the place of the last one."""

ANEW: Final = "move it away, and mom begins the accounts anew"

_LONGEST_VALUE: Final = 4 << 20
"""Bytes of a text, and of a row, that are read: a guest's properties, as the largest platform describes them, take a hundredth."""

_LARGEST: Final = (1 << 63) - 1
"""The largest number that SQLite takes."""

_COLUMNS: Final[Mapping[type, Mapping[str, str]]] = {
    kind: {one.name: {"int": "INTEGER", "float": "REAL"}.get(str(one.type), "TEXT") for one in fields(kind) if one.name != "properties"}
    for kind in (HostHour, GuestHour)
}
"""The columns of each table, with SQLite's types."""

_MINUTES: Final = """CREATE TABLE minutes (
    minute INTEGER NOT NULL, series TEXT NOT NULL, least REAL NOT NULL, mean REAL NOT NULL, most REAL NOT NULL, PRIMARY KEY (minute, series)
) WITHOUT ROWID"""
"""What the host's history is drawn of: with ten figures in each minute, half a MiB a day."""

_PROPERTIES: Final = """CREATE TABLE guest_properties (
    checksum INTEGER NOT NULL, id TEXT NOT NULL, hour INTEGER NOT NULL, last INTEGER NOT NULL, properties TEXT NOT NULL,
    PRIMARY KEY (id, hour)
) WITHOUT ROWID"""
"""What a guest's platform says of it from an hour on, as JSON, and the last hour in which that was seen."""

_ADD_PROPERTIES: Final = "INSERT OR REPLACE INTO guest_properties VALUES (?, ?, ?, ?, ?)"

_TEXTS: Final = TypeAdapter(Annotated[dict[str, Any], checked((str, list), str)])

_ADD_MINUTE: Final = """INSERT INTO minutes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
    SET least = min(least, excluded.least), mean = excluded.mean, most = max(most, excluded.most)"""

_WRONG: Final = (sqlite3.Error, UnicodeDecodeError)
"""Errors of reading where the file is damaged: SQLite's own messages may hold bytes of it that are no text."""

_SOUND: Final = (sqlite3.OperationalError, OSError, OverflowError)
"""Errors that say nothing of what is in the file, such as those of a lock, or of a full disk."""

_JOURNAL: Final = bytes.fromhex("d9d505f920a163d7")
"""How a journal begins, and how one ends that names another file."""

Row = TypeVar("Row", HostHour, GuestHour)
Hour = tuple[HostHour, Sequence[GuestHour]]


class AccountsError(MomError):
    """File cannot be read or written."""


class AccountsDamaged(AccountsError):
    """File holds something that mom has not written."""

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        super().__init__(f"{path} is damaged: {what}", hint=f"{ANEW}; or name a copy of it")


class AccountsFile:
    """File as mom writes it. Not for several threads at once.

    :param run: tells this mom's rows from those of the mom before it within one hour
    """

    def __init__(self, path: Path, *, keep: float, largest: int, run: int | None = None) -> None:
        self.path = path
        self._keep, self._largest = keep, largest
        self._run = time.time_ns() if run is None else run
        self._last = 0
        """The hour that was written last."""
        self._told: dict[str, tuple[int, str]] = {}
        """What stands in the file of guests' properties by this mom: since which hour, and what."""
        self._looked_through = False
        """Whether its pages were found sound, and no error has said otherwise since."""

    def open(self) -> str:
        """Make the file, or look whether it can be used. What was wrong with it, when it had to be set aside; empty: nothing.

        Raises `AccountsError` when there can be none, or it is sound and cannot be used: another mom's, or on a disk with errors.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            if not is_there(self.path):
                self._make()
                return ""
        except (OSError, sqlite3.Error) as error:
            raise AccountsError(f"{self.path} cannot be written: {_reason(error)}", hint="free space, or repair the disk") from error
        try:
            try:
                self._look()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                _read_through(self.path)  # SQLite takes what the disk does not give for damage, too
                self._look()
            return ""
        except (OSError, sqlite3.OperationalError) as error:
            if "locked" in str(error):
                return ""
            raise AccountsError(f"{self.path} cannot be used: {_reason(error)}", hint="free space, or repair the disk") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return self.set_aside(_reason(error))

    def _look(self) -> None:
        """Raise `sqlite3.DatabaseError` and such for what mom has not written."""
        _check_header(self.path)
        with closing(_connected(self.path, write=True)) as connection:
            if not self._looked_through:
                _check_pages(self.path, connection)
                self._looked_through = True

    def is_away(self) -> bool:
        """Return True if the file was moved away, or deleted."""
        with suppress(OSError):  # which is said when the file is written
            return not is_there(self.path)
        return False

    def set_aside(self, why: str) -> str:
        """Begin anew. What was wrong with the file, for a person. Raises `AccountsError` when there can be none."""
        names = [self.path.with_name(f"{self.path.name}.damaged-{number}") for number in range(1, MOST_SET_ASIDE + 1)]
        try:
            aside = next((name for name in names if not name.exists()), names[-1])
            self.path.replace(aside)
            self._make()
        except (OSError, sqlite3.Error) as worse:
            raise AccountsError(f"{self.path} cannot be written: {_reason(worse)}", hint="free space, or repair the disk") from worse
        return f"{self.path} was damaged ({printable(why, 100)}) and is now {aside.name}: the accounts begin anew"

    def touched(self, now: float) -> dict[str, Touched]:
        """Return the most that guests have held, as far as the last two days tell. Raises `AccountsError`."""
        result: dict[str, Touched] = {}
        for row in read_guests(self.path, now - 48 * HOUR, float("inf")):
            before = result.get(row.id)
            most = before.kib if before is not None and before.incarnation == row.incarnation else 0.0
            result[row.id] = Touched(row.incarnation, max(most, row.touched_kib))
        return result

    def write(self, hours: Iterable[Hour], minutes: Iterable[MinuteRow] = ()) -> None:
        """Put these hours in the place of what is there of them, add to minutes what is new, and delete what is older than is kept. Raises
        `AccountsError`.

        By age, an hour goes at each time: a clock that is ahead for a while does not cost all."""
        told, run, last, there = dict(self._told), self._run, self._last, set[str]()
        try:
            with closing(_connected(self.path, write=True)) as connection, connection:
                newest = 0
                for host, guests in hours:
                    newest = max(newest, host.hour)
                    if host.hour < last:  # the clock stepped back: what follows takes no other rows' place
                        run, told = run + 1, {}
                    last = host.hour
                    _put(connection, "host_hours", run, [with_guests(host, guests)])
                    _put(connection, "guest_hours", run, guests)
                    connection.executemany(_ADD_PROPERTIES, _new_properties(guests, told))
                    there.update(guest.id for guest in guests)
                connection.executemany(_ADD_MINUTE, minutes)
                oldest = newest - int(self._keep // HOUR)
                _delete(connection, "minutes", "minute", newest * 60 - int(self._keep // MINUTE), 60)
                _delete(connection, "guest_hours", "hour", oldest)
                _delete(connection, "guest_properties", "last", oldest)
                _delete(connection, "host_hours", "hour", newest - int(HOST_KEPT // HOUR))
                self._bound(connection, newest)
        except (*_WRONG, OSError, OverflowError) as error:
            if not isinstance(error, _SOUND):
                self._looked_through = False
            hint = "end the program that reads it" if "locked" in str(error) else "free space, or repair the disk"
            raise AccountsError(f"{self.path} cannot be written: {_reason(error)}", hint=hint) from error
        self._told = {identity: said for identity, said in told.items() if identity in there}  # guests may come and go for ever
        self._run, self._last = run, last

    def _bound(self, connection: sqlite3.Connection, newest: int) -> None:
        """Delete the oldest day when the file is as large as it may become, but not this hour; SQLite uses the room again.

        Minutes go with guests: they alone can fill a small file. The host's hours go where nothing else is left."""
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        pages, free = connection.execute("PRAGMA page_count").fetchone()[0], connection.execute("PRAGMA freelist_count").fetchone()[0]
        if (pages - free) * page_size <= self._largest:
            return
        query = "SELECT min(hour) FROM (SELECT min(hour) AS hour FROM guest_hours UNION ALL SELECT min(minute) / 60 FROM minutes)"
        first = connection.execute(query).fetchone()[0]
        if first is None or first >= newest:
            connection.execute("DELETE FROM host_hours WHERE hour < min((SELECT min(hour) FROM host_hours) + 24, ?)", (newest,))
            return
        ends = min(first + 24, newest)
        connection.execute("DELETE FROM guest_hours WHERE hour < ?", (ends,))
        connection.execute("DELETE FROM guest_properties WHERE last < ?", (ends,))
        connection.execute("DELETE FROM minutes WHERE minute < ?", (ends * 60,))

    def _make(self) -> None:
        self._told = {}
        made = self.path.with_name(f"{self.path.name}.new")  # on a full disk, half a file would be taken for a damaged one
        for old in (f"{self.path.name}-journal", made.name, f"{made.name}-journal"):  # of a file that was here before
            self.path.with_name(old).unlink(missing_ok=True)
        made.touch(mode=0o640)
        try:
            self._make_tables(made)
            made.rename(self.path)
        except (OSError, sqlite3.Error):
            made.unlink(missing_ok=True)
            raise

    @staticmethod
    def _make_tables(path: Path) -> None:
        with closing(_connected(path, write=True, checked=False)) as connection, connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(_MINUTES)
            connection.execute(_PROPERTIES)
            for table, kind, key in (("host_hours", HostHour, "hour, run"), ("guest_hours", GuestHour, "hour, run, id")):
                columns = ["checksum INTEGER", "run INTEGER", *(f"{name} {column}" for name, column in _COLUMNS[kind].items())]
                connection.execute(f"CREATE TABLE {table} ({' NOT NULL, '.join(columns)} NOT NULL, PRIMARY KEY ({key})) WITHOUT ROWID")


def read_hosts(path: Path, since: float, until: float) -> list[HostHour]:
    """Return the host's hours of that time (seconds since the epoch), oldest first. Raises `AccountsError`."""
    return list(_read(path, "host_hours", HostHour, since, until))


def check(path: Path) -> None:
    """Look for pages that are damaged, with which rows may be lost. Raises `AccountsError`."""
    try:
        with closing(_connected(path)) as connection:
            _check_pages(path, connection)
    except sqlite3.OperationalError as error:  # a lock, or a file that is another user's: it says nothing of what is in it
        raise _unreadable(path, error, "try again, or run as root or the user that recorded it") from error
    except _WRONG as error:
        try:
            _read_through(path)
        except OSError as unread:
            raise _unreadable(path, unread, "repair the disk") from error
        raise AccountsDamaged(path, _reason(error)) from error


def _check_header(path: Path) -> None:
    """SQLite says of a header with these numbers damaged that the file is not to be written, or of a later format, and not that it is
    damaged: bytes 18, 19 and 44 to 47 in https://www.sqlite.org/fileformat.html. Raises `sqlite3.DatabaseError`, and `OSError`."""
    with path.open("rb") as file:
        header = file.read(48)
    if not header:
        raise sqlite3.DatabaseError("it is empty")
    if max(header[18:20], default=0) > 2 or int.from_bytes(header[44:]) > 4:
        raise sqlite3.DatabaseError("its header makes no sense")


def _read_through(path: Path) -> None:
    """Raise `OSError` where the disk does not give all of a file."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _check_pages(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size > CHECKED_WHOLE:
        return
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(str(found))


def read_guests(path: Path, since: float, until: float, *, properties: bool = False) -> Iterator[GuestHour]:
    """Return the guests' hours, oldest first, one at a time: there may be a million. Raises `AccountsError`.

    :param properties: with what their platforms said of them then
    """
    return _read(path, "guest_hours", GuestHour, since, until, properties=properties)


def read_minutes(path: Path, asked: PointsAsked) -> Sequence[RecordedPoint]:
    """Return the host in that time, in parts of as many whole minutes as it takes. Raises `AccountsError`."""
    first, last = int(asked.since // MINUTE), int(asked.until // MINUTE)
    width = max(1, -(-(last - first + 1) // asked.most))
    query = """SELECT (minute - :first) / :width AS part, json_group_object(series, least), json_group_object(series, mean),
        json_group_object(series, most) FROM (SELECT minute, series, min(least) AS least, avg(mean) AS mean, max(most) AS most FROM minutes
        WHERE minute BETWEEN :first AND :last GROUP BY (minute - :first) / :width, series) GROUP BY part ORDER BY part"""
    try:
        with closing(_connected(path)) as connection:
            rows = connection.execute(query, {"first": first, "last": last, "width": width}).fetchall()
        return [
            RecordedPoint((first + (part + 0.5) * width) * MINUTE, width * MINUTE, *map(json.loads, figures)) for part, *figures in rows
        ]
    except (*_WRONG, ValueError) as error:
        raise _unreadable(path, error, "what is older than a few minutes is not shown") from error


def _read(path: Path, table: str, kind: type[Row], since: float, until: float, *, properties: bool = False) -> Iterator[Row]:
    names = _COLUMNS[kind]
    first, last = (int(min(max(moment, 0.0), 1e15) // HOUR) for moment in (since, until))
    spreads = [n for n, name in enumerate(names) if name.endswith("_spread")]
    try:
        with closing(_connected(path)) as connection:
            said = _properties(path, connection, first) if properties else {}
            query = f"SELECT checksum, run, {', '.join(names)} FROM {table} WHERE hour BETWEEN ? AND ? ORDER BY hour, run"  # noqa: S608  # of our own names
            for checksum, *stored in connection.execute(query, (first, last)):
                if checksum != _checksum(table, stored):
                    raise AccountsDamaged(path, f"a checksum in {table} is wrong")
                row: list[Any] = stored[1:]
                for n in spreads:
                    row[n] = {int(number): seconds for number, seconds in json.loads(row[n]).items()}
                made = kind(*row)
                if isinstance(made, GuestHour) and made.id in said:
                    then = (texts for since, until, texts in said[made.id] if since <= made.hour <= until)
                    made.properties = next(then, made.properties)
                yield made
    except (*_WRONG, ValueError) as error:
        raise _unreadable(path, error, "name the folder of a recording, or its accounts") from error


_Properties = Mapping[str, str | list[str]]


def _properties(path: Path, connection: sqlite3.Connection, first: int) -> Mapping[str, Sequence[tuple[int, int, _Properties]]]:
    """What platforms said of each guest from that hour on, by id: from which hour to which, the newest first. Raises `AccountsError`, and
    `ValueError` for what mom has not written."""
    result: dict[str, list[tuple[int, int, _Properties]]] = {}
    read = lru_cache(maxsize=4096)(_TEXTS.validate_json)  # guests of one project and flavor share them
    for checksum, *row in connection.execute("SELECT checksum, id, hour, last, properties FROM guest_properties ORDER BY id, hour DESC"):
        if checksum != _checksum("guest_properties", row):
            raise AccountsDamaged(path, "a checksum in guest_properties is wrong")
        identity, hour, last, text = row
        if last >= first:
            result.setdefault(identity, []).append((hour, last, read(text)))
    return result


def _new_properties(guests: Sequence[GuestHour], told: dict[str, tuple[int, str]]) -> Iterator[Sequence[object]]:
    """Rows of what is said of these guests, where it is new, or was not seen in this hour yet; `told` is what stands there, and follows."""
    for row in guests:
        since, before = told.get(row.id, (row.hour, "{}"))
        text = json.dumps(row.properties, separators=(",", ":"), sort_keys=True)
        if text != before:
            since = row.hour
        elif row.id not in told:
            continue  # nothing is said of it
        told[row.id] = since, text
        stored = [_stored(row.id, "TEXT"), since, row.hour, text]
        yield _checksum("guest_properties", stored), *stored


def _put(connection: sqlite3.Connection, table: str, run: int, rows: Sequence[HostHour] | Sequence[GuestHour]) -> None:
    if not rows:
        return
    names = _COLUMNS[type(rows[0])]
    marks = ", ".join("?" * (len(names) + 2))
    query = f"INSERT OR REPLACE INTO {table} (checksum, run, {', '.join(names)}) VALUES ({marks})"  # noqa: S608  # of our own names
    stored = [[run, *(_stored(getattr(row, name), column) for name, column in names.items())] for row in rows]
    connection.executemany(query, [(_checksum(table, row), *row) for row in stored])


def _delete(connection: sqlite3.Connection, table: str, column: str, oldest: int, most: int = 1) -> None:
    """Delete rows from before `oldest`, of the first `most` hours or minutes that there are."""
    query = f"DELETE FROM {table} WHERE {column} < ? AND {column} < (SELECT min({column}) FROM {table}) + ?"  # noqa: S608  # of our own names
    connection.execute(query, (oldest, most))


def _checksum(table: str, row: Sequence[object]) -> int:
    """CRC-32 of a row as SQLite gives it back: it looks after its pages, and not after what stands in them."""
    return zlib.crc32(repr((table, *row)).encode("utf-8", "surrogatepass"))


def _stored(value: object, kind: str) -> object:
    if isinstance(value, dict):
        return json.dumps({str(number): round(seconds, 3) for number, seconds in value.items()}, separators=(",", ":"))
    if isinstance(value, int | float) and kind == "REAL":
        return round(float(value), 3) + 0.0 if math.isfinite(value) else 0.0  # SQLite has no -0.0
    if isinstance(value, int):
        return min(value, _LARGEST)  # one guest's count must not keep the others' hours from being written
    return value.encode("utf-8", "replace").decode()[:1000] if isinstance(value, str) else value


def _connected(path: Path, *, write: bool = False, checked: bool = True) -> sqlite3.Connection:
    """Open the file. Whatever another program's file asks SQLite to run is not run. Raises `AccountsError` and `sqlite3.Error`."""
    # For a reader, too: only who may write can take back what a mom that was killed had half written. SQLite reads what it may not write.
    _check_beside(path)
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAITS_SECONDS)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if not write:
            connection.execute("PRAGMA query_only = ON")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        if checked:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application != APPLICATION:
                hint = ANEW if write else "name the folder of a recording, or its accounts.sqlite3"
                raise AccountsError(f"{path} is no file of accounts", hint=hint)
            if version != FORMAT:
                hint = ANEW if write else "use the mom that has written it"
                raise AccountsError(f"{path} has the format {version}; this mom reads {FORMAT}", hint=hint)
    except BaseException:
        with suppress(sqlite3.Error):
            connection.close()
        raise
    return connection


def _check_beside(path: Path) -> None:
    """Raise `AccountsError` for a file that SQLite would wait for, such as a pipe; and for a journal that names another file, as mom's
    never does: SQLite deletes that one (section 4.1 of https://www.sqlite.org/fileformat.html)."""
    journal = path.with_name(f"{path.name}-journal")
    for item in (path, journal):
        with suppress(OSError):  # it is not there, or SQLite says why it cannot be read
            if not stat.S_ISREG(item.stat().st_mode):
                raise AccountsError(f"{item} is no file", hint="name the folder of a recording, or its accounts.sqlite3")
    with suppress(OSError), journal.open("rb") as file:
        if file.seek(0, os.SEEK_END) >= len(_JOURNAL) and file.seek(-len(_JOURNAL), os.SEEK_END) and file.read() == _JOURNAL:
            raise AccountsError(f"{journal} is not mom's: it names another file", hint="look who has put it there, and delete it")


def _unreadable(path: Path, error: Exception, hint: str) -> AccountsError:
    return AccountsError(f"{path} cannot be read: {_reason(error)}", hint=hint)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
