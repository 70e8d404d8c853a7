"""Forecasts in the balloon law: they change when and from which guests mom takes memory, and harm no guest."""

from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from law_guests import GIB, MIB, a_known_guest, law_on, sizes_on
from test_balloon_properties import assert_safe, guests, hosts, kib

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.share import SizeSuggestion
from mom_plugins_balloon.seen import guest_memories

NEED: Final = 512 * MIB
WANTED: Final = 4 * GIB
HOST: Final[Mapping[str, Value]] = {
    "mem_really_available": WANTED + GIB, "mem_watermark_high": WANTED, "mem_watermark_hard": 512 * MIB, "mem_watermark_low": 256 * MIB,
    "mem_reserved": 0, "offload_net": None,
}  # fmt: skip
HARM: Final = {ReasonCode.TRIM_MARGIN, ReasonCode.TRIM_BURST}
GIVES: Final = {ReasonCode.SWEEP, ReasonCode.TRIM_EMPTY, ReasonCode.TRIM_CACHE, *HARM}


def sizes(host: Mapping[str, Value], **crowd: Mapping[str, Value]) -> dict[str, SizeSuggestion]:
    """Return the suggestions, keyed by guest."""
    return sizes_on({**HOST, **host}, crowd)


def rises(more: int, after: float = 600.0, weight: float = 1.0, need: int = NEED) -> dict[str, Value]:
    """Return fields of a guest that is expected to soon use this much more."""
    used = need - 50 * MIB
    return {"mem_used_expected": used, "mem_used_expected_soon": used + more, "mem_rises_in": after, "mem_expected_weight": weight}


CALM: Final[dict[str, Value]] = {"mem_used_expected": NEED, "mem_used_expected_soon": NEED, "mem_expected_weight": 1.0}
"""Fields of a guest that is expected to use no more than now."""


def idle(freed: float = 600 * MIB, **more: Value) -> dict[str, Value]:
    """Return a guest that has used and freed memory."""
    return a_known_guest(2 * GIB, NEED, peak=GIB, idle=freed, **more)  # type: ignore[arg-type]  # names of fields


class TestRoomBeforeTheRise:
    def test_what_hurts_nobody_is_taken_before_guests_use_more(self) -> None:
        # The host has enough memory: without a forecast, the law takes nothing.
        crowd = {"rising": a_known_guest() | rises(1200 * MIB), "calm": idle()}
        assert sizes({}, **crowd)["calm"].code is ReasonCode.ENOUGH
        found = sizes({"host_rise_expected": 1200 * MIB}, **crowd)
        assert (found["calm"].code, found["rising"].target) == (ReasonCode.SWEEP, None)

    def test_no_more_than_it_takes(self) -> None:
        crowd = {"rising": a_known_guest() | rises(GIB), **{name: idle() for name in "abcdef"}}
        assert [one.code for one in sizes({"host_rise_expected": GIB + 300 * MIB}, **crowd).values()].count(ReasonCode.SWEEP) == 1
        assert [one.code for one in sizes({"host_rise_expected": 3 * GIB}, **crowd).values()].count(ReasonCode.SWEEP) == 4

    def test_what_the_rising_guest_holds_already_need_not_be_there_again(self) -> None:
        crowd = {"rising": idle() | rises(600 * MIB), "calm": idle()}
        host = {"mem_really_available": WANTED, "host_rise_expected": 600 * MIB}
        assert law_on({**HOST, **host}, crowd)[1] == 0
        assert sizes(host, **crowd)["calm"].code is ReasonCode.ENOUGH
        crowd["rising"] |= {"kernel_reserved": None}
        assert law_on({**HOST, **host}, crowd)[1] > 0, "how much it holds is unknown"

    def test_margins_and_headroom_for_bursts_are_never_taken_for_what_is_only_expected(self) -> None:
        lean = a_known_guest(NEED + 300 * MIB, NEED, peak=NEED, cache=200 * MIB)
        host = {"mem_really_available": WANTED, "host_rise_expected": 8 * GIB}
        assert {one.code for one in sizes(host, rising=a_known_guest() | rises(8 * GIB), lean=lean).values()}.isdisjoint(HARM)

    def test_memory_goes_back_to_guests_only_beyond_what_is_expected(self) -> None:
        small = a_known_guest(GIB, NEED, peak=600 * MIB, cache=400 * MIB)
        host = {"mem_really_available": int(1.6 * WANTED)}
        assert sizes(host, small=small)["small"].code is ReasonCode.GIVEN_BACK
        assert sizes(host | {"host_rise_expected": 2 * GIB}, small=small)["small"].target is None


class TestWhoIsAboutToUseMore:
    def test_it_is_left_what_it_has_used_and_freed_while_others_can_give(self) -> None:
        host = {"mem_really_available": WANTED - 500 * MIB}
        found = sizes(host, rising=idle(900 * MIB) | rises(GIB), calm=idle())
        assert (found["rising"].code, found["rising"].target) == (ReasonCode.SPARED, None)
        assert found["calm"].code is ReasonCode.SWEEP

    @pytest.mark.parametrize("available", [WANTED - GIB, 500 * MIB], ids=["others have too little", "below the hard watermark"])
    def test_else_it_gives_as_if_nothing_were_expected(self, available: int) -> None:
        host = {"mem_really_available": available, "host_rise_expected": 4 * GIB}
        crowd = {"rising": idle() | rises(GIB), "calm": idle(100 * MIB)}
        assert sizes(host, **crowd) == sizes(host, rising=idle(), calm=idle(100 * MIB))

    def test_where_others_have_too_little_it_is_swept_after_them(self) -> None:
        host = {"mem_really_available": WANTED - GIB}
        crowd = {"a": idle(mem_freed_age=1.0) | rises(GIB), "b": idle(mem_freed_age=40.0), "c": idle(mem_freed_age=50.0) | CALM}
        assert [one.code is ReasonCode.SWEEP for one in sizes(host, **crowd).values()] == [False, True, True]
        host = {"mem_really_available": WANTED - GIB - 500 * MIB}
        assert [one.code is ReasonCode.SWEEP for one in sizes(host, **crowd).values()] == [True, True, True]

    @pytest.mark.parametrize(
        "told", [rises(GIB, weight=0.01), rises(20 * MIB), CALM, {"mem_used_expected_soon": 2 * GIB}, rises(GIB) | {"mem_rises_in": None}],
        ids=["its forecast hardly counts", "too little", "nothing", "no forecast", "no rise"],
    )  # fmt: skip
    def test_a_guest_that_is_not_expected_to_is_swept_as_any(self, told: dict[str, Value]) -> None:
        assert sizes({"mem_really_available": WANTED - 500 * MIB}, one=idle(900 * MIB) | told, two=idle())["one"].code is ReasonCode.SWEEP

    def test_one_that_was_made_smaller_has_its_size_before_its_rise_as_far_as_the_host_has_more_than_it_should(self) -> None:
        lean = a_known_guest(GIB, NEED, peak=600 * MIB, cache=400 * MIB)
        assert sizes({}, lean=lean)["lean"].target is None
        found = sizes({}, lean=lean | rises(1200 * MIB))["lean"]
        assert found.code is ReasonCode.RISES
        assert found.target is not None
        assert GIB < found.target <= 2 * GIB
        assert sizes({"mem_really_available": WANTED - 50 * MIB}, calm=idle(), lean=lean | rises(1200 * MIB))["lean"].target is None

    def test_others_fill_their_caches_only_with_what_is_not_kept_for_it(self) -> None:
        lean = a_known_guest(GIB, NEED, peak=GIB, cache=400 * MIB)
        host = {"mem_really_available": WANTED + GIB}
        assert sizes(host, calm=lean)["calm"].code is ReasonCode.CACHE_REFILL
        found = sizes(host | {"host_rise_expected": 1200 * MIB}, calm=lean, rising=lean | rises(1200 * MIB))
        assert (found["calm"].target, found["rising"].code) == (None, ReasonCode.RISES)
        assert (found["rising"].target or 0) > GIB


FORECAST: Final = (
    "mem_used_expected_soon", "mem_used_expected", "mem_rises_in", "mem_expected_weight", "mem_available", "balloon_cur", "mem_usable",
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "more"),
    [
        ((GIB, NEED, 60.0, 1.0, GIB, 2 * GIB, NEED), GIB - NEED),
        ((GIB, NEED, 60.0, 0.5, GIB, 2 * GIB, NEED), (GIB - NEED) / 2),
        ((NEED, NEED, 0.0, 1.0, 2 * GIB, 2 * GIB, NEED), 0.0),
        ((GIB, NEED, None, 1.0, GIB, GIB, NEED), 0.0),
        ((None, NEED, 60.0, 1.0, GIB, GIB, NEED), None),
        ((GIB, NEED, 60.0, 1.0, GIB, GIB, None), None),
    ],
)
def test_what_is_unknown_of_a_rise_is_unknown(known: tuple[float | None, ...], more: float | None) -> None:
    (guest,) = guest_memories(snapshot(guests={"a": dict(zip(FORECAST, known, strict=True))}))
    assert guest.rise == more


@st.composite
def forecasts(draw: st.DrawFn) -> dict[str, Value]:
    """Draw random forecasts of a guest."""
    size = st.none() | kib(0, 64 * GIB)
    return {
        "mem_used_expected": draw(size),
        "mem_used_expected_soon": draw(size),
        "mem_rises_in": draw(st.none() | st.sampled_from([0.0, 30.0, 900.0])),
        "mem_expected_weight": draw(st.none() | st.floats(0, 1)),
    }


@pytest.mark.long
@given(
    host=hosts(), crowd=st.lists(guests(), min_size=1, max_size=6), told=st.lists(forecasts(), min_size=6, max_size=6),
    rise=st.none() | kib(0, 64 * GIB),
)  # fmt: skip
def test_whatever_is_expected_no_guest_is_worse_off_than_the_law_allows_without(
    host: dict[str, Value], crowd: list[dict[str, Value]], told: list[dict[str, Value]], rise: int | None
) -> None:
    expecting = {f"g{place}": {**one, **more} for place, (one, more) in enumerate(zip(crowd, told, strict=False))}
    plain = [*sizes(host, **{f"g{place}": one for place, one in enumerate(crowd)}).values()]
    found = [*sizes(host | {"host_rise_expected": rise}, **expecting).values()]
    for guest, one in zip(crowd, found, strict=True):
        assert_safe(guest, one.target)
    # Forecasts never change harmful means: neither the amount nor the guests.
    if any(one.code in HARM for one in found) or any(one.code in HARM for one in plain):
        gave = [[(one.target, one.code) if one.code in GIVES else None for one in all_of_them] for all_of_them in (found, plain)]
        assert gave[0] == gave[1] or not any(one.code in HARM for one in found)
    # A guest that lacks memory grows at least as much.
    for without, one in zip(plain, found, strict=True):
        if without.code in {ReasonCode.RUNS_OUT, ReasonCode.PROMISED, ReasonCode.FORECAST, ReasonCode.SWAPS, ReasonCode.STALL_FLOOR}:
            assert one.target == without.target
