"""Which messages a view of the fleet accepts. tests/fleet uses real servers."""

import time

import pytest

from mom_plugins_fleet.accounts import USER, new_seed
from mom_plugins_fleet.buckets import COORDINATORS, Bucket, StoredEntry
from mom_plugins_fleet.records import AuthorizedKeys, HostState, Member, Orders
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.view import FleetView

SEED = "SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY"
OTHER = Signer(new_seed(USER)).public


def state(host: str, available: int = 1) -> bytes:
    return HostState(mode="enforce", available=available).packed()


def test_a_bucket_that_is_told_anew_forgets_what_is_not_there_any_more_and_nothing_else() -> None:
    shelf = Bucket(HostState)
    shelf.begins()
    shelf.take("h1", StoredEntry(5, state("h1"), 1.0))
    shelf.take("h2", StoredEntry(6, b"nonsense", 1.0))
    shelf.complete()
    assert (set(shelf.records), set(shelf.damaged), shelf.current) == ({"h1"}, {"h2"}, True)
    shelf.begins()
    assert set(shelf.records) == {"h1"}, "until it is known better"
    assert not shelf.current
    shelf.take("h3", StoredEntry(1, state("h3"), 1.0))  # new servers count from 1
    shelf.complete()
    assert (set(shelf.records), shelf.damaged, set(shelf.set_at)) == ({"h3"}, {}, {"h3"})


def test_an_answer_that_is_older_than_what_was_heard_changes_nothing() -> None:
    shelf = Bucket(HostState)
    shelf.begins()
    shelf.take("h1", StoredEntry(5, state("h1", 5)))
    shelf.take("h1", StoredEntry(4, state("h1", 4)))
    shelf.take("h1", StoredEntry(0, None))
    assert shelf.records["h1"] == (5, HostState(mode="enforce", available=5))
    shelf.take("h1", StoredEntry(7, None))
    shelf.take("h1", StoredEntry(6, state("h1", 6)))
    assert shelf.get("h1") is None


def test_orders_that_came_before_the_coordinator_was_appointed_count_once_it_is() -> None:
    signer, view = Signer(SEED), FleetView()
    view.orders.take("h1", StoredEntry(1, signer.signed("h1", Orders(epoch=3), 2)))
    assert view.orders.get("h1") is None
    assert "which is not trusted" in view.orders.damaged["h1"]
    view.orders.trust(frozenset({signer.public}))
    assert view.orders.get("h1") == Orders(epoch=3)
    view.orders.trust(frozenset())
    assert view.orders.get("h1") is None


def test_a_record_that_was_ahead_of_a_clock_counts_once_the_clock_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    signer, clock = Signer(SEED), [0.0]
    right = time.time()
    monkeypatch.setattr(time, "time", lambda: clock[0])
    coordinators, revision = frozenset({signer.public}), int(right)
    entry = StoredEntry(1, signer.signed(COORDINATORS, AuthorizedKeys(keys=(OTHER,)), revision))
    views = [FleetView(coordinators), FleetView(coordinators)]
    for view in views:
        view.authorized.take(COORDINATORS, entry)
        view.trust()
        assert "ahead of the clock" in view.authorized.damaged[COORDINATORS]
        assert OTHER not in view.orderers
    clock[0] = right
    looks, hears = views
    looks.trust()
    hears.authorized.take(COORDINATORS, entry)
    for view in views:
        assert OTHER in view.orderers
        assert not view.authorized.damaged


def test_a_host_is_as_old_as_its_report_by_the_servers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    view, clock, now = FleetView(), [1000.0], time.time()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    view.members.records["h1"] = (1, Member(group="g"))
    view.states.take("h1", StoredEntry(1, state("h1"), now - 60))
    assert view.is_fresh("h1")
    view.states.take("h2", StoredEntry(2, state("h2"), now))
    assert view.age("h1") == pytest.approx(60, abs=5)
    clock[0] += 40
    assert not view.is_fresh("h1"), "time passes, though nothing is heard"
    view.states.take("h1", StoredEntry(3, state("h1"), now + 40))
    assert view.is_fresh("h1")
    view.states.begins()  # restored servers have an older state
    view.states.take("h1", StoredEntry(1, state("h1"), now - 60))
    view.states.complete()
    assert not view.is_fresh("h1")


def test_a_wrong_time_of_the_servers_counts_until_the_next_report_only() -> None:
    view, now = FleetView(), time.time()
    view.members.records["h1"] = (1, Member(group="g"))
    view.states.complete()
    view.states.take("h1", StoredEntry(1, state("h1"), now + 3 * 86_400))
    view.states.take("h2", StoredEntry(2, state("h2"), -1e9))
    view.states.take("h1", StoredEntry(3, state("h1"), now))
    assert view.newest == now
    assert view.is_fresh("h1")
    assert "h2" not in view.states.set_at
