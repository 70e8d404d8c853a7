"""A host with ten thousand guests in a fleet with a real server, a real coordinator and real agents; only the cycles are the test's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_world import FleetWorld, need_a_server

from mom_core import Decision, Guest, InForce, Outcome, PluginContext, Report, Status
from mom_core.testing import snapshot
from mom_devkit import FakePromises
from mom_plugins_fleet import FleetPlugin
from mom_toolkit import GuestMoves, MoveProgress, Mover, Promises

GIB = 1 << 20
MANY = 10_000
PROMISED = "mem_promised"


class MovesAtOnce:
    control = "guest_migrate"

    def mover(self) -> Mover | None:
        return None

    def why_stays(self, _guest: Guest) -> str:
        return ""

    def progress(self, _guest: Guest) -> MoveProgress | None:
        return MoveProgress(moving=False)


class Host:
    """A plugin in its fleet, and its cycles. A guest that it decides to move is on the other host in the next one."""

    def __init__(self, fleet: FleetWorld, name: str, guests: Mapping[str, Guest]) -> None:
        where = {"servers": [fleet.url], "host": name, "key": fleet.folder / f"{name}.key", "publish": "1s", "operators": [fleet.operator]}
        settings = FleetPlugin.Settings.model_validate(where)
        moves: GuestMoves = MovesAtOnce()  # the checker says what this class lacks
        in_force = InForce(services={Promises: (FakePromises(PROMISED),), GuestMoves: (moves,)})
        self.plugin = FleetPlugin(settings, PluginContext(name="fleet", state_directory=fleet.folder / name, in_force=in_force))
        self.guests = dict(guests)
        self.number = 0
        self.plugin.mom_setup()

    def cycle(self, other: Host) -> None:
        self.number += 1
        taken = snapshot(host={"mem_available": 1 << 40, "mem_really_available": 1 << 39})
        seen = replace(taken, number=self.number, guests=dict(self.guests))
        decisions = [item for item in self.plugin.mom_act(seen) if isinstance(item, Decision)]
        outcomes = [Outcome(one, None, one.value, Status.APPLIED) for one in decisions]
        self.plugin.mom_report(Report(self.number, 0.0, "enforce", seen, decisions, (), outcomes, (), (), 0.0))
        for one in decisions:
            other.guests[one.entity.id] = self.guests.pop(one.entity.id)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetWorld]:
    need_a_server()
    world = FleetWorld(tmp_path)
    yield world
    world.close()


def test_a_host_with_ten_thousand_guests_is_seen_and_drained_the_largest_first(fleet: FleetWorld) -> None:
    for name in ("h1", "h2"):
        fleet.enroll(name)
    guests = snapshot(guests={f"vm{number}": {"balloon_max": GIB + number, PROMISED: GIB} for number in range(MANY)}).guests
    full, empty = Host(fleet, "h1", guests), Host(fleet, "h2", {})
    try:
        fleet.start_coordinator("c1")
        fleet.fleet("drain", "h1")
        ends = time.monotonic() + 240
        while len(empty.guests) < 6 and time.monotonic() < ends:
            full.cycle(empty)
            empty.cycle(full)
            time.sleep(0.2)
        largest = sorted(guests.values(), key=lambda one: -one.fields["balloon_max"])  # type: ignore[operator]  # numbers
        assert {one.name for one in empty.guests.values()} <= {one.name for one in largest[:8]}
        assert len(empty.guests) >= 6, fleet.log("c1")[-2000:]

        def all_are_told() -> bool:
            full.cycle(empty)
            empty.cycle(full)
            found = {row["host"]: row["guests"] for row in fleet.status()["hosts"]}
            return found == {"h1": len(full.guests), "h2": len(empty.guests)}

        fleet.until(all_are_told, "every guest is counted where it is", 120)
        assert "cannot be told" not in fleet.log("c1")
        assert "does not run there" not in fleet.log("c1")
    finally:
        for one in (full, empty):
            one.plugin.mom_teardown()
