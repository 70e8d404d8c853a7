"""Where a report has its figures from: the accounts that mom keeps, or a recording, from which they are made anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import MomError
from mom_plugins_record.recording.reader import Recording, nothing_in, rarely_collected
from mom_plugins_record.recording.times import shown
from mom_plugins_record.report.accounts import HOUR, Accounts, GuestHour, HostHour, with_guests
from mom_plugins_record.report.accounts_file import NAME, check, is_accounts, read_guests, read_hosts


@dataclass(frozen=True, slots=True)
class Found:
    """Hours of accounts, oldest first, the time that they are of (seconds since the epoch), and what is to be said of them."""

    hosts: Sequence[HostHour]
    guests: Iterable[GuestHour]
    since: float
    until: float
    remarks: Sequence[str]


def find_accounts(path: Path, last: float) -> Found:
    """The last so many seconds of what is at this path: the folder of a recording, a file of it, or a file of accounts.

    Raises `MomError` when there is nothing.
    """
    accounts = path / NAME if path.is_dir() else path
    if not is_accounts(accounts):
        return _of_recording(path, last)
    remarks = []
    if (accounts.with_name(f"{accounts.name}.damaged-1")).exists():
        remarks.append(f"accounts of earlier were damaged: they are in {accounts.name}.damaged-1")
    check(accounts)
    hosts = read_hosts(accounts, 0.0, float("inf"))
    if not hosts:
        raise MomError(f"there is nothing in {accounts} yet", hint="mom writes it a minute after its start")
    until = max(row.ended for row in hosts)
    since = (until - last) // HOUR * HOUR  # an hour has one row
    begins = min(row.began for row in hosts)
    if begins > since:
        remarks.append(f"the accounts begin {shown(begins)[:16]} UTC")
        since = begins
    return Found([row for row in hosts if row.hour >= int(since // HOUR)], read_guests(accounts, since, until), since, until, remarks)


@rarely_collected()
def _of_recording(path: Path, last: float) -> Found:
    """Accounts of a recording that has none, as one of a mom that kept none: all of its cycles are read, which takes its time."""
    recording = Recording(path)
    accounts = Accounts()
    for recorded in recording.cycles():
        accounts.add(recorded.report)
    current = accounts.current()
    if current is None:
        raise nothing_in(recording)
    hours = [*accounts.take(), current]
    ends = current[0].ended
    since = max(hours[0][0].began, (ends - last) // HOUR * HOUR)
    hours = [hour for hour in hours if hour[0].hour >= int(since // HOUR)]
    remarks = ["made from the recording's cycles: mom's CPU is unknown"]
    if recording.damage:
        remarks.append(recording.damage.summary())
    return Found([with_guests(*hour) for hour in hours], [row for _, rows in hours for row in rows], since, ends, remarks)
