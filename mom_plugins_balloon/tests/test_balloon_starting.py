"""New guests, which do not shrink for a while: how long, and which guests are new."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from guest_facts import GIB, LIMITS

import mom_core
from mom_core import Guest, Snapshot, Value
from mom_plugins_balloon.ballooned_guests import NEW, BalloonedGuests
from mom_plugins_balloon.gate import permitted
from mom_plugins_balloon.learning import Learning
from mom_plugins_balloon.names import START_REST

REST = 60.0


class Host:
    """Records of guests over several cycles.

    :param ages: uptime of guests at time 0, keyed by name. Other guests have no known process
    """

    def __init__(self, **ages: float) -> None:
        self.now = 0.0
        self.records = BalloonedGuests(REST, lambda guest: None if guest.name not in ages else ages[guest.name] + self.now)
        self.learning = Learning(900.0, 0.0)

    def rests(self, moment: float, *names: str, silent: bool = False, figures: Mapping[str, Value] | None = None) -> dict[str, object]:
        """Return how long these guests do not shrink yet at that time."""
        self.now = moment
        told = {"balloon_cur": GIB, "mem_available": GIB, "mem_usable": GIB // 2, "stats_age": 0.0}
        guests = {name: Guest(name, name, {"balloon_cur": GIB} if silent else told) for name in names}
        snapshot = Snapshot(mom_core.Host("host", figures or {}), guests, monotonic=moment)
        found = self.records.columns(snapshot.listed, moment)[START_REST]
        self.records.see(snapshot)
        self.learning.see(self.records)
        return dict(zip(names, found, strict=True))


@pytest.mark.parametrize("ages", [{}, {"new": -100.0}], ids=["its process is not known", "it is"])
def test_new_guest_rests_after_its_first_statistics(ages: dict[str, float]) -> None:
    host = Host(old=1000.0, **ages)
    assert host.rests(0.0, "old") == {"old": None}
    assert host.rests(100.0, "old", "new", silent=True) == {"old": None, "new": REST}
    assert host.rests(150.0, "old", "new") == {"old": None, "new": REST}, "it has booted by now"
    assert host.rests(160.0, "old", "new") == {"old": None, "new": 50.0}
    assert host.rests(200.0, "old", "new") == {"old": None, "new": 10.0}
    assert host.rests(210.0, "old", "new") == {"old": None, "new": None}


def test_earlier_guest_rests_by_its_process_age() -> None:
    host = Host(young=20.0, old=70.0)
    assert host.rests(0.0, "young", "old", "unknown") == {"young": 40.0, "old": None, "unknown": None}
    assert host.rests(39.0, "young", "old", "unknown") == {"young": 1.0, "old": None, "unknown": None}
    assert host.rests(41.0, "young", "old", "unknown") == {"young": None, "old": None, "unknown": None}


@pytest.mark.parametrize(("available", "why"), [(None, NEW), (3 * GIB, NEW), (GIB, "")], ids=["unknown", "enough", "below hard"])
def test_no_policy_shrinks_a_new_guest(available: int | None, why: str) -> None:
    host = Host(old=1000.0)
    figures = {"mem_watermark_hard": 2 * GIB} | ({} if available is None else {"mem_really_available": available})
    for moment, expected in ((0.0, ""), (100.0, why), (159.0, why), (161.0, "")):
        host.rests(moment, *(("old", "new") if moment else ("old",)), figures=figures)
        known = host.records.memory_of("new" if moment else "old")
        assert known is not None
        assert known.obstacle == expected
        shrunk = permitted(GIB // 2 + 100 * 1024, known, LIMITS)
        assert shrunk.size == (None if expected else GIB // 2 + 100 * 1024)


def test_policies_may_shrink_guests_that_came_with_the_hypervisor() -> None:
    host = Host()
    host.rests(0.0)
    assert host.rests(5.0, "there")["there"] == REST
    known = host.records.memory_of("there")
    assert known is not None
    assert not known.obstacle
