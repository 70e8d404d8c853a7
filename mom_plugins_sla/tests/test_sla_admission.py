"""Whether more guests fit, and why."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_promises import FakePromises
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Columns, Condition, Entity, Guest, Host, MomError, PluginContext, Report, Scope, Snapshot, Verdict
from mom_core.model import GuestTable
from mom_devkit import HandClock
from mom_kvm import Admission, Admissions, GuestDescription, Promises, Reservation, Reservations, stale_seconds
from mom_plugins_sla import SlaPlugin
from mom_plugins_sla.classes import SlaSettings

GIB = 1 << 20


def kept_for(room: Reservation.Room, *reservations: Reservation) -> SimpleNamespace:
    """Return `Reservations` with this room and these reservations."""
    return SimpleNamespace(room=lambda: room, reservations=lambda: reservations)


def a_guest(name: str, promised: int, size: int = 4, usable: int = 2, **more: object) -> Guest:
    promise = min(8, promised) * GIB
    fields = {
        "balloon_cur": size * GIB, "balloon_max": 8 * GIB, "mem_promised": promise, "guest_guarantee": promise,
        "mem_usable": usable * GIB, **more,
    }  # fmt: skip
    return Guest(name, name, fields)  # type: ignore[arg-type]  # the fields are values


def report_of(snapshot: Snapshot, *conditions: Condition) -> Report:
    return Report(1, 0.0, "enforce", snapshot, (), (), (), (), (), 0.0, verdict=Verdict(conditions))


def table(guests: Sequence[Guest]) -> GuestTable:
    """Return a table of guests. Guests that are only listed have no fields."""
    return GuestTable([replace(guest, fields={}) for guest in guests], Columns.of_rows([guest.fields for guest in guests]))


def asked(
    memory: float = 8, name: str = "gold", count: int = 1, *, promisable: float = 30, available: float = 12, guests: Sequence[Guest] = (),
    kept: SimpleNamespace | None = None, default: str | None = None, returning: float | None = None,
) -> Admission:  # fmt: skip
    services: dict[type, Sequence[object]] = {
        Reservations: () if kept is None else (kept,),
        Promises: (FakePromises("guest_guarantee", "mem_promised"),),
    }
    context = PluginContext(name="sla", monotonic=lambda: 100.0, offers=services)
    plugin = SlaPlugin(SlaSettings(default=default), context)
    fields = {"mem_promisable": int(promisable * GIB), "mem_really_available": int(available * GIB), "mem_available": 32 * GIB}
    host = Host(fields=fields if returning is None else {**fields, "mem_promised_stopped": int(returning * GIB)})
    snapshot = Snapshot(host, table(guests), monotonic=99.0)
    plugin.mom_report(report_of(snapshot))
    return plugin.mom_services()[Admissions].admission(int(memory * GIB), name, count)


def test_what_guests_will_take_before_long_is_said_and_does_not_count_as_there() -> None:
    asks = [asked(kept=kept_for(Reservation.Room(12 * GIB, GIB, 0, 0, 0, rising_kib=rising))) for rising in (0, 10 * GIB)]
    assert [one.admitted for one in asks] == [True, False]
    assert "guests are expected to soon use 10.00 GiB more" in asks[1].reasons[0]


def test_a_guest_fits_where_its_promise_and_its_memory_do() -> None:
    found = asked(guests=[a_guest("a", 20)])
    assert (found.admitted, found.fits, found.guarantee_kib) == (True, 2, 6 * GIB)
    assert found.reasons[0].startswith("promises: the host can promise 30.00 GiB, 8.00 GiB are promised to guests, 22.00 GiB are left;")
    assert found.donors == ()


def test_it_does_not_where_promises_would_be_more_than_the_host_has() -> None:
    found = asked(count=4, promisable=20, available=64, guests=[a_guest("a", 2)])
    assert (found.admitted, found.fits) == (False, 3)
    assert "18.00 GiB are left; 4 guests of class gold with 8.00 GiB would be promised 24.00 GiB" in found.reasons[0]


def test_a_guest_of_which_it_is_not_known_yet_what_it_is_promised_counts_with_all_of_its_memory() -> None:
    guests = [replace(a_guest(f"g{number}", 0), blocked={"*": GuestDescription.UNREAD}) for number in range(4)]
    assert asked(guests=guests[:2]).admitted  # 30 GiB less twice 8 GiB; a gold guest of 8 GiB is promised 6
    answer = asked(guests=guests)
    assert not answer.admitted
    assert "32.00 GiB are promised to guests (guests with unknown guarantees: 4;" in answer.reasons[0]


def test_what_guests_that_mom_has_stopped_are_promised_is_promised_to_no_other() -> None:
    asks = [asked(promisable=12, returning=returning) for returning in (None, 0.0, 7.0)]
    assert [one.admitted for one in asks] == [True, True, False]
    assert "7.00 GiB to guests that mom has stopped and that come back, 5.00 GiB are left" in asks[2].reasons[0]


def test_what_would_make_room_are_promises_of_lesser_guests() -> None:
    guests = [a_guest("vapor", 1, priority=10), a_guest("peer", 6, priority=70), a_guest("cheap", 3, priority=10)]
    found = asked(promisable=12, guests=guests)
    assert [(one.guest.name, one.kib, one.promise) for one in found.donors] == [("cheap", 3 * GIB, True), ("vapor", 1 * GIB, True)]


def test_it_does_not_where_the_memory_cannot_be_had_now() -> None:
    found = asked(available=5)
    assert not found.admitted
    assert found.reasons[0].startswith("memory now: 5.00 GiB are available, so 5.00 GiB are available; 1 guest of class gold")


def test_guests_give_the_cheapest_first_what_they_neither_use_nor_are_promised() -> None:
    room = Reservation.Room(available_kib=4 * GIB, host_keeps_kib=2 * GIB, reserved_kib=0, can_free_kib=20 * GIB, guaranteed_kib=0)
    guests = [a_guest("dear", 0, 8, 7, reclaim_cost=8.0), a_guest("cheap", 0, 8, 6, reclaim_cost=0.5)]
    found = asked(promisable=99, guests=guests, kept=kept_for(room))
    assert found.admitted
    assert [one.guest.name for one in found.donors] == ["cheap"]
    assert found.donors[0].kib == 4 * GIB


def test_what_guests_hardly_touch_counts_and_what_they_may_want_back_is_kept() -> None:
    room = Reservation.Room(available_kib=4 * GIB, host_keeps_kib=2 * GIB, reserved_kib=0, can_free_kib=0, guaranteed_kib=0)
    room = replace(room, can_offload_kib=12 * GIB, returning_kib=1 * GIB)
    said = " ".join(asked(promisable=99, kept=kept_for(room)).reasons)
    assert "12.00 GiB of cold memory can go to swap, 1.00 GiB are kept free to read swapped memory back" in said
    assert "so 13.00 GiB are available" in said


def test_what_is_reserved_counts_until_its_guest_has_come() -> None:
    room = Reservation.Room(available_kib=64 * GIB, host_keeps_kib=0, reserved_kib=0, can_free_kib=0, guaranteed_kib=0)
    waiting = Reservation("r1", 20 * GIB, Reservation.State.READY, kept_kib=20 * GIB)
    come = Reservation("r2", 9 * GIB, Reservation.State.TAKEN, kept_kib=9 * GIB, guest=Entity(Scope.GUEST, "g", "g"))
    over = Reservation("r3", 9 * GIB, Reservation.State.EXPIRED, kept_kib=9 * GIB)
    found = asked(kept=kept_for(room, waiting, come, over))
    assert found.fits == 1
    assert "20.00 GiB are reserved for guests about to start, 10.00 GiB are left" in " ".join(found.reasons)


def test_a_class_without_a_promise_is_bounded_by_memory() -> None:
    assert asked(name="vapor", memory=4, available=3.5).fits == 3
    assert asked(name="", memory=4, available=3.5, default="platinum").fits == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8 * GIB, "goldd", 1), "there is no class goldd (known classes: platinum, gold, compute, vapor)"),
        ((8, "gold", 1), "memory of 8 KiB is out of range"),
        ((1 << 50, "gold", 1), "KiB is out of range"),
        ((8 * GIB, "gold", 0), "the number of guests, 0, is out of range"),
        ((8 * GIB, "gold", 1), "mom has not looked at the host yet"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: tuple[int, str, int], message: str) -> None:
    plugin = SlaPlugin(SlaSettings(), PluginContext(name="sla"))
    with pytest.raises(MomError) as refused:
        plugin.mom_services()[Admissions].admission(*arguments)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("host", "seen"), [({}, 99.0), ({"mem_promisable": GIB}, 99.0), ({"mem_promisable": GIB, "mem_really_available": 1}, 9.0)]
)
def test_nothing_is_said_by_what_is_not_known_or_old(host: dict[str, int], seen: float) -> None:
    plugin = SlaPlugin(SlaSettings(), PluginContext(name="sla", monotonic=lambda: 100.0))
    plugin.mom_report(report_of(Snapshot(Host(fields=host), monotonic=seen)))
    with pytest.raises(MomError):
        plugin.mom_services()[Admissions].admission(GIB)


def test_while_the_hypervisor_does_not_list_its_guests_no_promise_to_them_is_forgotten() -> None:
    clock = HandClock(100.0)
    context = PluginContext(name="sla", monotonic=clock, offers={Promises: (FakePromises("guest_guarantee", "mem_promised"),)})
    plugin = SlaPlugin(SlaSettings(), context)
    host = Host(fields={"mem_promisable": 8 * GIB, "mem_really_available": 8 * GIB})

    def admits(snapshot: Snapshot, *conditions: Condition) -> bool:
        plugin.mom_report(report_of(snapshot, *conditions))
        return plugin.mom_services()[Admissions].admission(4 * GIB, "platinum").admitted

    empty, away = Snapshot(host, monotonic=100.0), Condition("guests", "the guests are unknown: libvirtd is away", plugins=("core",))
    assert not admits(Snapshot(host, {"bank": a_guest("bank", 8)}, monotonic=100.0))
    assert not admits(empty, away), "what was seen last counts"
    assert admits(empty, replace(away, over=1.0)), "and there are none"
    clock.now += 2 * stale_seconds(context.interval)
    with pytest.raises(MomError, match="mom has not looked at the host for"):
        admits(replace(empty, monotonic=clock.now), away)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), max_size=5),
    st.sampled_from(["platinum", "gold", "compute", "vapor"]),
    st.integers(1, 6),
    st.integers(0, 64),
    st.integers(0, 64),
)
def test_who_is_admitted_breaks_no_promise(guests: list[tuple[int, int]], name: str, count: int, promisable: int, available: int) -> None:
    there = [a_guest(f"g{number}", promised, size) for number, (promised, size) in enumerate(guests)]
    found = asked(4, name, count, promisable=promisable, available=available, guests=there)
    promised = sum(min(8, promised) for promised, _ in guests) * GIB
    if found.admitted:  # a guest without a promise breaks none, even on an oversold host
        assert not found.guarantee_kib or promised + count * found.guarantee_kib <= promisable * GIB
        assert count * found.guarantee_kib <= available * GIB
        assert found.fits >= count
    else:
        assert found.fits < count
    assert found.reasons
