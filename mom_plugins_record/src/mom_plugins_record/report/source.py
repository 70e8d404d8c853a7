"""Where a report has its figures from: the accounts that mom keeps."""

from __future__ import annotations

import math
from pathlib import Path

from mom_core import MomError
from mom_plugins_record.recording.times import shown
from mom_plugins_record.report.accounts import HOUR
from mom_plugins_record.report.accounts_file import NAME, check, read_guests, read_hosts
from mom_plugins_record.report.summary import AccountedHours


def find_accounts(path: Path, last: float) -> AccountedHours:
    """The last so many seconds of what is at this path: the folder of a recording, or the file of accounts in it.

    Raises `MomError` when there is nothing.
    """
    accounts = path / NAME if path.is_dir() else path
    if not accounts.exists():
        raise MomError(
            f"there is no {accounts}", hint="name the folder of a recording, or its accounts: a mom with the plugin record keeps them"
        )
    remarks = []
    if (accounts.with_name(f"{accounts.name}.damaged-1")).exists():
        remarks.append(f"accounts of earlier were damaged: they are in {accounts.name}.damaged-1")
    check(accounts)
    hosts = read_hosts(accounts, 0.0, float("inf"))
    if not hosts:
        raise MomError(f"there is nothing in {accounts} yet", hint="mom writes it a minute after its start")
    until = max(row.ended for row in hosts)
    since = min(round((until - last) / HOUR), math.ceil(until / HOUR) - 1) * HOUR  # an hour has one row: as near as can be
    begins = min(row.began for row in hosts)
    if begins > since:
        remarks.append(f"the accounts begin {shown(begins)[:16]} UTC")
        since = begins
    return AccountedHours(
        [row for row in hosts if row.hour >= int(since // HOUR)], read_guests(accounts, since, until), since, until, remarks
    )
