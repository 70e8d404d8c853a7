"""The balloon law on two hosts with one difference: effects on a guest."""

from collections.abc import Callable, Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_guests import GIB, LIMITS, MIB, Fields, a_guest, a_known_guest, sizes_on
from test_balloon_policy import HARD, LOW, MARGIN, NEED, ROOM, TARGET, TIGHT, idle, poor, targets
from test_balloon_properties import STEP, assert_safe, crowds, guests, hosts, number

from mom_core import Value
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters


def freed(freed_kib: float = 600 * MIB, **more: Value) -> dict[str, Value]:
    """Return a guest that fills its memory with page cache, and has used and freed memory."""
    return idle(freed_kib, cache=300 * MIB) | {"mem_cache_share": 0.8} | more


def untouched() -> dict[str, Value]:
    """Return such a guest that has never touched most of its memory. A balloon takes that first, and the host gains nothing."""
    return a_known_guest(8 * GIB, NEED, peak=NEED, cache=GIB, mem_cache_share=0.8, balloon_max=8 * GIB)


class TestMemoryThatHoldsNothing:
    def test_what_the_host_has_backed_goes_first_and_what_it_has_not_keeps_nobody_from_being_swept(self) -> None:
        crowd = {f"untouched{n}": untouched() for n in range(10)} | {"freed": freed(), "swept": idle(900 * MIB)}
        assert targets(TARGET - 500 * MIB, crowd) == {"freed": 2 * GIB - 500 * MIB}
        found = targets(TARGET - GIB, crowd)
        assert 2 * GIB - 700 * MIB < found["freed"] <= 2 * GIB - 600 * MIB
        assert found["swept"] < 2 * GIB
        assert sum(8 * GIB - size for name, size in found.items() if name.startswith("untouched")) <= 424 * MIB

    def test_it_is_used_up_before_margins_are_touched(self) -> None:
        found = targets(TIGHT - 500 * MIB, untouched=untouched(), tight=a_guest(size=NEED + 2 * MARGIN))
        assert found["tight"] < NEED + 2 * MARGIN
        assert found["untouched"] <= 8 * GIB - 5 * BALLOON_KIB_PER_SECOND

    def test_below_the_hard_watermark_a_guest_that_waits_for_its_disk_gives_no_more_than_it_would_else(self) -> None:
        host = {"available": LOW - 1, "host_free": HARD + 2 * MIB}
        well, waiting = a_guest(size=2 * GIB, mem_unused=900 * MIB), a_guest(size=2 * GIB, mem_unused=900 * MIB, major_fault=900)
        assert targets(**host, a=waiting) == targets(**host, a=well) == {"a": 2 * GIB - (HARD + 2 * MIB - LOW + 1)}  # type: ignore[arg-type]  # names of arguments


class TestWhatIsGivenBack:
    @pytest.mark.parametrize("size", [128 * MIB, 2 * GIB])
    def test_a_guest_gets_all_back_however_small_it_is(self, size: int) -> None:
        has = int(0.7 * size)
        for cycle in range(100):
            found = targets(ROOM + 5 * GIB, a=a_guest(has, size / 16, balloon_max=size, mem_cache_share=1.0))
            assert (found.get("a", has) == has) == (has == size), cycle
            has = found.get("a", has)
        assert has == size

    def test_where_all_shares_are_small_some_get_a_step(self) -> None:
        taken = {f"g{n}": a_guest(size=GIB) for n in range(100)}
        assert list(targets(ROOM + 5.5 * STEP, taken).values()) == [GIB + STEP] * 5
        fill = {f"g{n}": a_known_guest(900 * MIB, NEED, peak=GIB, mem_cache_share=0.8) for n in range(100)}
        assert list(targets(TARGET + 3 * STEP, fill).values()) == [900 * MIB + STEP] * 3
        out = {f"g{n}": poor() for n in range(100)}
        assert list(targets(LOW + 3 * STEP, out).values()) == [number(poor()["balloon_cur"]) + STEP] * 3, "less than a step each helps none"
        swap = {f"g{n}": a_guest(size=NEED + 100 * MIB, swap_in=5000) for n in range(100)}
        assert list(targets(HARD + 3 * STEP, swap).values()) == [NEED + 100 * MIB + STEP] * 3


# --- random numbers ------------------------------------------------------------------------------------------------------------


def decided(
    host: Fields, crowd: list[dict[str, Value]], parameters: LawParameters, limits: ShrinkLimits = LIMITS, interval: float = 5.0
) -> list[tuple[float | None, ReasonCode]]:
    crowd_by_name, goal = {f"g{place:03}": one for place, one in enumerate(crowd)}, host["balloon_goal"]
    found = sizes_on({**host, "balloon_goal": None}, crowd_by_name, parameters, limits=limits, interval=interval, goal=goal)
    return [(one.target, one.code) for one in found.values()]


WORSE: Final[Mapping[str, Callable[[Fields], dict[str, Value]]]] = {
    "is promised more": lambda one: {"balloon_min": int((number(one["balloon_min"]) + number(one["balloon_max"])) / 2)},
    "is dearer": lambda one: {"reclaim_cost": 2 * (number(one["reclaim_cost"]) or 1)},
    "was just started": lambda one: {"balloon_start_rest": 12.0},
    "cannot be counted on": lambda one: {"balloon_obstacle": "it gives nothing"},
}


@pytest.mark.long
@given(host=hosts(), crowd=st.lists(guests(steady=True), min_size=1, max_size=6), how=st.sampled_from(sorted(WORSE)))
def test_a_guest_of_which_less_may_be_taken_is_left_no_less(host: dict[str, Value], crowd: list[dict[str, Value]], how: str) -> None:
    size, other = number(crowd[0]["balloon_cur"]), [{**crowd[0], **WORSE[how](crowd[0])}, *crowd[1:]]
    (before, code), (after, _) = (decided(host, those, LawParameters())[0] for those in (crowd, other))
    if code is not ReasonCode.SWEEP:  # a swept guest soon has its headroom back; another may be trimmed
        assert (size if after is None else after) >= (size if before is None else before) - STEP


ENDS: Final[Mapping[str, tuple[object, object]]] = {
    "margin": ("0B", "1TiB"), "margin_percent": (0, 1000), "target_headroom": (0, 100), "sweep_step": ("1MiB", "1TiB"),
    "growth_rate": ("0B", "1TiB"), "return_above": (1, 100), "tight_below": (0, 1),
}  # fmt: skip


@pytest.mark.long
@given(host=hosts(), crowd=crowds, law=st.fixed_dictionaries({}, optional={name: st.sampled_from(both) for name, both in ENDS.items()}))
@settings(max_examples=4 * settings().max_examples)
def test_whatever_an_operator_sets_sizes_are_safe_and_guests_get_together_no_more_than_there_is(
    host: dict[str, Value], crowd: list[dict[str, Value]], law: dict[str, object]
) -> None:
    grown = 0.0
    for guest, (target, code) in zip(crowd, decided(host, crowd, LawParameters.model_validate(law)), strict=True):
        assert_safe(guest, target)
        if target is not None and code not in {ReasonCode.PROMISED, ReasonCode.HEADROOM_BACK}:
            grown += max(0.0, target - number(guest["balloon_cur"]))
    assert grown <= number(host["mem_really_available"]) + len(crowd)
