"""Reservations: they never exceed the room, guests keep what they need, and the expected guest gets the memory."""

import math
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reserving_host import GIB, KEEPS, LIMITS, MIB, TOTAL, KeptReservation, a_guest, seen

from mom_core import (
    Clock,
    Config,
    DefaultPolicy,
    Engine,
    Guest,
    Host,
    MomError,
    PluginContext,
    Report,
    Snapshot,
    UnitError,
    Value,
    as_number,
    hookimpl,
)
from mom_devkit import HandClock, config_of, declared
from mom_kvm import Admission, Admissions, Reservation, Reservations
from mom_plugins_balloon.ballooned_guests import LISTS_UNTIL_GONE, BalloonedGuests
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.plugin import BalloonPlugin
from mom_plugins_balloon.reservations import policies_reserve
from mom_plugins_balloon.room import spare_of


@pytest.fixture
def host(tmp_path: Path) -> KeptReservation:
    return KeptReservation(tmp_path)


class TestRoom:
    def test_available_memory_is_ready_at_once(self, host: KeptReservation) -> None:
        host.see(8 * GIB)
        made = host.kept.reserve(4 * GIB, 600, who="me")
        assert (made.state, made.there_kib, made.expected_in_seconds) == (Reservation.State.READY, 4 * GIB, 0.0)
        assert made.expires_in_seconds == 600
        assert host.kept.reserved_kib() == 4 * GIB
        assert host.woken == ["4.00 GiB were reserved"]

    def test_spare_memory_of_guests_makes_up_the_rest(self, host: KeptReservation) -> None:
        host.see(2 * GIB, a_guest("a"))
        room = host.kept.room()
        assert room.can_free_kib == int(4 * GIB - GIB - 80 * MIB - GIB // 4 - 0.03 * 4 * GIB)
        made = host.kept.reserve(2 * GIB, 600)
        assert made.state is Reservation.State.MAKING
        assert made.there_kib == int(2 * GIB - KEEPS)
        assert made.expected_in_seconds is not None
        assert 5 < made.expected_in_seconds < 60

    def test_swept_guest_spares_only_known_freed_memory(self, host: KeptReservation) -> None:
        known: dict[str, Any] = {
            "mem_usable": 7 * GIB, "mem_unused": 5 * GIB, "mem_available": 8 * GIB - 100 * MIB, "kernel_reserved": 100 * MIB,
            "mem_cache_share": 0.24, "mem_growth_rate": 0, "qemu_overhead": 200 * MIB,
        }  # fmt: skip
        host.see(2 * GIB, a_guest("a", 8 * GIB, **known))
        swept = 8 * GIB - 200 * MIB - 3 * GIB - 32 * MIB  # less QEMU's own memory, used memory, page cache, and the rest after a sweep
        assert host.kept.room().can_free_kib == int(swept - 0.03 * 8 * GIB)
        host.see(2 * GIB, a_guest("a", 8 * GIB, **{**known, "rss": None}))
        assert host.kept.room().can_free_kib == 0

    def test_refusal_has_all_figures(self, host: KeptReservation) -> None:
        host.see(2 * GIB, a_guest("a", balloon_min=3 * GIB))
        with pytest.raises(Reservation.Refused) as refused:
            host.kept.reserve(8 * GIB, 600)
        room = refused.value.room
        assert (room.available_kib, room.guaranteed_kib, room.can_free_kib) == (2 * GIB, 3 * GIB, int(GIB - 0.03 * 4 * GIB))
        assert str(refused.value) == (
            "cannot reserve 8.00 GiB: at most 1.28 GiB can be reserved (2.00 GiB are available, guests can release 901 MiB,"
            " the host keeps 1.60 GiB, 0 KiB are reserved already)"
        )
        assert host.kept.reservations() == []

    def test_part_of_host_swap_is_kept_for_swap_in(self, host: KeptReservation) -> None:
        host.see(4 * GIB, a_guest("a", host_swap=10 * GIB, balloon_min=4 * GIB))
        assert host.kept.room().returning_kib == GIB
        assert host.kept.room().most_kib == 3 * GIB - math.ceil(KEEPS)
        with pytest.raises(Reservation.Refused, match=r"1\.00 GiB are kept for guests' swap-in"):
            host.kept.reserve(3 * GIB, 600)

    def test_memory_after_the_deadline_is_refused(self, host: KeptReservation) -> None:
        host.see(2 * GIB, a_guest("a"))
        with pytest.raises(Reservation.Refused, match=r"in about \d+ s, after the deadline in 3s"):
            host.kept.reserve(2 * GIB, 3)

    def test_without_giving_guests_only_available_memory_counts(self, host: KeptReservation) -> None:
        host.why = why = "mom only observes"
        host.see(2 * GIB, a_guest("a"))
        assert host.kept.reserve(300 * MIB, 600).state is Reservation.State.READY
        with pytest.raises(Reservation.Refused, match=re.escape(f"guests can release 0 KiB ({why})")):
            host.kept.reserve(GIB, 600)

    def test_concurrent_requests_never_exceed_the_room(self, host: KeptReservation) -> None:
        host.see(4 * GIB, *(a_guest(f"g{number}") for number in range(4)))
        most = host.kept.room().most_kib
        start = threading.Barrier(20)

        def ask(_: int) -> int:
            start.wait()
            try:
                return host.kept.reserve(GIB, 600).memory_kib
            except Reservation.Refused:
                return 0

        with ThreadPoolExecutor(20) as threads:
            got = list(threads.map(ask, range(20)))
        assert sum(got) == host.kept.reserved_kib()
        assert most - GIB < sum(got) <= most

    @pytest.mark.parametrize(("memory", "seconds", "name"), [(512, 60, ""), (1 << 41, 60, ""), (GIB, float("nan"), ""), (GIB, 60, "a\nb")])
    def test_a_reservation_out_of_range_is_refused(self, host: KeptReservation, memory: int, seconds: float, name: str) -> None:
        host.see(8 * GIB)
        with pytest.raises(UnitError):
            host.kept.reserve(memory, seconds, name=name)

    def test_unknown_host_promises_nothing(self, host: KeptReservation) -> None:
        with pytest.raises(MomError, match="mom has not looked at the host yet"):
            host.kept.reserve(GIB, 60)
        host.see(8 * GIB)
        host.clock.now += 60
        with pytest.raises(MomError, match="mom has not looked at the host for 60 s"):
            host.kept.reserve(GIB, 60)
        for known in ("mem_available", "mem_really_available"):
            host.follow(Snapshot(Host(fields={known: TOTAL}), monotonic=host.clock.now))
            with pytest.raises(MomError, match="total or available memory is unknown"):
                host.kept.room()

    def test_host_keeps_its_growth_peak(self, tmp_path: Path) -> None:
        host = KeptReservation(tmp_path, host_keeps=None)
        most = []
        for growth in (None, 3 * GIB):
            fields = {"mem_available": TOTAL, "mem_really_available": 8 * GIB, "mem_growth_peak": growth}
            host.follow(Snapshot(Host(fields=fields), monotonic=host.clock.now))
            most.append(host.kept.room().most_kib)
        assert most[1] == 5 * GIB < most[0]


class TestExpectedRise:
    @staticmethod
    def see(host: KeptReservation, *guests: Guest, ahead: float = 2 * GIB, available: float = 8 * GIB) -> None:
        fields: dict[str, Value] = {"mem_available": TOTAL, "mem_really_available": int(available)}
        fields |= {"mem_rise_ahead": int(ahead), "host_rise_expected": int(ahead)}
        host.follow(Snapshot(Host(fields=fields), {guest.id: guest for guest in guests}, monotonic=host.clock.now))

    def test_expected_rise_is_not_promised(self, host: KeptReservation) -> None:
        self.see(host)
        room = host.kept.room()
        assert (room.rising_kib, room.most_kib) == (2 * GIB, 6 * GIB - math.ceil(KEEPS))
        with pytest.raises(Reservation.Refused, match=r"guests are expected to soon use 2\.00 GiB more"):
            host.kept.reserve(6 * GIB, 600)
        assert host.kept.reserve(4 * GIB, 600).state is Reservation.State.READY

    def test_memory_for_an_expected_rise_is_not_spare(self, host: KeptReservation) -> None:
        known: dict[str, Value] = {
            "mem_available": 4 * GIB, "kernel_reserved": 0, "qemu_overhead": 0, "mem_unused": 3 * GIB, "mem_cache_share": 0.0,
            "mem_used_expected": GIB, "mem_used_expected_soon": 2 * GIB, "mem_expected_weight": 1.0,
        }  # fmt: skip
        calm = a_guest("a")
        calm = replace(calm, fields={**calm.fields, **known})
        self.see(host, calm, ahead=0)
        before = host.kept.room().can_free_kib
        self.see(host, replace(calm, fields={**calm.fields, "mem_rises_in": 300.0}), ahead=0)
        assert host.kept.room().can_free_kib == before - GIB


class Promises:
    """Service that knows how many more guests fit."""

    def __init__(self, fits: int, knows: bool = True) -> None:
        self.fits, self.knows = fits, knows

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        if not self.knows:
            raise MomError("mom has not looked at the host yet")
        return Admission(self.fits >= count, count, self.fits, memory_kib, sla_class, memory_kib, ("promises: all are made",))


class TestAdmissions:
    def test_reservation_that_breaks_a_promise_is_refused(self, host: KeptReservation) -> None:
        host.context.offers = {Admissions: (Promises(0),)}
        host.see(64 * GIB)
        with pytest.raises(Reservation.Refused, match="break promises to other guests") as refused:
            host.kept.reserve(GIB, 60)
        assert refused.value.hint == "promises: all are made"
        assert refused.value.room.most_kib > GIB

    @pytest.mark.parametrize("promises", [Promises(1), Promises(0, knows=False)])
    def test_admitted_or_unknown_reservation_is_made(self, host: KeptReservation, promises: Promises) -> None:
        host.context.offers = {Admissions: (promises,)}
        host.see(64 * GIB)
        assert host.kept.reserve(GIB, 60).state is Reservation.State.READY


class TestSpareMemory:
    def spare(self, *course: Guest, margin: str = "80MiB") -> float:
        """Return the spare memory of a guest after these cycles."""
        guests = BalloonedGuests()
        for now, guest in enumerate(course):
            guests.see(seen(float(now), 8 * GIB, guest))
        return spare_of(guests, LawParameters.model_validate({"margin": margin}), LIMITS).total

    @pytest.mark.parametrize(
        "more",
        [
            {"stats_age": 60.0},
            {"mem_usable": None},
            {"major_fault": 500},
            {"mem_stall_floor": 3 * GIB},
            {"balloon_obstacle": "it gives nothing"},
            {"balloon_min": 4 * GIB},
            {"balloon_cur": None},
        ],
    )
    def test_unreliable_guest_spares_nothing(self, more: dict[str, Value]) -> None:
        guest = a_guest("a")
        assert self.spare(replace(guest, fields={**guest.fields, **more})) == 0
        assert self.spare(replace(guest, blocked={"balloon_target": "no balloon"})) == 0

    def test_policies_that_make_room_are_recognized(self) -> None:
        plugin = BalloonPlugin(BalloonPlugin.Settings(), PluginContext(name="balloon"))
        assert policies_reserve(policy.text for policy in declared(plugin, DefaultPolicy))
        assert policies_reserve(["(+ Host.mem_reserved 1)"])
        assert not policies_reserve(['(with Guests g (g.Control "balloon_target" g.balloon_max))'])


class TestEnd:
    def test_reservation_expires_at_its_deadline(self, host: KeptReservation) -> None:
        made = host.reserved(GIB, seconds=60)
        host.clock.now += 59
        assert host.kept.reserved_kib() == GIB
        host.clock.now += 1
        assert host.kept.reserved_kib() == 0
        ended = host.one(made.id)
        assert (ended.state, ended.note, ended.expires_in_seconds) == (Reservation.State.EXPIRED, "no guest started for it in time", 0)

    def test_released_reservation_ends(self, host: KeptReservation) -> None:
        made = host.reserved(GIB, seconds=60)
        assert host.kept.release(made.id, who="user root").note == "released by user root"
        assert host.kept.reserved_kib() == 0
        with pytest.raises(MomError, match="has ended already: it is released"):
            host.kept.release(made.id)
        with pytest.raises(MomError, match="reservation nothing does not exist"):
            host.kept.release("nothing")

    def test_arrived_guest_uses_up_its_reservation(self, host: KeptReservation) -> None:
        made = host.reserved(4 * GIB, a_guest("old"), seconds=60)
        new = a_guest("new", rss=300 * MIB)
        host.see(8 * GIB, a_guest("old"), new)
        taken = host.one(made.id)
        assert (taken.state, taken.kept_kib) == (Reservation.State.TAKEN, 4 * GIB - 300 * MIB)
        assert host.taker(made) == "new"
        host.see(5 * GIB, a_guest("old"), a_guest("new", rss=3 * GIB))
        assert host.kept.reserved_kib() == GIB
        host.see(4 * GIB, a_guest("old"), a_guest("new", rss=4 * GIB))
        assert host.one(made.id).state is Reservation.State.USED
        assert host.kept.reserved_kib() == 0

    def test_memory_taken_since_the_snapshot_is_not_promised_again(self, host: KeptReservation) -> None:
        made = host.reserved(6 * GIB, name="new")
        host.see(8 * GIB, host.booting("new", 8 * GIB, size=8 * GIB))
        assert host.kept.reserved_kib() == 0
        with pytest.raises(Reservation.Refused, match="at most 410 MiB can"):
            host.kept.reserve(6 * GIB, 60)
        assert host.one(made.id).state is Reservation.State.TAKEN
        host.see(0, a_guest("new", 8 * GIB))
        assert host.one(made.id).state is Reservation.State.USED

    def test_reservation_lasts_while_a_migration_arrives(self, host: KeptReservation) -> None:
        made = host.reserved(4 * GIB, seconds=10)
        comes = {"*": "the guest is paused, being migrated"}
        for number in range(1, 8):
            host.see(8 * GIB, replace(a_guest("new", rss=number * GIB // 4), blocked=comes), after=20)
        assert host.kept.reserved_kib() == 4 * GIB - 7 * GIB // 4
        for _ in range(2):  # the migration has stopped
            host.see(8 * GIB, replace(a_guest("new", rss=7 * GIB // 4), blocked=comes), after=35)
        assert host.one(made.id).state is Reservation.State.USED

    @pytest.mark.parametrize(("incarnation", "taker"), [("1", ""), ("2", "old")])
    def test_earlier_guest_takes_no_reservation(self, host: KeptReservation, incarnation: str, taker: str) -> None:
        made = host.reserved(4 * GIB, a_guest("old", incarnation="1"))
        host.see(8 * GIB, a_guest("old", incarnation=incarnation))
        assert host.taker(made) == taker

    def test_guest_takes_the_smallest_fitting_reservation(self, host: KeptReservation) -> None:
        host.see(20 * GIB)
        large, small = host.kept.reserve(8 * GIB, 600), host.kept.reserve(4 * GIB, 600)
        host.see(20 * GIB, a_guest("huge", size=16 * GIB))
        assert host.taker(large) == ""
        host.see(20 * GIB, a_guest("huge", size=16 * GIB), a_guest("modest", size=2 * GIB, rss=0))
        assert (host.taker(large), host.taker(small)) == ("", "modest")
        assert host.one(small.id).kept_kib == 2 * GIB, "the guest cannot use more"

    def test_guest_missing_from_one_list_keeps_its_reservation(self, host: KeptReservation) -> None:
        old, new = a_guest("old"), a_guest("new", incarnation="1", rss=GIB)
        made = host.reserved(4 * GIB, old, seconds=8)
        host.see(8 * GIB, old, new)
        for _ in range(LISTS_UNTIL_GONE - 1):
            host.see(8 * GIB, old)
            assert (host.taker(made), host.one(made.id).kept_kib) == ("new", 3 * GIB), "its last RSS counts"
        host.see(8 * GIB, old, new)
        assert host.taker(made) == "new"
        for _ in range(LISTS_UNTIL_GONE):
            host.see(8 * GIB, old)
        assert host.one(made.id).state is Reservation.State.EXPIRED, "the guest is gone, and no other guest started in time"

    def test_older_process_takes_no_reservation(self, host: KeptReservation) -> None:
        ages = {"db-01": 10_000.0, "db-02": 1.0}
        host.begin(lambda guest: ages.get(guest.id))
        made = host.reserved(4 * GIB, name="db-*")  # the hypervisor does not answer
        host.see(8 * GIB, a_guest("db-01"))
        assert host.taker(made) == ""
        host.see(8 * GIB, a_guest("db-01"), a_guest("db-02", rss=0))
        assert host.taker(made) == "db-02"

    def test_missing_memory_is_noted_after_a_while(self, host: KeptReservation) -> None:
        host.reserved(2 * GIB, a_guest("a"), available=2 * GIB)
        notes = []
        for _ in range(8):
            host.see(2 * GIB, a_guest("a", need=4 * GIB - 100 * MIB))
            notes.append(host.one().note)
        assert notes[0] == "", "guests may still be shrinking"
        assert notes[-1] == "1.60 GiB of it cannot be freed any more: guests need memory that they could spare before"

    @pytest.mark.parametrize("name", ["db-*", "db-01"])
    def test_named_reservation_waits_for_its_guest(self, host: KeptReservation, name: str) -> None:
        named = host.reserved(4 * GIB, available=20 * GIB, name=name)
        host.see(20 * GIB, a_guest("web-01"))
        assert host.one(named.id).guest is None
        host.see(20 * GIB, a_guest("web-01"), a_guest("db-01", size=8 * GIB, rss=GIB))
        assert host.one(named.id).kept_kib == 3 * GIB


class TestRestarts:
    def test_guest_that_came_during_a_restart_takes_it(self, host: KeptReservation) -> None:
        made = host.reserved(4 * GIB, a_guest("old"))
        host.begin()
        host.see(8 * GIB, a_guest("old"), a_guest("new", rss=GIB))
        assert host.taker(made) == "new"

    def test_reboot_ends_reservations(self, host: KeptReservation, caplog: pytest.LogCaptureFixture) -> None:
        host.reserved(4 * GIB)
        (host.context.root / "proc/sys/kernel/random/boot_id").write_text("boot-2\n")
        assert host.begin().reserved_kib() == 0
        assert "because the host was rebooted" in caplog.text

    def test_guest_missing_before_a_restart_has_not_arrived(self, host: KeptReservation) -> None:
        host.see(20 * GIB, a_guest("old"), a_guest("db-01", incarnation="1"))
        made = host.reserved(4 * GIB, a_guest("old"), name="db-*")
        host.begin()
        host.see(8 * GIB, a_guest("old"), a_guest("db-01", incarnation="1"))
        assert host.taker(made) == ""

    def test_reservation_lasts_across_restarts(self, host: KeptReservation) -> None:
        made = host.reserved(4 * GIB, a_guest("old"), seconds=60, name="db-*")
        host.clock.now += 30
        host.begin()
        assert host.kept.reserved_kib() == 4 * GIB
        host.see(8 * GIB, a_guest("old"))
        assert (host.one(made.id).name, host.one(made.id).expires_in_seconds) == ("db-*", 25)
        host.clock.now += 30
        host.begin()
        assert host.kept.reserved_kib() == 0


class Simulated:
    """Simulated host under mom, with its own clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        plugins = {"sim": {"guests": 30}, "balloon": {}, "policy": {}}
        config = config_of(folder, plugins, guests={"db-*": {"guarantee": "2GiB"}}, interval=5.0)
        self.engine = Engine(config, Clock(self.clock, self.clock.wall))

    def cycles(self, count: int) -> Iterator[Report]:
        for _ in range(count):
            self.clock.now += 5
            yield self.engine.cycle()

    @property
    def kept(self) -> Reservations:
        service = self.engine.plugins.plugins[0].context.service(Reservations)
        assert service is not None
        return service


def below_need(report: Report) -> list[str]:
    """Return the guests that mom has shrunk below their need or their promise in this cycle."""
    names = []
    for outcome in report.outcomes:
        guest = report.snapshot.guests[outcome.decision.entity.id]
        fields: Mapping[str, Value] = guest.fields
        size, usable, promised = (as_number(fields.get(name)) for name in ("balloon_cur", "mem_usable", "balloon_min"))
        target = as_number(outcome.decision.value)
        assert size is not None
        assert target is not None
        if target < size and (usable is None or target < max(size - usable, promised or 0)):
            names.append(f"cycle {report.number}: {guest.name} from {size} to {target}, can spare {usable}, is promised {promised}")
    return names


def test_guests_make_room_in_time(tmp_path: Path) -> None:
    simulated = Simulated(tmp_path)
    with simulated.engine:
        list(simulated.cycles(60))
        room = simulated.kept.room()
        made = simulated.kept.reserve(int(0.95 * room.most_kib), 600)
        assert made.there_kib < made.kept_kib
        assert made.expected_in_seconds is not None
        began = simulated.clock.now
        for report in simulated.cycles(20):
            assert report.snapshot.host.fields["mem_reserved"] == made.memory_kib
            assert not below_need(report)
            if simulated.kept.reservations()[0].state is Reservation.State.READY:
                break
        assert simulated.clock.now - began <= made.expected_in_seconds + 5


def test_reservation_during_a_reload_is_kept(tmp_path: Path) -> None:
    """A running request still uses the plugin object from before the reload."""
    clock, held, made = HandClock(), list[Reservations](), list[Reservation]()

    class Meanwhile:
        def __init__(self, settings: object, context: object) -> None:
            pass

        @hookimpl
        def mom_setup(self) -> None:
            made.append(held[0].reserve(GIB, 600))

    def config(reserve: str, **more: Any) -> Config:
        sim = {"guests": 3, "sold": 0.2}
        return config_of(tmp_path, {"sim": sim, "balloon": {"reserve": reserve}, "policy": {}, **more})

    with Engine(config("32MiB"), Clock(clock, clock.wall)) as engine:
        engine.cycle()
        before = engine.service(Reservations)
        assert before is not None
        held.append(before)
        engine.reload(config("33MiB", meanwhile=Meanwhile))
        engine.cycle()
        now = engine.service(Reservations)
        assert now is not None
        assert now is not before
        assert [kept.id for kept in now.reservations()] == [kept.id for kept in made]
        with pytest.raises(MomError, match="its configuration: nothing was changed"):
            before.reserve(GIB, 600)
        with pytest.raises(MomError, match="its configuration: nothing was changed"):
            before.release(made[0].id)
