"""`mom fleet report`: what hosts tell of their accounts is joined, and a host that tells nothing is named."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_world import FleetWorld, need_a_server

from mom_plugins_record.report.accounts import GuestHour, HostHour
from mom_plugins_record.report.accounts_file import NAME, AccountsFile

GIB = float(1 << 20)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetWorld]:
    need_a_server()
    world = FleetWorld(tmp_path)
    yield world
    world.close()


def with_accounts(folder: Path) -> None:
    """As if a mom had run here for an hour, an hour ago."""
    hour = int(time.time() // 3600) - 1
    file = AccountsFile(folder / "state" / "recording" / NAME, keep=40 * 86_400.0, largest=1 << 30)
    file.open()
    host = HostHour(hour, "h1", hour * 3600.0, (hour + 1) * 3600.0, 3600.0, total_kib=16 * GIB)
    guest = GuestHour(hour, "g", "g", seconds=3600.0, sold_kib_seconds=4 * GIB * 3600, by_sweeps_kib_seconds=2 * GIB * 3600)
    file.write([(host, [guest])])


def test_hosts_with_accounts_are_summed_up_and_all_others_are_named(fleet: FleetWorld) -> None:
    for name in ("h1", "h2", "h3"):
        fleet.enroll(name)
    with_accounts(fleet.folder / "h1")
    fleet.start_host("h1", 1, record=True)
    fleet.start_host("h2", 2)
    fleet.until(lambda: all(fleet.host(name)["guests"] is not None for name in ("h1", "h2")), "both are heard", 240)
    fleet.until(lambda: json.loads(fleet.fleet("report", "--json"))["hosts"], "the accounts are told")
    found = json.loads(fleet.fleet("report", "--json"))
    assert [one["host"] for one in found["hosts"]] == ["h1"]
    assert found["hosts"][0]["sold_gib_hours"] == pytest.approx(4, rel=0.02)
    assert found["whole"]["by_sweeps_gib_hours"] == pytest.approx(2, rel=0.02)
    assert (found["whole"]["hosts"], found["whole"]["of_hosts"]) == (1, 3)
    assert found["worth"]["money"]["EUR"] == pytest.approx(2 / 730 * 3.5, rel=0.02)
    assert "plugin record" in found["without_accounts"]["h2"]
    assert found["without_accounts"]["h3"] == "it tells nothing"
    text = fleet.fleet("report")
    assert "given back on 1 of 3 hosts" in text
    assert "h3: it tells nothing; it is in no sum" in text
