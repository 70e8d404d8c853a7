"""What simulated guests tell about themselves."""

from mom_plugins_sim.guest import MIB, new_guest
from mom_plugins_sim.statistics import SentStatistics
from mom_plugins_sim.workload import Constant, Workload

RATES = {"swap_in", "swap_out", "major_fault", "minor_fault"}


def fields(statistics, time):
    """What is known by these statistics at that moment."""
    told, age = statistics.by(time)
    known = {**told._asdict(), "stats_age": age}
    return {name: value for name, value in known.items() if value is not None}


def a_guest(swap=0.0):
    return new_guest(Workload(Constant(600 * MIB), files=100 * MIB, read_rate=MIB), 1024 * MIB, swap, 1.0)


def test_nothing_is_known_before_the_first_time():
    statistics = SentStatistics(5.0, due=3.0)
    statistics.take(a_guest(), 2.0)
    assert fields(statistics, 2.0) == {}


def test_rates_are_unknown_at_the_first_time_and_known_from_the_second_on():
    statistics, guest = SentStatistics(5.0, due=3.0), a_guest()
    statistics.take(guest, 3.0)
    first = fields(statistics, 4.0)
    assert first["stats_age"] == 1.0
    assert first["mem_usable"] == int(guest.usable)
    assert not RATES & first.keys()
    statistics.take(guest, 8.0)
    assert fields(statistics, 8.0).keys() >= RATES


def test_what_is_told_is_as_old_as_it_says():
    statistics, guest = SentStatistics(5.0, due=0.0), a_guest()
    statistics.take(guest, 0.0)
    usable = int(guest.usable)
    guest.anon += 100 * MIB
    statistics.take(guest, 4.0)
    assert fields(statistics, 4.0)["mem_usable"] == usable
    statistics.take(guest, 5.0)
    assert fields(statistics, 5.0)["mem_usable"] == usable - 100 * MIB


def test_stale_statistics_leave_only_their_age():
    statistics = SentStatistics(5.0, due=0.0)
    statistics.take(a_guest(), 0.0)
    assert "mem_usable" in fields(statistics, 15.0)
    assert fields(statistics, 16.0) == {"stats_age": 16.0}
