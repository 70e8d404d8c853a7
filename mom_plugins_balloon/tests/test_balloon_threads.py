"""What other threads ask of the plugin while a cycle runs, or while a reload puts another instance in its place."""

from pathlib import Path
from typing import Any

import pytest
from reserving_host import GIB

from mom_core import Clock, Config, Engine, MomError, hookimpl
from mom_devkit import HandClock, config_of
from mom_kvm import Reservation, Reservations


def test_reservation_during_a_reload_is_kept(tmp_path: Path) -> None:
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
