"""Guests with days: when they do what, what is measured of their mornings, and what the table says of it."""

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import days
import pytest
from days import Clocks, Course, Learned, begins, manager, risers
from days_report import as_fast, days_text
from guest_hosts import GuestHost
from guests_told import Listener, Told, lines
from managers import Where
from merit import Moment
from mixes import DAY, read_mixes
from one_run import Squeeze
from squeeze import main, squeezed
from steady_host import Plan

from mom_core import load_config

MIX = read_mixes()[DAY]


# --- when --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [120, 180, 240, 1440])
@pytest.mark.parametrize("offset", [0.0, 3600.0, -12600.0])
def test_all_runs_begin_at_the_same_time_of_the_day_as_mom_counts_days(day: int, offset: float) -> None:
    for earliest in (1_790_000_000.3, 1_790_000_000.3 + day / 2, 1_790_003_333.0):
        begin = begins(earliest, day, offset)
        assert earliest - 1 <= begin <= earliest + day + 1
        assert (begin + offset) % day == pytest.approx(17 / 24 * day, abs=1)


def test_the_third_morning_comes_after_the_evening_of_the_second_and_the_day_that_differs_after_all_usual_ones() -> None:
    course = Course(day=240, begin=1000)
    assert course.first(22) == 1000 + 50
    assert course.midnight(0) + 80 == course.first(8) == 1000 + 150
    assert course.midnight(1) == 1000 + 310
    assert course.told(course.first(8)) == "day 3, 08:00"
    assert course.told(course.midnight(1) + 65) == "day 4, 06:30"
    assert course.told(1000) == "day 2, 17:00"


def test_each_morning_has_its_amount_from_the_evening_before_on_and_the_last_one_stays() -> None:
    course = Course(day=240, begin=1000, mornings=2)
    steps = [(course.evening(number) - 1000, mib) for number, mib in enumerate([3000, 4000])]
    assert steps == [(0, 3000), (260, 4000)]
    plan = Plan(10_000, 0.0, [], 150, ramp_mib_s=100, ramp_steps=steps)
    taken = [10_000 - plan.at(second) for second in (-5, 0, 10, 30, 200, 260, 265, 270, 500)]
    assert taken == [0, 0, 1000, 3000, 3000, 3000, 3500, 4000, 4000]
    assert 10_000 - plan.at(30, held=20) == 1000, "while it stands still, nothing more is taken"


def test_shorter_days_go_by_as_fast_in_all_respects() -> None:
    short = MIX.with_day(240)
    assert {group.period for group in short.guests.values()} == {240}
    assert (short.protocol.settle, short.protocol.reference, short.protocol.seconds) == (15, 480, 410)
    assert short.protocol.ramp * 240 == pytest.approx(MIX.protocol.ramp * MIX.day)
    assert short.protocol.available == MIX.protocol.available


def test_fewer_guests_are_of_the_same_kinds() -> None:
    small = MIX.with_guests(4)
    assert {name: group.count for name, group in small.guests.items()} == {"desktop": 3, "nightly": 1}
    assert MIX.with_guests(12) == MIX
    assert MIX.with_guests(1).count == 2, "one of each kind at least"


def test_memory_is_taken_before_the_morning_and_the_rise_of_the_fourth_day_is_seen_whole() -> None:
    for seconds, mornings in ((120, 1), (240, 1), (240, 3), (1440, 2)):
        mix = MIX.with_day(seconds).with_mornings(mornings)
        course = Course(seconds, 0, mornings)
        taken_at = mix.protocol.settle + 25 + mix.protocol.taken / mix.protocol.ramp
        assert taken_at < course.first(8) - 2 / 24 * seconds
        differs = course.midnight(mornings)
        assert differs + (6 + days.RISE_HOURS) / 24 * seconds <= mix.protocol.seconds < differs + seconds / 2
        (later,) = {member.demand(0).split(",")[-2] for member in mix.members() if member.kind == "desktop"}
        assert int(later) == differs


def test_guests_are_told_the_hour_at_which_they_come_and_that_of_the_day_that_differs() -> None:
    told = {member.kind: member.demand(1000) for member in MIX.with_day(240).members()}
    assert told["desktop"] == "1000,150,450,240,42,90,0,0,320,4000,0,0,0,0,0,0,310,110"  # 09:00 after eight, 11:00 after six
    assert told["nightly"] == "1000,150,450,240,25,190,0,0,320,4000,0,0"
    alike = {member.kind: member.demand(1000) for member in MIX.with_days_alike().with_day(240).members()}
    assert alike["desktop"] == "1000,150,450,240,42,90,0,0,320,4000,0,0"


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize(("day", "hour", "comes"), [(3, 6.5, 0), (3, 8.5, 1), (4, 5.5, 0), (4, 6.5, 1), (4, 16.5, 0)])
def test_the_guests_program_comes_at_the_other_hour_on_the_day_that_differs(day: int, hour: float, comes: int, tmp_path: Path) -> None:
    member = next(MIX.members())
    small = replace(member, group=member.group.model_copy(update={"base": 1, "burst": 1}))
    now = Course(MIX.day, 0).at(24 * (day - 3) + (hour - 17) % 24)
    program = tmp_path / "demand"
    subprocess.run(["gcc", "-O2", "-o", program, Path(__file__).parents[1] / "real/demand.c"], check=True)
    with subprocess.Popen([program, *small.demand(int(time.time() - now)).split(",")], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            (said,) = lines(process.stdout.readline(), 0.0)
        finally:
            process.kill()
    assert said.bursts == comes


# --- what is measured --------------------------------------------------------------------------------------------------------------------


def told_at(at: float, bursts: int, filled: float = 0.0, met: int = 0) -> Told:
    return Told(at, at, 150, filled, 0, at, met, bursts, 0, 0, {})


def listener(*heard: Told) -> Listener:
    return Listener(Path("none"), list(heard))


def test_a_rise_is_of_those_bursts_that_grew_then_and_tells_how_many_did_not() -> None:
    quick = listener(told_at(90, 3), told_at(99, 3), told_at(103, 4, 1.5), told_at(150, 5, 9.0))
    slow = listener(told_at(90, 3), told_at(100, 3), told_at(112, 4, 11.5))
    never = listener(told_at(90, 3), told_at(120, 3))
    seen = days.rise([quick, slow, never], 100, 120)
    assert (seen.wanted, seen.grown, sorted(seen.seconds), seen.last) == (3, 2, [1.5, 11.5], 12)
    figures = days.as_json(seen)
    assert (figures["mean"], figures["slowest"], figures["grown"]) == (6.5, 11.5, 2)


def test_where_nobody_grew_that_is_unknown_and_not_zero() -> None:
    figures = days.as_json(days.rise([listener(told_at(90, 3), told_at(120, 3))], 100, 120))
    assert (figures["grown"], figures["mean"], figures["slowest"], figures["last"]) == (0, None, None, None)


def test_several_mornings_are_one_reference() -> None:
    first = days.Rise(2, [1.0, 2.0], 3.0, 100.0, 0.99)
    both = days.all_rises([first, days.Rise(2, [4.0], None, None, 0.9)])
    assert both == days.Rise(4, [1.0, 2.0, 4.0], 3.0, 100.0, 0.9)


def test_those_who_come_in_the_morning_are_known_by_the_day_that_differs() -> None:
    listeners = {member.name: listener() for member in MIX.members()}
    usual, hour = risers(MIX, listeners, other=False)
    assert (len(usual), hour) == (8, 8)
    assert risers(MIX, listeners, other=True)[1] == 6


def test_two_clocks_of_one_moment_translate_each_other() -> None:
    assert Clocks(epoch=1000.0, monotonic=50.0).as_monotonic(1010.5) == 60.5


def moment(at: float, **seen: Any) -> Moment:
    figures = {"available": 2000, "guests": 5000, "merged": 0, "strangers": 0, "work": 1.0, "kills": 0, "swap": 0.0, "sizes": {}}
    return Moment(**{"time": at, "taken": 4000, **figures, **seen})


def mornings_of(*, until: float) -> list[dict[str, Any] | None]:
    """Those of a run whose day lasts 240 s, in which everyone came in the third morning, and a program was killed in the fourth."""
    mix = MIX.with_day(240)
    course, clocks = Course(240, 1000), Clocks(epoch=1000.0, monotonic=0.0)
    squeeze = Squeeze(mix, cast(GuestHost, None), Path("none"), began=30.0)
    for place, member in enumerate(mix.members()):
        heard = [told_at(20, 1), told_at(140, 1), told_at(153, 2, 2.0 + 0.1 * place), told_at(300, 2), told_at(375, 3, 4.0)]
        squeeze.listeners[member.name] = listener(*heard, replace(told_at(400, 3), kills=int(not place)))
    squeeze.trace = [moment(at - 30.0, taken=4000 + at, available=3000 - at) for at in range(140, 400)]
    said = {at - 30.0: {"host_rise_expected": 2048 * 1024, "guests_forecast": 12} for at in range(130, 150)}
    return [days.morning(squeeze, course, number, clocks, until, said) for number in range(2)]


def test_a_morning_is_of_those_who_rise_with_what_was_taken_meanwhile_and_what_had_been_expected() -> None:
    third, fourth = mornings_of(until=1410)
    assert third is not None
    assert fourth is not None
    assert (third["day"], third["differs"], third["wanted"], third["grown"]) == (3, False, 8, 8), "those who work at night are not counted"
    assert (third["mean"], third["slowest"], third["last"]) == (2.35, 2.7, 3.0)
    assert (third["taken"], third["available_least"]) == (4160, 2830)
    assert (third["patterns"], third["rise_expected"], third["kills"]) == (12, 2048, 0)
    assert (fourth["day"], fourth["differs"], fourth["kills"], fourth["grown"]) == (4, True, 1, 8)
    assert fourth["rise_expected"] is None, "nothing was said in those two hours"


def test_a_morning_that_the_run_did_not_live_to_see_is_unknown() -> None:
    third, fourth = mornings_of(until=1200)
    assert third is not None
    assert fourth is None


# --- managers ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unsqueezed", "mom"])
def test_every_mom_is_configured_as_an_operators_and_looks_often_enough_for_such_days(name: str, tmp_path: Path) -> None:
    command = manager(name, 240, Learned(tmp_path / "learned")).command
    assert command is not None
    host = SimpleNamespace(plugin={"libvirt": {"uri": "test:///default"}})
    started = command(Where(cast(GuestHost, host), tmp_path))
    config = load_config(tmp_path / "mom.yaml")
    assert started[1:] == ["run", "-c", str(tmp_path / "mom.yaml")]
    assert config.interval == 1.0
    assert ("record" in config.plugins) is (name == "unsqueezed")
    assert config.mode == ("observe" if name == "unsqueezed" else "enforce")


def test_guests_of_all_runs_that_follow_the_first_days_are_the_same(tmp_path: Path) -> None:
    learned = days.of_days(240, 12, tmp_path)
    with pytest.raises(FileNotFoundError):
        _ = learned.identities
    learned.anew()
    assert days.of_days(240, 12, tmp_path).identities == learned.identities
    assert days.of_days(120, 12, tmp_path).folder != learned.folder, "days of another length teach nothing"


def test_days_need_first_days_and_are_not_compared_with_other_mixes(tmp_path: Path) -> None:
    assert DAY not in squeezed()
    with pytest.raises(SystemExit, match="no first days of 12 guests with days of 240 s"):
        main(["days", "mom", "--day", "240", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        main(["days", "--day", "100"])
    with pytest.raises(SystemExit, match="each no less than the one before"):
        main(["days", "--taken", "4000", "3000", "--results", str(tmp_path)])


# --- the table ---------------------------------------------------------------------------------------------------------------------------

REFERENCE = {"wanted": 16, "grown": 16, "mean": 2.0, "slowest": 3.0, "last": 4.0, "p99_ms": 50.0, "work": 0.99}


def seen_in(day: int, taken: int, mean: float, slowest: float, **other: Any) -> dict[str, Any]:
    figures = {**REFERENCE, "wanted": 8, "grown": 8, "mean": mean, "slowest": slowest, "taken": taken, "kills": 0, "available_least": 400}
    return {"day": day, "differs": False, "wanted_mib": taken, **figures, **other}


def ran(name: str, *mornings: dict[str, Any], ended: str = days.LAST) -> dict[str, Any]:
    amounts = [one["wanted_mib"] for one in mornings if not one["differs"]] or [4800]
    kind = {"mix": "day", "manager": name, "day": 240, "guests": 12, "available": 6000, "amounts": amounts, "ahead": 15.0}
    return {**kind, "ended": ended, "at": "day 2, 23:10", "taken_at_end": 3712, "kills": 0, "mornings": list(mornings)}


def unsqueezed() -> dict[str, Any]:
    return {"mix": "day", "manager": "unsqueezed", "day": 240, "guests": 12, "available": 6000, "rise": REFERENCE}


def test_the_table_says_how_much_more_was_taken_with_bursts_as_fast_as_unsqueezed() -> None:
    without = [seen_in(3, 4000, 2.1, 3.1), seen_in(4, 4800, 3.0, 9.0), seen_in(5, 4800, 3.0, 9.5, differs=True, kills=1)]
    with_it = [seen_in(3, 4800, 2.05, 3.15), seen_in(4, 4800, 2.0, 3.15, differs=True)]
    text = days_text([unsqueezed(), ran("mom", *without), ran("mom-forecast", *with_it), ran("mom-forecast", seen_in(3, 5200, 2.0, 3.3))])
    assert "mom 4,000 MiB; mom with forecast 4,800 MiB" in text
    assert "With forecast, that is +20 %." in text
    assert "Day that differs, 4,800 MiB to be taken: slowest burst 3.15 s with forecast, 9.50 without; killed 0, 1." in text
    assert "| mom | 4 | 4,800 | 8 of 8 | 3.00 | 1.50 | 9.00 | 3.00 |" in text
    assert "| mom with forecast | 4, which differs | 4,800 |" in text


def test_a_run_that_looked_further_ahead_is_told_apart() -> None:
    further = {**ran("mom-forecast", seen_in(3, 4800, 2.0, 3.0)), "ahead": 60.0}
    assert "| mom with forecast, 60 s ahead | 3 |" in days_text([unsqueezed(), further])


def test_a_day_that_differs_is_not_counted_as_a_usual_morning() -> None:
    text = days_text([unsqueezed(), ran("mom", seen_in(4, 4800, 2.0, 3.0, differs=True))])
    assert "mom none of what was tried" in text


def test_what_ended_before_a_morning_has_no_figures_of_it() -> None:
    text = days_text([unsqueezed(), ran("nothing", ended="host exhausted")])
    assert "| no manager | host exhausted on day 2, 23:10, with 3,712 MiB taken, 0 killed | - |" in text
    assert "no manager none of what was tried" in text
    assert "nan" not in text


@pytest.mark.parametrize("change", [{"kills": 1}, {"grown": 7}, {"mean": 2.2}, {"slowest": 3.2}, {"mean": None, "slowest": None}])
def test_a_morning_is_not_as_fast_where_one_burst_is_slow_or_missing_or_a_program_was_killed(change: dict[str, Any]) -> None:
    seen = seen_in(3, 4000, 2.0, 3.0)
    assert as_fast(seen, REFERENCE)
    assert not as_fast({**seen, **change}, REFERENCE)


def test_without_unsqueezed_days_nothing_is_compared() -> None:
    assert "Nothing has been seen unsqueezed yet." in days_text([ran("mom", seen_in(3, 4000, 2.1, 3.1))])
    assert days_text([]) == "Nothing has been measured yet."
