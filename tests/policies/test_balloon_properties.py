"""Properties of the balloon law on random hosts, drawn by hypothesis."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from law_guests import GIB, MIB, Fields, sizes_on

from mom_core import Value

STEP: Final = 16 * MIB
"""Smallest step. A step may exceed the share by this much."""


def kib(least: float, most: float) -> st.SearchStrategy[int]:
    return st.integers(int(least), int(max(least, most)))


@st.composite
def guests(draw: st.DrawFn, *, shrunk: bool = True, steady: bool = False) -> dict[str, Value]:
    """Draw a guest with consistent figures.

    :param shrunk: whether it may have less than its maximum
    :param steady: whether it has no request and does not stall
    """
    most = draw(kib(256 * MIB, 16 * GIB))
    size = draw(kib(most // 4, most)) if shrunk else most
    hidden = draw(kib(0, 60 * MIB))
    inside = size - hidden
    usable = draw(kib(0, inside))
    unused = draw(kib(0, usable))
    known = draw(st.booleans())
    used = inside - usable
    beside = draw(kib(0, 100 * MIB))
    rss = beside + draw(kib(0, size))
    maybe = st.none() if steady else draw(st.just(kib(0, most)))
    fields: dict[str, Value] = {
        "balloon_cur": size,
        "balloon_max": most,
        "balloon_min": draw(st.none() | kib(0, most)),
        "guest_guarantee": draw(st.none() | kib(0, most)),
        "mem_usable": usable,
        "mem_unused": unused,
        "mem_available": inside,
        "stats_age": draw(st.sampled_from([0, 1, 2, 4])),
        "kernel_reserved": hidden if known else None,
        "mem_used_peak": draw(st.none() | kib(used, inside)),
        "mem_used_before": draw(st.sampled_from([used, used // 2])),
        "mem_stall_floor": None if steady else draw(st.none() | kib(0, size // 4)),
        "mem_cache_share": draw(st.sampled_from([None, 0.0, 0.2, 0.5, 1.0])),
        "rss": rss if known else None,
        "rss_before": rss if known else None,
        "qemu_overhead": beside if known else None,
        "balloon_target": None if steady else draw(st.none() | maybe),
        "balloon_target_age": None if steady else draw(st.sampled_from([None, 0.5, 3.0, 60.0])),
        "balloon_obstacle": None,
        "swap_in": 0 if steady else draw(st.sampled_from([0, 0, 0, 5000])),
        "major_fault": 0 if steady else draw(st.sampled_from([0, 0, 0, 900])),
        "reclaim_cost": draw(st.sampled_from([None, 0.5, 1.0, 2.0, 4.0, 8.0])),
        "host_swap": draw(st.sampled_from([None, 0, used // 3])),
    }
    return fields


@st.composite
def hosts(draw: st.DrawFn) -> dict[str, Value]:
    """Draw a host's watermarks and available memory."""
    wanted = draw(kib(512 * MIB, 8 * GIB))
    return {
        "mem_really_available": draw(kib(0, 2 * wanted)),
        "mem_watermark_high": wanted,
        "mem_watermark_hard": wanted // 4,
        "mem_watermark_low": wanted // 8,
        "mem_reserved": draw(st.sampled_from([0, 0, GIB])),
        "balloon_goal": draw(st.sampled_from(["density", "balanced", "safe"])),
        "offload_net": draw(st.sampled_from([None, 0, 0, 64 * MIB])),
    }


crowds = st.lists(guests(), min_size=1, max_size=6)


def targets(host: Fields, crowd: list[dict[str, Value]]) -> dict[str, float]:
    named: dict[str, Fields] = {f"g{number}": fields for number, fields in enumerate(crowd)}
    found = sizes_on({**host, "balloon_goal": None}, named, goal=host["balloon_goal"])
    return {name: one.target for name, one in found.items() if one.target is not None}


def number(value: Value) -> float:
    return value if isinstance(value, int | float) else 0


@pytest.mark.long
@given(host=hosts(), crowd=crowds, missing=st.sampled_from(["stats_age", "mem_usable", "balloon_cur", "balloon_max", None]))
def test_a_guest_whose_statistics_are_missing_or_old_grows_to_its_guarantee_at_most(host, crowd, missing):
    crowd[0] |= {"stats_age": 8.1} if missing is None else {missing: None}
    target, guest = targets(host, crowd).get("g0"), crowd[0]
    if target is not None:
        assert number(guest["balloon_cur"]) < target <= max(number(guest["balloon_min"]), number(guest["guest_guarantee"]))


def assert_safe(guest: Fields, target: float | None) -> None:
    """Fail if the target takes a guest below its need or guarantee, or above its maximum."""
    if target is not None:
        size, most = number(guest["balloon_cur"]), number(guest["balloon_max"])
        promised = min(most, max(number(guest["balloon_min"]), number(guest["guest_guarantee"])))
        assert max(min(size, promised), size - number(guest["mem_usable"])) - 1 <= target <= most


@pytest.mark.long
@given(host=hosts(), crowd=st.lists(guests(shrunk=False, steady=True), min_size=1, max_size=6))
def test_with_enough_available_and_nothing_taken_nothing_is_done(host, crowd):
    assert targets(host | {"mem_really_available": number(host["mem_watermark_high"]) + number(host["mem_reserved"])}, crowd) == {}


@pytest.mark.long
@given(host=hosts(), crowd=crowds, more=kib(0, 4 * GIB), swept=st.booleans())
def test_no_guest_gets_less_because_more_is_available(host, crowd, more, swept):
    # Only if all are swept or all are trimmed: with less memory available, a guest may be trimmed by more than a sweep would take.
    if swept:
        host["balloon_goal"] = "balanced"
        host["mem_really_available"] = max(number(host["mem_really_available"]), number(host["mem_watermark_hard"]))
    for fields in crowd:
        fields.update({"mem_cache_share": 0.0} if swept else {"qemu_overhead": None})
    scarce = targets(host, crowd)
    ample = targets(host | {"mem_really_available": int(number(host["mem_really_available"])) + more}, crowd)
    for name in scarce.keys() | ample.keys():
        size = number(crowd[int(name[1:])]["balloon_cur"])
        assert ample.get(name, size) >= scarce.get(name, size) - STEP
