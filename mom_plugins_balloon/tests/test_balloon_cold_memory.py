"""What cold memory of guests counts for a launch: carefully, and only where it is known."""

from types import MappingProxyType

import pytest

from mom_core import Guest, Host, Snapshot, Value
from mom_core.testing import snapshot
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.room import Spare, counted_kib, gained_kib, seconds_to_free, spare_of

GIB = 1 << 20
NO_MARGIN = LawParameters(margin=0, margin_percent=0)
LIMITS = ShrinkLimits(64 << 10, 0.05, 15.0)


def seen(taken: Snapshot) -> BalloonedGuests:
    records = BalloonedGuests(8192.0)
    records.see(taken)
    return records


def a_guest(**fields: Value) -> Guest:
    known: dict[str, Value] = {"rss": 4 * GIB, "working_set": GIB, "working_set_age": 60.0}
    return Guest("a", "a", MappingProxyType({**known, **fields}))


def a_host(**fields: Value) -> Host:
    known: dict[str, Value] = {"offload_room": 8 * GIB, "offload_ratio": 4.0}
    return Host(fields=MappingProxyType({**known, **fields}))


def test_half_of_the_cold_memory_counts() -> None:
    assert counted_kib(a_guest()) == 1.5 * GIB


@pytest.mark.parametrize("unknown", [{"working_set_age": None}, {"working_set_age": 601.0}])
def test_unknown_or_old_working_set_counts_nothing(unknown: dict[str, Value]) -> None:
    assert counted_kib(a_guest(**unknown)) == 0.0


def test_gain_excludes_compressed_size() -> None:
    assert gained_kib(2 * GIB, a_host()) == 1.5 * GIB
    assert gained_kib(2 * GIB, a_host(offload_room=GIB)) == 0.75 * GIB


def test_refaulting_memory_is_no_gain() -> None:
    host = {"offload_room": GIB, "offload_ratio": 4.0, "mem_available": 32 * GIB}
    cold = {"rss": 4 * GIB, "working_set": GIB, "working_set_age": 60.0}
    for refaults, gain in ((0, 0.75 * GIB), (GIB // 10, 0.375 * GIB), (GIB, 0.0)):
        guests = seen(snapshot(host, {"a": {**cold, "offload_refaults": refaults}}))
        assert spare_of(guests, NO_MARGIN, LIMITS).cold == pytest.approx(gain, rel=0.001)


@pytest.mark.parametrize("unknown", [{"offload_room": None}, {"offload_ratio": 0.9}])
def test_unknown_swap_gains_nothing(unknown: dict[str, Value]) -> None:
    assert gained_kib(2 * GIB, a_host(**unknown)) == 0.0


def test_memory_of_balloon_and_swap_counts_once() -> None:
    host = {"offload_room": 8 * GIB, "offload_ratio": 4.0, "mem_available": 32 * GIB}
    told = {"balloon_cur": 4 * GIB, "balloon_max": 4 * GIB, "mem_usable": 3 * GIB, "stats_age": 1.0, "swap_in": 0, "swap_out": 0}
    cold = {"rss": 4 * GIB, "working_set": GIB, "working_set_age": 60.0}
    both = spare_of(seen(snapshot(host, {"a": {**told, **cold}})), NO_MARGIN, LIMITS)
    assert both.total > 1.5 * GIB
    assert both.cold == 0.0, "the balloon can give more than what counts as cold"
    alone = spare_of(seen(snapshot(host, {"a": cold})), NO_MARGIN, LIMITS)
    assert (alone.total, alone.cold) == (0.0, 0.75 * 1.5 * GIB)


def test_largest_guest_and_cold_guests_set_the_pace() -> None:
    host = {"offload_room": 8 * GIB, "offload_ratio": 4.0, "mem_available": 32 * GIB}
    told = {"balloon_max": 8 * GIB, "stats_age": 1.0, "swap_in": 0, "swap_out": 0}
    large, small = ({**told, "balloon_cur": size, "mem_usable": size - GIB, "rss": size} for size in (8 * GIB, 2 * GIB))
    cold = {"rss": 4 * GIB, "working_set": GIB, "working_set_age": 60.0}
    alone = spare_of(seen(snapshot(host, {"a": large})), NO_MARGIN, LIMITS)
    both = spare_of(seen(snapshot(host, {"a": large, "b": small, "c": cold})), NO_MARGIN, LIMITS)
    assert both.total > both.largest == alone.total > 6 * GIB
    assert both.cold_pace == pytest.approx(0.0025 * 4 * GIB)


def test_cold_memory_comes_later_than_balloon_memory() -> None:
    spare = Spare(1000.0, 1000.0, cold=600.0, cold_pace=10.0)
    assert seconds_to_free(900, spare, 5, NO_MARGIN) == seconds_to_free(900, Spare(1000.0, 1000.0), 5, NO_MARGIN)
    assert seconds_to_free(1600, spare, 5, NO_MARGIN) == 65.0
    assert seconds_to_free(1601, spare, 5, NO_MARGIN) is None
    assert seconds_to_free(100, Spare(0.0, 0.0, cold=600.0, cold_pace=10.0), 5, NO_MARGIN) == 15.0
