"""Scenarios: parsing, random values from the seed, simulation with the real engine, and summary."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sim_guests import fields_of

from mom_core import ConfigError, HypervisorError, MomError
from mom_devkit import run_plugins
from mom_kvm import RunSummary, SimulationSetup
from mom_plugins_record.recording.reader import Recording
from mom_plugins_sim.guest import MIB
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scenario.scene import scene_of
from mom_plugins_sim.scenario.schema import find_scenario, read_scenario
from mom_plugins_sim.simulate.command import run_scenario, simulate
from mom_plugins_sim.workload import Trace, batch, diurnal, leak
from mom_plugins_sim.world import World

GIB = 1024 * MIB

SMALL = """
title: Small
lasts: 10m
interval: 5s
host: {memory: 8GiB, swap: 1GiB}
guests:
  a: {count: 6, memory: 2GiB, workload: {bursty: {base: 20%, burst: 20%, period: 2m, duty: 30%}}}
"""


def write(tmp_path: Path, text: str = SMALL) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(simulate, [str(argument) for argument in arguments], help_option_names=["-h", "--help"])


def test_properties_of_a_scenario_are_recorded(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("{count: 6,", "{count: 2, properties: {flavor: m1.small, name: mine},"))
    run_plugins(tmp_path, {"sim": {"scenario": str(path)}, "record": {"path": str(tmp_path / "rec")}}, cycles=4)
    *_, last = Recording(tmp_path / "rec").cycles()
    found = [guest.properties for guest in last.report.snapshot.guests.values()]
    assert [(one["flavor"], one["name"]) for one in found] == [("m1.small", "a-001"), ("m1.small", "a-002")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lasts: 10m", "lasts: 10", "s.yaml:3:1: lasts: .*no unit"),
        ("lasts: 10m", "", "lasts: is missing"),
        ("count: 6", "cuont: 6", "guests.a.cuont: there is no such setting .did you mean 'count'"),
        ("count: 6", "count: 0", "s.yaml:7:7: guests.a.count: must be at least 1"),
        ("memory: 2GiB", "memory: [3GiB, 2GiB]", "the first value must not be larger"),
        ("base: 20%", "base: 120%", "base: .*is more than 100%"),
        ("base: 20%", "base: many%", "is not a number"),
        ("bursty: {", "leak: {base: 10%, hourly: 1%}, bursty: {", "set one kind of workload, not 2"),
        ("title: Small", "title: Small\nfaults: [{at: 1m, lasts: 1m, what: fire}]", "what: "),
        ("  a: {", "  'a b': {", "is not a group name"),
        (SMALL, "", "must be a mapping"),
        (SMALL, "title: [", "s.yaml:"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_said_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_scenario(write(tmp_path, SMALL.replace(old, new)))


def test_a_fault_that_concerns_nobody_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + 'faults: [{at: 1m, lasts: 1m, what: guest-hangs, guests: "b-*"}]\n')
    with pytest.raises(MomError, match="no guest has such a name"):
        scene_of(read_scenario(path), path.parent)


def test_workloads_over_time() -> None:
    day = diurnal(100.0, 300.0, peak_time=3600.0 * 14)
    assert day.at(3600.0 * 14) == 300
    assert day.at(3600.0 * 2) == 100
    leaking = leak(100.0, 1.0, 200.0)
    assert [leaking.at(time) for time in (0, 50, 99, 100)] == [100, 150, 199, 100]
    jobs = batch(10.0, 5.0, [20.0, 50.0], 10.0)
    assert [jobs.at(time) for time in (0, 19, 20, 29, 30, 55, 70)] == [10, 10, 15, 15, 10, 15, 10]
    trace = Trace([0.0, 10.0, 20.0], [1.0, 2.0, 3.0])
    assert [trace.at(time) for time in (-5, 0, 9, 10, 20, 25, 31)] == [1, 1, 1, 2, 3, 1, 2]


def test_guests_of_a_trace_do_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("seconds,kib\n0,102400\n60,204800\n120,102400\n")
    text = SMALL.replace("{bursty: {base: 20%, burst: 20%, period: 2m, duty: 30%}}", "{trace: {file: t.csv}}")
    path = write(tmp_path, text)
    world = World(scene_of(read_scenario(path), tmp_path))
    world.advance_to(70)
    assert all(guest.memory.anon == 204800 for guest in world.guests.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b\n1,2\n", "the column 'seconds' is missing"), ("seconds,kib\n1,x\n", "t.csv:2: a number is missing"),
     ("seconds,kib\n5,1\n5,1\n", "t.csv:3: seconds must be greater"),
     ("seconds,kib\n0,nan\n", "t.csv:2"), ("seconds,kib\n", "the trace is empty"), (None, "cannot read")],
)  # fmt: skip
def test_a_trace_that_is_wrong_is_refused_with_its_line(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    path = write(tmp_path, SMALL.replace("{bursty: {base: 20%, burst: 20%, period: 2m, duty: 30%}}", "{trace: {file: t.csv}}"))
    with pytest.raises(MomError, match=message):
        scene_of(read_scenario(path), tmp_path)


def test_guests_come_and_go(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("count: 6,", "count: 6, arrives: [1m, 2m], stays: 3m,"))
    world = World(scene_of(read_scenario(path), tmp_path))
    counts = []
    for time in (30, 130, 240, 310):
        world.advance_to(time)
        counts.append(len(world.guests))
    assert counts[0] == counts[3] == 0
    assert counts[1] == 6
    assert 0 < counts[2] <= 6


def test_faults_begin_and_end(tmp_path: Path) -> None:
    faults = """
faults:
  - {at: 10s, lasts: 20s, what: statistics-stop, guests: a-001}
  - {at: 10s, lasts: 20s, what: balloon-stuck, guests: a-002}
  - {at: 10s, lasts: 20s, what: guest-hangs, guests: a-003}
  - {at: 40s, lasts: 10s, what: hypervisor-away}
  - {at: 60s, lasts: 10s, what: plugin-raises}
"""
    path = write(tmp_path, SMALL + faults)
    now = 0.0
    hypervisor = SimHypervisor(World(scene_of(read_scenario(path), tmp_path)), lambda: now)

    def fields_at(time: float) -> dict[str, dict[str, Any]]:
        nonlocal now
        now = time
        guests = hypervisor.guests()
        fields = fields_of(hypervisor, guests)
        return {guest.name: fields[guest.id] for guest in guests}

    fields_at(10)
    for guest in hypervisor.guests():
        hypervisor.set_balloon(guest.entity, int(1.5 * GIB))
    during, after = fields_at(25), fields_at(35)
    assert during["a-001"]["stats_age"] > 10
    assert [during[f"a-00{n}"]["balloon_cur"] for n in (2, 3, 4)] == [2 * GIB, 2 * GIB, int(1.5 * GIB)]
    assert {one["balloon_cur"] for one in after.values()} == {int(1.5 * GIB)}
    with pytest.raises(HypervisorError):
        fields_at(45)
    assert len(fields_at(55)) == 6
    with pytest.raises(RuntimeError):
        fields_at(65)


@pytest.mark.long
def test_shortage_wakes_a_cycle(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL.replace("interval: 5s", "interval: 60s").replace("memory: 8GiB", "memory: 6GiB"))
    woken = [report.woken_by for report in run_scenario(read_scenario(path), path, SimulationSetup("x"), None, 600.0) if report.woken_by]
    assert {"guest", "host:"} == {reason.split()[0] for reason in woken}


@pytest.mark.long
def test_squeeze_kills_nothing_and_keeps_promises() -> None:
    path = find_scenario("squeeze")
    scenario = read_scenario(path)
    nothing, mom = RunSummary("nothing"), RunSummary("mom")
    for report in run_scenario(scenario, path, SimulationSetup("nothing", acts=False), 1, scenario.lasts):
        nothing.add(report)
    least: dict[str, float] = {}
    for report in run_scenario(scenario, path, SimulationSetup("mom", guests={"worker-00[1-3]": {"guarantee": "75%"}}), 1, scenario.lasts):
        mom.add(report)
        for outcome in report.outcomes:  # a swept guest has its size again in the next cycle
            if outcome.decision.control == "balloon_target":
                size, name = outcome.decision.value, outcome.decision.entity.name
                assert isinstance(size, int | float)
                least[name] = min(size, least.get(name, GIB))
    assert (nothing.available.least or 0) < 1 * MIB < 256 * MIB < (mom.available.least or 0)
    assert nothing.work_done < 0.7
    assert (mom.killed, mom.work_done > 0.999) == (0, True)
    assert {name: size for name, size in least.items() if name < "worker-004"} == {f"worker-00{n}": 0.75 * GIB for n in (1, 2, 3)}
    assert all(size < 0.75 * GIB for name, size in least.items() if name >= "worker-004")


@pytest.mark.long
def test_everything_that_goes_wrong_is_survived() -> None:
    path = find_scenario("everything")
    reports = list(run_scenario(read_scenario(path), path, SimulationSetup("x"), None, 2000.0))
    away = [report for report in reports if any("does not answer" in problem.message for problem in report.problems)]
    assert away
    assert reports[-1].snapshot.guests


@pytest.mark.long
def test_the_command_compares_and_records(tmp_path: Path) -> None:
    path = write(tmp_path)
    shown = run(path, "--compare", "nothing", "defaults", "--hours", 0.1, "--record", tmp_path / "r")
    assert shown.exit_code == 0, shown.output
    assert "work done by guests" in shown.output
    rows = [line.split() for line in shown.output.splitlines()]
    assert ["nothing", "defaults"] in rows
    cycles = list(Recording(tmp_path / "r" / "defaults").cycles())
    assert cycles[0].report.number == 1
    assert json.loads(run(path, "--json", "--hours", 0.05).output)[0]["seconds"] > 100


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    listed = run("--list").output
    assert "quiet-night" in listed
    assert "12 guests, 20 min\n" in listed, "and not a third of an hour"
    assert run().exit_code == 2
    for name, said in (("rain", "there is no scenario rain"), (tmp_path / "away.yaml", "there is no file")):
        mistyped = run(name)
        assert said in str(mistyped.exception)
        assert isinstance(mistyped.exception, ValueError), "of which mom makes exit code 2"
    (tmp_path / "60_bad.policy").write_text("(with")
    refused = str(run("leak", "--policy", tmp_path / "60_bad.policy", "--hours", 0.05).exception)
    assert " 60_bad.policy:1:1: " in refused, "and not the copy that is gone"
    mistyped = run("sold-month", "--compare", "nothing", "defults")
    assert mistyped.exit_code == 2, "before minutes of the first run are over"
    assert "unknown policies defults; give the path of a file or folder, or one of nothing, defaults, no-offload" in mistyped.output


def test_two_simulations_do_not_end_in_one_recording(tmp_path):
    shown = CliRunner().invoke(simulate, ["noisy-neighbour", "--hours", "0.01", "--record", str(tmp_path / "r")])
    assert shown.exit_code == 0, shown.output
    again = CliRunner().invoke(simulate, ["noisy-neighbour", "--hours", "0.01", "--record", str(tmp_path / "r")])
    assert "is not empty; it may contain a recording" in str(again.exception)


@pytest.mark.long
def test_a_policy_that_fails_is_said_and_is_no_success(tmp_path: Path) -> None:
    policy = tmp_path / "60_moon.policy"
    policy.write_text("(defvar full (== Host.moon_phase 4))")
    path = write(tmp_path)
    shown = run(path, "--policy", policy, "--hours", 0.05)
    assert shown.exit_code == 1
    assert "work done by guests" in shown.stdout
    assert re.search(r"a policy failed in (\d\d) of \1 cycles", shown.stderr)
    assert "there is no host field moon_phase" in shown.stderr
    as_json = run(path, "--policy", policy, "--json", "--hours", 0.05)
    assert as_json.exit_code == 1
    (failure,) = json.loads(as_json.stdout)[0]["failures"]
    assert failure.startswith("60_moon:1:")
