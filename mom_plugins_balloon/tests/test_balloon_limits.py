"""The gate: permitted sizes of a guest."""

import math

import pytest
from guest_facts import GIB, MIB, memory_of
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_balloon.gate import MINIMUM_KIB, GateResult, ShrinkLimits, floor_kib, need_kib, permitted

LIMITS = ShrinkLimits(reserve_kib=64 * MIB, reserve_share=0.05, stale_after=15)


def a_guest(**known):
    """Return a healthy guest of 2 GiB that needs 600 MiB."""
    return memory_of(**{"size": 2 * GIB, "maximum": 2 * GIB, "usable": 2 * GIB - 600 * MIB, "age": 1.0, **known})


STOPPED = "the shrink in progress is stopped"
PERMITTED = {
    "a shrink to more than the need is left as it is": (GIB, {}, GIB, ""),
    "one below the need ends at the need and the reserve": (100 * MIB, {}, 664 * MIB, "the guest needs 664 MiB, including a reserve"),
    "a guest with nothing to spare is left alone": (GIB, {"usable": 50 * MIB}, None, "nothing to spare"),
    "a shrink under way is stopped when the statistics fail": (GIB, {"usable": None, "target": GIB, "on_its_way": True}, 2 * GIB, STOPPED),
    "no guest grows above its maximum": (3 * GIB, {"size": GIB}, 2 * GIB, "above 2.00 GiB: the guest's maximum"),
    "a guest of unknown maximum does not grow": (3 * GIB, {"maximum": None}, None, "maximum is unknown"),
    "a guarantee holds though the need is less": (GIB, {"guarantee": 1536 * MIB}, 1536 * MIB, "below the guarantee of 1.50 GiB"),
    "one above the maximum means the maximum": (GIB, {"guarantee": 9 * GIB}, 2 * GIB, "below the guarantee"),
    "a shrink ends at the balloon's reach": (GIB, {"reach": 1200 * MIB}, 1200 * MIB, "below 1.17 GiB, the smallest size that"),
    "the need counts beyond the reach": (GIB, {"reach": 700 * MIB, "usable": 500 * MIB}, math.ceil(1548 * MIB * 1.05), "the guest needs"),
    "a size below the reach, which is reported late, stays": (800 * MIB, {"size": GIB, "reach": 1200 * MIB}, GIB, "smallest size that"),
    "a guest below its guarantee is raised to it even without statistics": (
        900 * MIB,
        {"size": GIB, "usable": None, "guarantee": 1536 * MIB},
        1536 * MIB,
        "below the guarantee",
    ),
}


@pytest.mark.parametrize(("wanted", "known", "target", "reason"), PERMITTED.values(), ids=PERMITTED)
def test_gate_limits_sizes(wanted, known, target, reason):
    verdict = permitted(wanted, a_guest(**known), LIMITS)
    assert verdict.size == target
    assert reason in verdict.reason
    assert bool(reason) == bool(verdict.reason)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"usable": None}, "is unknown"),
        ({"age": None}, "is unknown"),
        ({"age": 16.0}, "16 s old"),
        ({"swap_in": 1000.0}, "it lacks memory"),
    ],
)
def test_guest_without_good_statistics_only_grows(known, reason):
    verdict = permitted(GIB, a_guest(**known), LIMITS)
    assert verdict.size is None
    assert reason in verdict.reason
    assert permitted(2 * GIB, a_guest(size=GIB, **known), LIMITS) == GateResult(2 * GIB)


@pytest.mark.parametrize("rubbish", [math.nan, -math.inf, -5, MINIMUM_KIB, None, "1048576", True, [1]])
def test_invalid_sizes_are_refused(rubbish):
    verdict = permitted(rubbish, a_guest(), LIMITS)
    assert verdict.size is None
    assert "is not a valid size" in verdict.reason


def test_need_follows_the_kernels_total():
    # At its statistics, it had 1.5 GiB, and its kernel counted 1.45: with 900 MiB usable, it needs 636 MiB. Just before, it had 2 GiB.
    guest = a_guest(size=GIB, usable=900 * MIB, total=1486 * MIB, kernel_reserved=50 * MIB, largest=2 * GIB)
    assert need_kib(guest) == 636 * MIB


kib = st.integers(min_value=1, max_value=4 << 30)
known = st.builds(
    memory_of, size=kib, maximum=st.none() | kib, guarantee=st.just(0) | kib,
    usable=st.none() | st.integers(min_value=0, max_value=4 << 30), age=st.none() | st.floats(min_value=0, max_value=60),
    swap_in=st.just(0.0) | st.floats(min_value=0, max_value=1e6), total=st.none() | kib,
    kernel_reserved=st.none() | st.integers(min_value=0, max_value=1 << 20), counts_balloon=st.booleans(), largest=st.none() | kib,
    target=st.none() | kib, on_its_way=st.booleans(), reach=st.none() | kib,
)  # fmt: skip
wanted = st.integers(min_value=-(1 << 40), max_value=1 << 40) | st.floats() | st.none() | st.text() | st.booleans()


@given(wanted, known)
def test_gate_is_safe_for_any_wanted_size(target, guest):
    verdict = permitted(target, guest, LIMITS)
    if verdict.size is None:
        assert verdict.reason
        return
    size = verdict.size
    assert isinstance(size, int)
    assert verdict.reason or size == int(target)
    if guest.maximum is not None:
        assert size <= max(guest.maximum, guest.size), "only what the guest has already may be above its maximum"
    if guest.guarantee:
        assert size >= min(guest.guarantee, guest.maximum if guest.maximum is not None else guest.guarantee)
    if size < guest.size:
        floor = floor_kib(guest, LIMITS)
        assert floor is not None
        assert size >= floor
        assert guest.statistics.age is not None
        assert guest.statistics.age <= LIMITS.stale_after
