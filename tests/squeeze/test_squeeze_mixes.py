"""Mixes are consistent, and run on the simulator."""

import subprocess
import time
from datetime import date
from pathlib import Path

import on_simulator
import pytest
from made_up_machines import DATE, write_machines
from mixes import Mix, read_mixes
from real_guests import COMMAND_LINE
from squeeze import done

MIXES = read_mixes()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    program = tmp_path / "demand"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).parents[1] / "real/demand.c"], check=True)
    return program


@pytest.mark.parametrize("name", MIXES)
def test_mix_fits_into_its_guests(name: str) -> None:
    mix = MIXES[name]
    assert len(mix.why) > 40
    for member in mix.members():
        one = member.group
        assert one.base + one.burst + one.leaks + one.cold < 0.9 * one.memory, "an unsqueezed guest has room for its programs"
        assert member.phase < one.period


def test_guest_gets_the_arguments_of_its_program() -> None:
    member = next(MIXES["leaking"].members())
    assert member.demand(1000) == "1000,200,350,3000,1,0,0,0,320,4000,0,0"
    cold = next(MIXES["warming"].members())
    told, _, seed = cold.demand(1000, 365.0).rpartition(",")
    assert told == "1000,80,200,120,35,0,0,0,320,4000,0,0,500,365"
    others = {member.demand(1000, 365.0).rpartition(",")[2] for member in MIXES["warming"].members()}
    assert len(others) == 12, "cold memory differs between guests"
    assert seed in others
    assert {member.demand(1000).rpartition(",")[2] for member in MIXES["alike"].members()} == {"0"}


@pytest.mark.processes
def test_guest_program_follows_a_recorded_day(program: Path) -> None:
    told = [f"{int(time.time())}", "1", "0", "100", "0", "0", "0", "0", "100", "100"]
    with subprocess.Popen([program, *told], env={"day": "2,40,5"}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
        finally:
            process.kill()
    assert {"held=41", "held=6"} <= {line.split()[2] for line in lines}
    assert "bursts=1" in lines[-1] or "bursts=2" in lines[-1], "a growth of 35 MiB takes 0.4 s"


def test_recorded_days_are_scaled_to_the_guests(tmp_path: Path) -> None:
    write_machines(tmp_path, 12, 2)
    (tmp_path / "short").mkdir()
    (tmp_path / "short/a.txt").write_text("0.5 100\n3.0 200\n720.0 1000\n")
    mix = MIXES["days"]
    made_up, archived, short = (mix.with_days(folder, date.fromisoformat(DATE)) for folder in (None, tmp_path, tmp_path / "short"))
    assert [member.day for member in made_up.members()] == [member.day for member in mix.with_days(None, date.min).members()]
    for days in (made_up.days, archived.days):
        assert {len(day) for day in days} == {288}
        assert max(map(max, days)) > 200, "there are jobs"
    assert list(short.days[0][:3]) == [100, 100, 200]
    member = next(made_up.members())
    assert member.arguments(1000).endswith(f",{max(0, member.day[-1] - 16)}")
    assert all(len(COMMAND_LINE + member.arguments(10**10)) < 2048 for member in made_up.members()), "the kernel ignores the rest"


@pytest.mark.parametrize("manager", ["mom-original", "pve"])
def test_manager_is_squeezed_on_the_simulator(manager: str) -> None:
    small = MIXES["leaking"].model_dump() | {"protocol": {**MIXES["leaking"].protocol.model_dump(), "ramp": 200.0}}
    outcome = on_simulator.simulated(Mix.model_validate(small), manager)
    assert outcome["manager"] == manager
    assert outcome["seconds"] > 0
    assert outcome["ended"] != "end of the ramp"


@pytest.mark.long
def test_each_means_takes_more_of_simulated_cold_memory() -> None:
    mix = MIXES["cold"]
    protocol = mix.protocol.model_copy(update={"zram": 0, "floor": 500})
    without_swap = on_simulator.simulated(mix.model_copy(update={"protocol": protocol}), "nothing")
    managed = [on_simulator.simulated(mix, manager) for manager in ("nothing", "ksm", "mom", "mom-offload")]
    taken = [one["taken"] for one in (without_swap, *managed)]
    assert taken == sorted(set(taken)), "no swap, the kernel with zram, KSM alone, mom without offload, mom with it"
    assert taken[1] < 1.2 * taken[0], "the kernel begins to swap when a burst may exhaust the host, as on real guests"
    assert taken[4] > 1.3 * taken[3]


def test_run_is_not_repeated_unless_it_was_done_with_other_options() -> None:
    runs = [{"mix": "fast", "manager": "mom", "label": "1.0"}, {"mix": "fast", "manager": "pve", "label": ""}]
    mom = {"mix": "fast", "manager": "mom", "label": ""}
    assert done(runs, mom) == 1
    assert done(runs, {**mom, "label": "1.0"}) == 1
    assert done(runs, {**mom, "label": "1.1"}) == 0
    assert done(runs, {**mom, "fpr": True}) == 0
    assert done([{**runs[0], "fpr": True}], {**mom, "fpr": True}) == 1
