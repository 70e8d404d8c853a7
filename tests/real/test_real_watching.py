"""The figures of real guests that every table of guests shows."""

from __future__ import annotations

import pytest
from mom_run import MomRun
from real_guests import Lab, eventually

pytestmark = pytest.mark.real

KNOWN = {"balloon_cur", "balloon_max", "column.used", "mem_usable", "column.swap", "column.guarantee", "stats_age"}


def test_the_columns_of_real_guests_are_known(lab: Lab, mom: MomRun) -> None:
    guests = [lab.start(f"watched{number}") for number in range(2)]
    for guest in guests:
        guest.wait_until_up()
    plugins = {"libvirt": lab.libvirtd.settings(stats_period="1s"), "balloon": {}, "policy": {}, "http": {}}
    mom.configure(plugins, {"*": {"guarantee": "160MiB"}}, mode="observe")
    mom.start()
    eventually("all figures are known", lambda: all(row[name] is not None for row in mom.guest_rows().values() for name in KNOWN), 60)
    rows = mom.guest_rows()
    assert set(rows) == {guest.name for guest in guests}
    assert all(row["column.guarantee"] == 160 * 1024 for row in rows.values())
