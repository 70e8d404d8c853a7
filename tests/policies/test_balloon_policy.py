"""The balloon law: suggestions in one cycle, and effects over minutes on a simulated host."""

from collections.abc import Mapping
from itertools import pairwise
from math import ceil
from pathlib import Path

import pytest
from law_guests import BESIDE, GIB, HIDDEN, LAW, MIB, Fields, a_guest, a_known_guest, sizes_on

from mom_core import Report, Status, Value, as_number
from mom_devkit import PluginRun, run_plugins
from mom_kvm import RunSummary
from mom_plugins_balloon.parameters import LawParameters

TARGET, HARD, LOW = 4 * GIB, 512 * MIB, 256 * MIB
"""High, hard and low watermark of the host in these tests."""
TIGHT, ROOM = 0.7 * TARGET, 1.5 * TARGET
"""Below the first, guests release margins. Above the second, mom returns memory."""


def margin(need: float) -> float:
    return 80 * MIB + 0.25 * need


def room(need: float, peak: float) -> float:
    """Return the size for a burst."""
    return peak + 0.6 * (margin(need) + 0.25 * (peak - need))


def targets(
    available: float | None,
    crowd: Mapping[str, Fields] | None = None,
    *,
    parameters: LawParameters = LAW,
    reserved: float = 0,
    goal: str = "balanced",
    cold: float | None = None,
    host_free: float | None = None,
    reaction: float | None = None,
    **guests: Fields,
) -> dict[str, int]:
    """Return the suggested sizes, keyed by guest.

    :param available: available memory of the host
    :param reserved: part of it that is reserved
    :param cold: memory gained by cold memory in the last cycle
    """
    host: dict[str, Value] = {
        "mem_really_available": None if available is None else int(available),
        "mem_watermark_high": TARGET if host_free is None else host_free, "mem_watermark_hard": HARD, "mem_watermark_low": LOW,
        "mem_reserved": int(reserved), "offload_net": cold, "balloon_reaction": reaction,
    }  # fmt: skip
    found = sizes_on(host, {**(crowd or {}), **guests}, parameters, goal=goal)
    return {name: int(one.target) for name, one in found.items() if one.target is not None}


NEED, PEAK, BOTTOM = 512 * MIB, 1024 * MIB, 544 * MIB
MARGIN = margin(NEED)


def idle(freed: float = 400 * MIB, **more: Value) -> dict[str, Value]:
    """Return a guest that has used and freed memory."""
    return a_known_guest(2 * GIB, NEED, peak=PEAK, idle=freed, **more)  # type: ignore[arg-type]  # names of fields


def swept(size: float = BOTTOM, **more: Value) -> dict[str, Value]:
    return a_known_guest(size, NEED, peak=PEAK) | {"balloon_target": BOTTOM, "balloon_target_age": 0.6} | more


def filler(size: float, need: float = NEED, **more: Value) -> dict[str, Value]:
    """Return a guest that fills its memory with page cache."""
    return a_known_guest(size, need, peak=PEAK, mem_cache_share=0.8) | more


def poor(taken: float = 100 * MIB, usable: float = 40 * MIB, **more: Value) -> dict[str, Value]:
    """Return a guest that runs out of memory."""
    return a_guest(size=NEED + usable, need=NEED, balloon_max=int(NEED + usable + taken), **more)


# Available memory of the host, the guest, and the suggested size, if any.
ALONE: dict[str, tuple[float, Fields, float | None]] = {
    "what holds nothing is given at once": (TIGHT, a_guest(), NEED + 2 * MARGIN),
    "of page cache half of what is beyond comfort is given": (TIGHT, a_guest(mem_unused=100 * MIB), (2 * GIB + NEED + 2 * MARGIN) / 2),
    "nothing is given beyond the margin": (TIGHT, a_guest(size=NEED + 2 * MARGIN), None),
    "but when the host lacks much": (TIGHT - GIB, a_guest(size=NEED + 2 * MARGIN), NEED + 1.5 * MARGIN),
    "nothing is given of the margin": (HARD, a_guest(size=NEED + MARGIN), None),
    "but when the host is hard up": (LOW, a_guest(size=NEED + MARGIN), NEED + MARGIN - 0.75 * MARGIN / 2),
    "the operator's guarantee limits what is given": (0, a_guest(guest_guarantee=1536 * MIB), 1536 * MIB),
    "one that swaps gives nothing": (HARD + GIB, a_guest(swap_in=5000), None),
    "one that has used and freed memory gives that and no more": (TARGET - 300 * MIB, idle(), 2 * GIB - 400 * MIB),
    "one that never grows is left with little more than its need": (TARGET - 2 * GIB, idle(1600 * MIB, mem_growth_rate=0), NEED + 32 * MIB),
    "one that was just started gives nothing": (TIGHT - GIB, a_guest(balloon_start_rest=12.0), None),
    "one with old statistics is not swept": (TARGET - GIB, idle(stats_age=3.01), None),
    "one that rests after a sweep is not swept": (TARGET - GIB, idle(sweep_rest=2.0), None),
    "for a sweep the host must lack something": (TARGET, idle(), None),
    "for a sweep the guest must have something": (TARGET - GIB, idle(40 * MIB), None),
    "one that grows is not swept": (TARGET - GIB, idle(mem_used_before=400 * MIB), None),
    "one that was just resized is not swept": (TARGET - GIB, idle(balloon_target_age=3.0), None),
    "without what QEMU holds it is not swept": (TARGET - GIB, idle() | {"qemu_overhead": None}, None),
    "its guarantee is the bottom": (TARGET - 2 * GIB, idle(1600 * MIB, balloon_min=1000 * MIB), 1000 * MIB),
    "the balloon goes through what the host has got back": (TARGET - 300 * MIB, idle(mem_hollow=300 * MIB), 2 * GIB - 700 * MIB),
    "but not if the guest reports that": (TARGET - 300 * MIB, idle(mem_hollow=300 * MIB, balloon_reporting=1), 2 * GIB - 400 * MIB),
    "what sweeps have missed is not swept for again": (TARGET - GIB, idle(430 * MIB, sweep_missed=400 * MIB), None),
    "below the low watermark a sweep goes deeper": (LOW - 1, idle(430 * MIB, sweep_missed=400 * MIB), 2 * GIB - 430 * MIB),
    "while it gives it is left to it": (TARGET - GIB, swept(800 * MIB), None),
    "one that grows meanwhile has its room at once": (TARGET - GIB, swept(800 * MIB, mem_used_before=NEED - HIDDEN - 100 * MIB), 2 * GIB),
    "a sweep that has begun ends by itself": (TARGET - GIB, swept(800 * MIB, balloon_target_age=5.0, sweep_under_way=1), None),
    "when the host is hard up there is no room to give": (HARD, swept(), None),
    "a host that lacks memory has no room for page cache": (TARGET - 100 * MIB, filler(800 * MIB), None),
    "for page cache there is as much room as the host has": (TARGET + 100 * MIB, filler(800 * MIB), 900 * MIB),
    "one that runs out grows by half of what was taken if that is more": (TARGET + GIB, poor(taken=1000 * MIB), NEED + 540 * MIB),
    "it does not grow when the host has nearly nothing": (LOW, poor(usable=20 * MIB), None),
    "below its guarantee it grows to it": (TARGET + GIB, a_guest(size=GIB, need=100 * MIB, balloon_min=1800 * MIB), 1800 * MIB),
    "and no further": (LOW - 1, a_guest(size=GIB, need=GIB - 20 * MIB, balloon_min=GIB + 40 * MIB), GIB + 40 * MIB),
    "a burst does not go on beyond its peak": (TARGET + GIB, filler(room(NEED, PEAK), 800 * MIB, mem_usable_soon=0), None),
    "a forecast of more than is usable takes nothing": (LOW, a_guest(size=2 * GIB, need=2000 * MIB, mem_usable_soon=GIB), None),
    "a tenth comes back in a cycle": (ROOM + 5 * GIB, a_guest(size=GIB, mem_cache_share=1.0), GIB + 0.1 * 2 * GIB),
    "what is missing comes back to the last KiB": (ROOM + 5 * GIB, a_guest(size=2 * GIB - 3), 2 * GIB),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_guest_that_is_alone_has_the_size_that_follows_from_what_the_host_has(name: str) -> None:
    available, guest, size = ALONE[name]
    assert targets(available, a=guest) == ({} if size is None else {"a": int(size)})


def test_below_the_low_watermark_guests_grow_to_what_they_are_promised() -> None:
    promised = {name: a_guest(size=GIB, need=100 * MIB, balloon_min=GIB + 200 * MIB) for name in "abc"}
    assert targets(LOW - 1, promised) == dict.fromkeys("abc", GIB + 200 * MIB)


def test_what_the_host_gives_to_one_as_it_is_promised_is_not_given_to_another_too() -> None:
    needy = {"b": a_guest(size=GIB, need=GIB - 10 * MIB)}
    assert targets(LOW + 100 * MIB, needy, a=a_guest(size=GIB, need=GIB - 10 * MIB))["b"] > GIB
    promised = targets(LOW + 100 * MIB, needy, a=a_guest(size=GIB, need=600 * MIB, guest_guarantee=1536 * MIB))
    assert promised == {"a": 1536 * MIB, "b": GIB}


class TestWhenTheHostLacksMemory:
    def test_guests_give_in_proportion_to_what_they_can_spare_beyond_their_comfort(self) -> None:
        decided = targets(TARGET - 300 * MIB, idle=a_guest(need=400 * MIB), busy=a_guest(need=800 * MIB))
        spare = {"idle": 1648 * MIB - 2 * margin(400 * MIB), "busy": 1248 * MIB - 2 * margin(800 * MIB)}
        given = {name: 2 * GIB - size for name, size in decided.items()}
        assert sum(given.values()) == pytest.approx(300 * MIB, abs=2)
        assert given["idle"] / given["busy"] == pytest.approx(spare["idle"] / spare["busy"], rel=1e-3)

    def test_memory_that_holds_nothing_goes_before_page_cache(self) -> None:
        decided = targets(TARGET - 300 * MIB, empty=a_guest(), full=a_guest(mem_unused=50 * MIB))
        assert decided.keys() == {"empty"}

    def test_cold_memory_is_counted_on_before_margins_and_room_for_bursts_are_touched(self) -> None:
        beyond = a_guest(size=512 * MIB + 2 * margin(512 * MIB))
        assert "a" in targets(TIGHT - GIB, a=beyond)
        assert targets(TIGHT - GIB, cold=GIB + 10 * MIB, a=beyond) == {}
        within = a_guest(size=512 * MIB + margin(512 * MIB))
        assert "a" in targets(LOW, a=within)
        assert targets(LOW, cold=TIGHT - LOW, a=within) == {}

    def test_page_cache_that_no_guest_needs_goes_before_cold_memory(self) -> None:
        guest = a_known_guest(size=2 * GIB, need=512 * MIB, peak=600 * MIB, cache=GIB)
        assert targets(0.9 * TARGET, a=guest, cold=GIB) == targets(0.9 * TARGET, a=guest)

    def test_a_guest_gives_no_more_than_a_balloon_moves_in_a_cycle(self) -> None:
        large = a_guest(size=64 * GIB, balloon_max=64 * GIB)
        assert targets(0, host_free=20 * GIB, a=large) == {"a": 64 * GIB - 5 * 900_000}

    def test_a_guest_is_left_alone_until_its_statistics_are_newer_than_its_size(self) -> None:
        assert targets(0, a=a_guest(balloon_target_age=0.5)) == {}
        assert targets(0, a=a_guest(balloon_target_age=1.5)).keys() == {"a"}

    def test_what_a_guest_does_not_give_is_not_counted_on(self) -> None:
        lacking = TARGET - 300 * MIB
        both = targets(lacking, a=a_guest(), b=a_guest())
        assert both["a"] == both["b"] > 2 * GIB - 200 * MIB
        alone = targets(lacking, a=a_guest(), b=a_guest(balloon_obstacle="the guest's memory is locked"))
        assert alone.keys() == {"a"}
        assert alone["a"] == pytest.approx(2 * GIB - 300 * MIB, abs=16 * MIB), "the other gives it all"

    def test_when_it_is_hard_up_one_that_waits_for_its_disk_gives_what_one_that_swaps_does_not(self) -> None:
        assert targets(0, a=a_guest(major_fault=900), b=a_guest(swap_in=5000)).keys() == {"a"}
        waiting = NEED + 130 * MIB
        assert targets(0, a=a_guest(waiting, major_fault=900))["a"] < waiting, "also what it would get if the host had it"

    def test_a_guest_keeps_the_headroom_that_it_got_when_it_ran_out(self) -> None:
        spared = 300 * MIB
        guests = {"spared": a_guest(mem_kept_headroom=spared), "other": a_guest()}
        for _ in range(10):
            found = targets(0, guests)
            for name, size in found.items():
                guests[name] = guests[name] | {"balloon_cur": size, "mem_usable": size - int(NEED)}
        kept = {name: as_number(fields["mem_usable"]) or 0.0 for name, fields in guests.items()}
        assert spared <= kept["spared"] < spared + 32 * MIB
        assert kept["other"] < MARGIN

    def test_below_the_low_watermark_all_is_taken_at_once_and_above_it_what_is_lacking(self) -> None:
        many = {f"g{n:02d}": a_guest(need=100 * MIB, mem_unused=50 * MIB) for n in range(20)}
        given = {available: sum(2 * GIB - size for size in targets(available, many).values()) for available in (LOW, LOW - 1)}
        assert given[LOW] == pytest.approx(TARGET - LOW, rel=0.02)
        assert given[LOW - 1] > 2 * (TARGET - LOW)

    def test_small_shares_are_given_by_those_that_can_spare_most(self) -> None:
        many = {f"g{n:02d}": a_guest(need=512 * MIB) for n in range(20)}
        assert targets(TARGET - 20 * MIB, many, rich=a_guest(need=100 * MIB)) == {"rich": 2 * GIB - 16 * MIB}
        assert len(targets(TARGET - 100 * MIB, many)) == 7

    @pytest.mark.parametrize("lacking", [16, 300, 3000])
    def test_what_is_lacking_is_covered_in_two_cycles_and_not_exceeded_by_more_than_a_step(self, lacking: int) -> None:
        sizes = {f"g{n:02d}": 2.0 * GIB for n in range(20)}
        given = 0.0
        for _ in range(2):
            many = {name: a_guest(size=size, need=(100 + 30 * int(name[1:])) * MIB) for name, size in sizes.items()}
            sizes |= targets(TARGET - lacking * MIB + given, many)
            given = sum(2 * GIB - size for size in sizes.values())
        assert (lacking - 16) * MIB < given <= (lacking + 16) * MIB + 20


def given(available: float, crowd: Mapping[str, Fields]) -> dict[str, int]:
    """Return how much each guest releases."""
    return {name: cur - size for name, size in targets(available, crowd).items() if isinstance(cur := crowd[name]["balloon_cur"], int)}


COMPUTE, ORDINARY, GOLD, PLATINUM = 0.5, 1.0, 4.0, 8.0
"""Costs of taking memory from guests of the service classes."""


class TestWhatItCosts:
    def full(self, cost: float | None, size: float = 4 * GIB) -> Fields:
        """Return a guest that can release page cache, but no empty memory."""
        return a_guest(size=size, balloon_max=int(size), mem_unused=0, reclaim_cost=cost)

    @pytest.mark.parametrize(("cost", "ratio"), [(COMPUTE, 2), (2.0, 1 / 2), (GOLD, 1 / 4), (PLATINUM, 1 / 8)])
    def test_a_guest_gives_of_what_hurts_what_others_give_divided_by_its_cost(self, cost: float, ratio: float) -> None:
        gave = given(TARGET - 500 * MIB, {"ordinary": self.full(ORDINARY), "other": self.full(cost)})
        assert sum(gave.values()) == pytest.approx(500 * MIB, abs=2)
        assert gave["other"] / gave["ordinary"] == pytest.approx(ratio, rel=1e-3)

    def test_dear_guests_make_up_for_what_cheap_ones_cannot_give(self) -> None:
        costs = {"compute": COMPUTE, "ordinary": ORDINARY, "gold": GOLD, "platinum": PLATINUM}
        guests = {name: self.full(cost, size=1536 * MIB) for name, cost in costs.items()}
        all_of_it = 304 * MIB  # half of the memory above its headroom
        gave = given(TARGET - 2.5 * all_of_it, guests)
        assert sum(gave.values()) == pytest.approx(2.5 * all_of_it, abs=4)
        assert gave["compute"] == gave["ordinary"] == all_of_it
        assert gave["gold"] == pytest.approx(2 * gave["platinum"], abs=2)

    @pytest.mark.parametrize("order", [("dear", "cheap", "middle"), ("cheap", "middle", "dear")])
    def test_of_guests_with_as_much_to_sweep_the_cheap_are_swept_first(self, order: tuple[str, ...]) -> None:
        costs = {"dear": PLATINUM, "cheap": COMPUTE, "middle": ORDINARY}
        guests = {name: a_known_guest(idle=400 * MIB, reclaim_cost=costs[name]) for name in order}
        assert targets(TARGET - 300 * MIB, guests).keys() == {"cheap"}
        assert targets(TARGET - 700 * MIB, guests).keys() == {"cheap", "middle"}
        assert targets(TARGET - 1100 * MIB, guests).keys() == {"cheap", "middle", "dear"}


class TestSweeps:
    @pytest.mark.parametrize(
        ("told", "keeps"),
        [
            ({}, 0.5 * 320 * MIB),  # conservative while unknown
            ({"mem_growth_rate": 100 * MIB}, 50 * MIB),
            ({"mem_growth_rate": 100 * MIB, "balloon_autodeflate": 1}, 32 * MIB),
        ],
    )
    def test_it_is_left_with_what_it_takes_until_it_can_have_its_room_back(self, told: Fields, keeps: float) -> None:
        assert targets(TARGET - 2 * GIB, a=idle(1600 * MIB) | dict(told)) == {"a": NEED + keeps}
        assert targets(LOW - 1, a=idle(1600 * MIB) | dict(told)) == {"a": NEED + 32 * MIB}, "below the low watermark"

    def test_the_reaction_is_that_which_was_measured(self) -> None:
        one = idle(1600 * MIB, mem_growth_rate=200 * MIB)
        assert targets(TARGET - 2 * GIB, reaction=0.3, a=one) == {"a": NEED + 60 * MIB}

    def test_a_burst_that_is_asked_for_in_one_piece_fits_as_long_as_the_host_is_not_tight(self) -> None:
        peak = NEED + 900 * MIB
        one = a_known_guest(2 * GIB, NEED, peak=peak, idle=1600 * MIB, mem_growth_rate=0, mem_burst=900 * MIB)
        decided = targets(0.75 * TARGET, a=one)
        assert decided["a"] - HIDDEN >= 900 * MIB, "or its kernel refuses it"
        assert targets(0.65 * TARGET, a=one)["a"] < decided["a"]

    @pytest.mark.parametrize(("freed_age", "given"), [(0.0, 0), (4.9, 0), (5.0, 400 * MIB), (None, 400 * MIB)])
    def test_one_that_reports_free_pages_is_swept_for_what_is_left_when_it_has_settled(self, freed_age: float | None, given: int) -> None:
        one = idle(balloon_reporting=1, mem_freed_age=freed_age)
        assert targets(TARGET - 300 * MIB, a=one) == ({"a": 2 * GIB - given} if given else {})
        assert targets(TARGET - 300 * MIB, a=one | {"balloon_reporting": 0}) == {"a": 2 * GIB - 400 * MIB}

    @pytest.mark.parametrize(("burst", "given"), [(150 * MIB, 250 * MIB), (360 * MIB, 0), (900 * MIB, 0)])
    def test_what_it_takes_again_in_bursts_is_left_to_it_while_the_host_has_room(self, burst: int, given: int) -> None:
        one = idle(balloon_reporting=1, mem_burst=burst)
        assert targets(TARGET - 300 * MIB, a=one) == ({"a": 2 * GIB - given} if given else {})
        assert targets(HARD - 300 * MIB, a=one)["a"] <= 2 * GIB - 400 * MIB

    def test_what_is_in_the_hosts_swap_is_neither_swept_for_nor_hides_what_was_freed(self) -> None:
        one = a_known_guest(idle=300 * MIB)
        away = dict.fromkeys(("rss", "rss_before"), int(as_number(one["rss"]) or 0) - 200 * MIB) | {"host_swap": 200 * MIB}
        assert targets(3 * GIB, a=one | away) == targets(3 * GIB, a=one)
        all_away = dict.fromkeys(("rss", "rss_before"), BESIDE) | {"host_swap": 800 * MIB}
        assert targets(3 * GIB, a=one | all_away) == {}

    def test_those_with_most_give_first_and_no_more_than_it_takes(self) -> None:
        guests = {"a": idle(100 * MIB), "b": idle(400 * MIB), "c": idle(380 * MIB)}
        assert targets(TARGET - 350 * MIB, guests).keys() == {"b"}
        assert targets(TARGET - 700 * MIB, guests).keys() == {"b", "c"}

    @pytest.mark.parametrize("hollow", [0, GIB, 60 * GIB])
    def test_a_large_one_gives_what_its_balloon_moves_in_a_cycle_whatever_that_goes_through(self, hollow: int) -> None:
        large = a_known_guest(256 * GIB, 64 * GIB, peak=64 * GIB, idle=128 * GIB, balloon_max=256 * GIB, mem_hollow=hollow)
        assert targets(TARGET - GIB, a=large) == {"a": 256 * GIB - hollow - 5 * 900_000}

    def test_page_cache_is_taken_only_when_that_does_not_suffice(self) -> None:
        filler = a_known_guest(need=256 * MIB, peak=256 * MIB, cache=1750 * MIB)
        assert targets(TARGET - 300 * MIB, a=idle(), filler=filler).keys() == {"a"}
        assert targets(TARGET - GIB, a=idle(), filler=filler).keys() == {"a", "filler"}


class TestRoomForBursts:
    @pytest.mark.parametrize("available", [1.25 * HARD, TARGET - GIB, TARGET + GIB])
    def test_one_that_has_given_gets_all_of_it_back_at_once(self, available: float) -> None:
        assert targets(available, a=swept()) == {"a": 2 * GIB}

    def test_when_the_host_is_hard_up_room_is_taken(self) -> None:
        assert targets(HARD - 50 * MIB, a=a_known_guest(peak=PEAK))["a"] < 2 * GIB

    def test_what_all_guests_get_back_is_no_more_than_the_host_has(self) -> None:
        """Guests that fill their memory, and guests that get memory back, share it."""
        filler = a_known_guest(8 * GIB, 7 * GIB, peak=20 * GIB, cache=900 * MIB, balloon_max=32 * GIB)
        taken = a_known_guest(30 * GIB, 20 * GIB, peak=20 * GIB, cache=9 * GIB, balloon_max=64 * GIB)
        guests = {"filler1": filler, "filler2": filler} | {f"taken{one}": taken for one in range(4)}
        for available in (24 * GIB, 40 * GIB):
            sizes = targets(available, guests)
            assert sizes["filler1"] == sizes["filler2"] > 8 * GIB
            assert len({sizes.get(name) for name in guests if name.startswith("taken")}) == 1, "those of one kind get the same"
            assert sum(size - int(str(guests[name]["balloon_cur"])) for name, size in sizes.items()) <= available - TARGET

    def test_with_safety_as_the_goal_a_guest_is_trimmed_to_what_it_was_seen_to_need(self) -> None:
        comfort = PEAK + margin(NEED) + 0.25 * (PEAK - NEED)
        assert targets(TARGET - 2 * GIB, goal="safe", a=a_known_guest(peak=PEAK))["a"] == pytest.approx(comfort, abs=2)


class TestWhenAGuestRunsOutOfMemory:
    def test_it_grows_at_once_to_one_and_a_half_of_its_margin(self) -> None:
        decided = targets(TARGET + GIB, a=poor(taken=300 * MIB))
        assert decided["a"] == pytest.approx(NEED + 1.5 * margin(NEED), abs=2)

    def test_the_others_give_for_it_when_the_host_has_just_enough(self) -> None:
        decided = targets(TARGET, poor=poor(), rich=a_guest(need=100 * MIB))
        assert decided["poor"] == NEED + 140 * MIB
        assert 2 * GIB - decided["rich"] == pytest.approx(100 * MIB, abs=2)

    def test_what_a_large_one_wants_leaves_a_small_one_what_it_wants(self) -> None:
        large = poor(taken=40 * GIB)
        decided = targets(LOW + GIB, small=poor(), large=large)
        assert decided == {"small": NEED + 140 * MIB, "large": NEED + 40 * MIB + GIB - 100 * MIB}
        assert targets(LOW + 100 * MIB, small=poor(), large=large)["small"] == NEED + 90 * MIB, "each gets half of what there is"

    def test_one_that_will_have_run_out_grows_now(self) -> None:
        assert targets(TARGET + GIB, a=poor(usable=300 * MIB, taken=500 * MIB, mem_usable_soon=0)).keys() == {"a"}


@pytest.mark.parametrize("sign", [{"swap_in": 4000}, {"major_fault": 900}], ids=lambda sign: next(iter(sign)))
class TestWhenAGuestSuffers:
    def suffering(self, margins: float, sign: Fields) -> dict[str, Value]:
        return a_guest(size=NEED + margins * margin(NEED), need=NEED, **sign)

    def test_it_grows_to_its_comfort(self, sign: Fields) -> None:
        decided = targets(TARGET + GIB, a=self.suffering(1.2, sign))
        assert decided["a"] == pytest.approx(NEED + 2 * margin(NEED), abs=2)

    def test_in_comfort_it_is_left_alone(self, sign: Fields) -> None:
        assert targets(TARGET, a=self.suffering(2.1, sign)) == {}

    def test_it_waits_while_the_host_is_hard_up_itself(self, sign: Fields) -> None:
        assert targets(HARD, a=self.suffering(1.2, sign)) == {}

    def test_it_grows_to_what_it_was_seen_to_wait_with(self, sign: Fields) -> None:
        waits = a_guest(size=NEED + 400 * MIB, need=NEED, mem_stall_floor=500 * MIB, **sign)
        assert targets(TARGET + GIB, a=waits) == {"a": NEED + 500 * MIB}


class TestWhenTheHostHasRoom:
    def test_no_more_is_given_back_than_there_is_room(self) -> None:
        decided = targets(ROOM + 100 * MIB, a=a_guest(size=GIB), b=a_guest(size=GIB))
        assert sum(size - GIB for size in decided.values()) == pytest.approx(100 * MIB, abs=4)

    def test_between_lack_and_room_nothing_is_done(self) -> None:
        for available in (TARGET - 15 * MIB, TARGET, (TARGET + ROOM) / 2, ROOM):
            assert targets(available, a=a_guest(size=GIB)) == {}


class TestWhenMemoryIsReserved:
    def test_not_what_a_guest_would_get_back_at_once_as_it_waits_without_it(self) -> None:
        waited = a_guest(size=NEED + 500 * MIB, need=NEED, mem_stall_floor=500 * MIB)
        assert targets(TARGET - 200 * MIB, reserved=200 * MIB, a=waited) == {}
        more = a_guest(size=NEED + 700 * MIB, need=NEED, mem_stall_floor=500 * MIB)
        given = targets(TARGET - 200 * MIB, reserved=200 * MIB, a=more)["a"]
        assert NEED + 500 * MIB <= given < NEED + 700 * MIB

    def test_nothing_is_given_back_from_it(self) -> None:
        assert targets(ROOM + GIB, reserved=GIB, a=a_guest(size=GIB)) == {}

    def test_a_guest_that_runs_out_comes_first(self) -> None:
        out = a_guest(size=GIB, need=GIB - 10 * MIB)
        assert targets(HARD + GIB, reserved=8 * GIB, out=out)["out"] > GIB


class TestParameters:
    def test_settings_change_them(self) -> None:
        assert targets(ROOM, a=a_guest()) == {}
        assert targets(ROOM, host_free=20 * GIB, a=a_guest()).keys() == {"a"}
        tight = targets(0, parameters=LawParameters(margin=0, margin_percent=0), a=a_guest())
        assert tight == {"a": 544 * MIB}, "what the gate keeps above its need, it keeps"

    def test_of_ten_thousand_guests_as_many_give_as_it_takes(self) -> None:
        many = {f"g{n}": a_guest() for n in range(10_000)}
        assert len(targets(0, many)) == ceil(TARGET / (16 * MIB)), "a least step each"


def simulated(folder: Path, seconds: float, **sim: object) -> PluginRun:
    """Run a host under load for some minutes, with mom's law."""
    settings = {"guests": 16, "host_memory": "32GiB", "sold": 1.25, "load_for": "300s", "load_after": "60s"} | sim
    run = run_plugins(folder, {"sim": settings, "balloon": {}, "policy": {}}, cycles=int(seconds / 5))
    assert not [one.message for report in run.reports for one in report.problems if not one.message.startswith("the host has")]
    return run


def of_host(report: Report, name: str) -> float:
    return float(str(report.snapshot.host.fields[name]))


def of_guest(report: Report, identity: str, name: str) -> float:
    return float(str(report.snapshot.guests[identity].fields[name]))


def taken(report: Report) -> float:
    return sum(map(RunSummary.taken_from, report.snapshot.guests.values()))


@pytest.mark.long
def test_pressure_is_relieved_and_memory_returned(tmp_path: Path) -> None:
    run = simulated(tmp_path, 600, load="9GiB", seed=1)
    before, under, after = (run.reports[seconds // 5 - 1] for seconds in (60, 300, 600))
    assert taken(before) == 0, "nothing is taken while nothing is wrong"
    assert of_host(before, "mem_really_available") > of_host(before, "mem_watermark_high")
    assert of_host(under, "swap_usage") == 0
    assert of_host(under, "mem_really_available") > 0.7 * of_host(under, "mem_watermark_high"), "without mom nothing would be left of it"
    assert taken(under) > 256 * MIB
    assert taken(after) == 0, "all of it comes back"


LARGE = """
title: A large guest
lasts: 10m
host: {memory: 64GiB, load: [{at: 150s, lasts: 450s, memory: 38GiB, growth: 200MiB}]}
guests:
  db: {memory: 48GiB, workload: {bursty: {base: 10%, burst: 75%, period: 1h, duty: 3%, phase: 0s}}, files: 2%}
"""
"""Scenario: a guest has used and freed 34 GiB; then a program takes more than the host has available."""


@pytest.mark.long
def test_a_large_guest_gives_what_it_has_freed_before_the_host_is_full(tmp_path: Path) -> None:
    scenario = tmp_path / "large.yaml"
    scenario.write_text(LARGE)
    run = run_plugins(tmp_path, {"sim": {"scenario": str(scenario)}, "balloon": {}, "policy": {}}, cycles=110)
    hard, last = of_host(run.reports[-1], "mem_watermark_hard"), run.reports[-1]
    assert min(of_host(report, "mem_really_available") for report in run.reports) > hard
    assert of_host(last, "mem_really_available") > of_host(last, "mem_watermark_high")
    assert taken(last) == 0, "it has its headroom"


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 4])
def test_no_guest_is_shrunk_below_what_it_was_known_to_need_or_waits_long_in_a_burst(tmp_path: Path, seed: int) -> None:
    reports = simulated(tmp_path, 500, load="8GiB", seed=seed).reports
    shrinks = longest = 0
    short: dict[str, int] = {}
    for index, report in enumerate(reports):
        for outcome in report.outcomes:
            identity, value = outcome.decision.entity.id, outcome.decision.value
            assert isinstance(value, int)
            if value < of_guest(report, identity, "balloon_cur"):
                shrinks += 1
                # Statistics are up to 8 s old here, so later needs of a burst are unknown.
                assert value >= min(of_guest(past, identity, "sim_need") for past in reports[max(0, index - 2) : index + 1])
        for identity in report.snapshot.guests:
            short[identity] = short.get(identity, 0) + 1 if of_guest(report, identity, "sim_squeezed") else 0
            longest = max(longest, short[identity])
    assert shrinks > 10
    assert seed != 4 or longest <= 2, "cycles in which a guest has less than it needs"


def test_nobody_gives_for_what_a_guest_holds_already_and_says_that_its_balloon_has() -> None:
    """The balloon's size comes from the guest's driver, but the host sees the RSS."""
    others = {f"g{n}": a_known_guest(2 * GIB, 600 * MIB, cache=900 * MIB, mem_cache_share=0.9) for n in range(8)}
    held = {"balloon_max": 8 * GIB, "rss": 8 * GIB, "rss_before": 8 * GIB, "mem_cache_share": 0.9}
    liar = a_known_guest(GIB, GIB - 10 * MIB, peak=8 * GIB) | held
    assert targets(TARGET + 100 * MIB, others | {"liar": liar}).keys() <= {"liar"}
    honest = liar | {"rss": GIB, "rss_before": GIB}
    assert targets(TARGET + 100 * MIB, others | {"honest": honest}).keys() > {"honest"}


CONSTANT = {"guests": 12, "load": "14GiB", "load_for": "1d"}
"""Settings with lasting pressure. With seed 1, some guests have bursts; with seed 4, none has."""


@pytest.mark.long
def test_under_constant_load_there_is_at_most_one_command_in_ten_minutes(tmp_path: Path) -> None:
    settled = 2400 // 5  # load from 60 s on, and page cache that settles
    # Without host swap: swapped memory would return as guests touch it, which is not a constant load.
    reports = simulated(tmp_path, 2400 + 600, **CONSTANT, seed=4, host_swap="0B").reports
    assert taken(reports[settled - 1]) > GIB
    assert len([one for report in reports[settled:] for one in report.outcomes if one.status is Status.APPLIED]) <= 1


@pytest.mark.long
def test_the_bursts_of_some_are_no_waves_for_others(tmp_path: Path) -> None:
    reports = simulated(tmp_path, 240 + 600, **{**CONSTANT, "load": "10GiB", "seed": 1}).reports
    guests = [guest.entity for guest in reports[-1].snapshot.guests.values()]
    assert any(guest.name.startswith("build") for guest in guests)
    for guest in guests:
        sizes = [of_guest(report, guest.id, "balloon_cur") for report in reports[48:]]
        steps = [after - before for before, after in pairwise(sizes) if after != before]
        reversals = sum(x * y < 0 for x, y in pairwise(steps))
        assert reversals <= (6 if guest.name.startswith("build") else 1), (guest.name, steps)  # returned memory after taking too much
