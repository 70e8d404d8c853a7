"""What other threads ask of the plugin while a cycle runs, or while a reload puts another instance in its place."""

from pathlib import Path
from typing import Any

import pytest
from reserving_host import GIB, KeptReservation, a_guest, seen

from mom_core import Clock, Config, Engine, MomError, Snapshot, hookimpl
from mom_devkit import HandClock, config_of
from mom_kvm import Reservation, Reservations
from mom_plugins_balloon.ballooned_guests import BalloonedGuests


def test_what_is_reserved_while_a_reload_replaces_the_plugin_is_kept_and_afterwards_refused(tmp_path: Path) -> None:
    """A request that is under way has found the plugin of before."""
    clock, held, made = HandClock(), list[Reservations](), list[Reservation]()

    class Meanwhile:
        def __init__(self, settings: object, context: object) -> None:
            pass

        @hookimpl
        def mom_setup(self) -> None:
            made.append(held[0].reserve(GIB, 600))

    def config(dead_band: str, **more: Any) -> Config:
        sim = {"guests": 3, "sold": 0.2}
        return config_of(tmp_path, {"sim": sim, "balloon": {"dead_band": dead_band}, "policy": {}, **more})

    with Engine(config("8MiB"), Clock(clock, clock.wall)) as engine:
        engine.cycle()
        before = engine.service(Reservations)
        assert before is not None
        held.append(before)
        engine.reload(config("4MiB", meanwhile=Meanwhile))
        engine.cycle()
        now = engine.service(Reservations)
        assert now is not None
        assert now is not before
        assert [one.id for one in now.reservations()] == [one.id for one in made]
        with pytest.raises(MomError, match="its configuration: nothing has changed"):
            before.reserve(GIB, 600)
        with pytest.raises(MomError, match="its configuration: nothing has changed"):
            before.release(made[0].id)


def test_a_plugin_that_was_replaced_leaves_the_file_of_reservations_to_the_one_in_its_place(tmp_path: Path) -> None:
    host = KeptReservation(tmp_path)
    made = host.reserved(GIB, seconds=60)
    before = host.kept
    host.begin()
    before.close()
    host.see(8 * GIB)
    host.kept.release(made.id)
    later = host.reserved(2 * GIB)
    host.clock.now += 120  # what it keeps itself has ended by now
    before.reservations()
    assert [one.id for one in host.begin().reservations()] == [later.id]


class AnotherThread(BalloonedGuests):
    """Another thread, which began with an older snapshot, has its turn after each look at what was told of it."""

    older: Snapshot | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        older = super().__getattribute__("__dict__").get("older")
        if name == "_told" and older is not None:
            newer, self.older, self.snapshot = self.snapshot, None, older
            self.known(older.guests["a"], None)
            self.older, self.snapshot = older, newer
        return found


def test_what_is_known_of_a_guest_is_of_one_snapshot_whatever_another_thread_asks_meanwhile() -> None:
    guests = AnotherThread(8)
    older = seen(5.0, 8 * GIB, a_guest("a", need=GIB))
    newer = seen(10.0, 8 * GIB, a_guest("a", need=3 * GIB))
    guests.see(older)
    guests.see(newer)
    assert guests.known(newer.guests["a"], None) is not None
    guests.older = older
    known = guests.known(newer.guests["a"], None)
    assert known is not None
    assert known.statistics.usable == GIB, "of 4 GiB, it needs 3 by now"
