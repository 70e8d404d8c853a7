"""Parts of the campaign of faults that need no guests: choice of faults, missing recoveries, and table."""

from types import SimpleNamespace
from typing import Any, cast

import campaign
import pytest
from fault_kinds import KINDS
from fault_scene import what_is_missing
from witness import Watched

STATUS: dict[str, Any] = {
    "pid": 7,
    "cycle": {"number": 12},
    "plugins": [{"name": "libvirt", "state": "ok", "last_error": ""}],
    "guests": {"columns": ["id", "name", "blocked", "mem_usable", "stats_age"], "rows": [["u1", "a", {}, 1000, 1.0]]},
}


def guest(**known: Any) -> Watched:
    nothing = cast("Any", SimpleNamespace(heard=[]))
    return Watched("a", 320, **{"promised": 160, "monitor": nothing, "listener": nothing, **known})


def row(**changes: Any) -> dict[str, Any]:
    """Return mom's status with these columns of its guest."""
    columns = STATUS["guests"]["columns"]
    cells = {**dict(zip(columns, STATUS["guests"]["rows"][0], strict=True)), **changes}
    return {**STATUS, "guests": {"columns": columns, "rows": [[cells[name] for name in columns]]}}


def test_order_needs_new_cycles_and_known_guests() -> None:
    assert what_is_missing(STATUS, 7, (7, 10), {"a": guest()}) == ""
    assert what_is_missing(STATUS, 7, (6, 500), {"a": guest()}) == "", "another mom counts its cycles anew"


@pytest.mark.parametrize(
    ("status", "pid", "since", "missing"),
    [
        ({}, 7, (7, 10), "mom runs"),
        (STATUS, 0, (7, 10), "mom runs"),
        (STATUS, 8, (7, 10), "mom runs"),
        (STATUS, 7, (7, 11), "completed 2 cycles"),
        ({**STATUS, "plugins": [{"name": "libvirt", "state": "hung", "last_error": "no answer"}]}, 7, (7, 10), "hung: no answer"),
        ({**STATUS, "guests": {}}, 7, (7, 10), "knows a"),
        (row(name="b"), 7, (7, 10), "knows a"),
        (row(stats_age=9.0), 7, (7, 10), "fresh statistics of a"),
        (row(mem_usable=None, stats_age=None), 7, (7, 10), "fresh statistics of a"),
        (row(blocked={"*": "it does not answer"}), 7, (7, 10), "does not answer"),
    ],
)
def test_status_shows_what_is_missing(status: dict[str, Any], pid: int, since: tuple[int, int], missing: str) -> None:
    assert missing in what_is_missing(status, pid, since, {"a": guest()})


def test_ended_guest_must_be_forgotten() -> None:
    assert what_is_missing(STATUS, 7, (7, 10), {}) == "it knows no a any more"
    assert "believes nothing" in what_is_missing(STATUS, 7, (7, 10), {"a": guest(speaks=False)})
    assert what_is_missing(row(mem_usable=None), 7, (7, 10), {"a": guest(speaks=False)}) == ""
    assert what_is_missing(row(mem_usable=None), 7, (7, 10), {"a": guest(honest=False)}) == "", "nobody waits for a liar"


def test_guest_is_below_its_guarantee_by_its_least_size() -> None:
    assert guest(least=150.0).is_below
    assert not guest(least=159.5).is_below, "a balloon moves by whole pages"
    assert not guest(least=0.0).is_below, "its size is unknown"
    assert not guest(least=10.0, honest=False).is_below, "its size is not true"
    taken = guest(least=150.0, size=200.0)
    assert taken.take_least() == 150.0
    assert not taken.is_below


def test_seed_determines_faults() -> None:
    def names(numbers: range) -> list[list[tuple[int, str]]]:
        return [[(one.number, one.kind.name) for one in group] for group in campaign.in_turn(3, numbers, list(KINDS))]

    all_of_them = names(range(1, 301))
    assert all_of_them == names(range(1, 301))
    assert [number for group in all_of_them for number, _ in group] == list(range(1, 301))
    assert sorted(name for group in names(range(1, len(KINDS) + 1)) for _, name in group) == sorted(KINDS), (
        "each kind comes before any comes again"
    )
    pairs = [group for group in campaign.in_turn(3, range(1, 301), list(KINDS)) if len(group) == 2]
    assert len(pairs) > 10
    assert not any(one.kind.touches & other.kind.touches or one.kind.alone or other.kind.alone for one, other in pairs)
    later = campaign.chosen(3, 300, list(KINDS))
    assert (later.number, later.kind.name) == all_of_them[-1][-1], "whatever was done before"
