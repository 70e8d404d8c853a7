"""Memory that guests keep on a full host, and guests with unknown figures."""

import math
from typing import Any

import pytest
from guest_facts import GIB, LIMITS, MIB, memory_of, with_facts

from mom_plugins_balloon.law.need import context_of
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.share import decide
from mom_plugins_balloon.law.want import ask_of, ready_memory
from mom_plugins_balloon.memory import HostMemory
from mom_plugins_balloon.parameters import LawParameters

FULL = HostMemory(100 * MIB, 1300 * MIB, 400 * MIB, 200 * MIB)


# 300 MiB are usable. The kernel may have lacked memory with 300 MiB before.
FILLED = {
    "size": 2 * GIB, "maximum": 4 * GIB, "usable": 300 * MIB, "age": 0.2, "total": 2 * GIB, "kernel_reserved": 0.0, "unused": 10 * MIB,
    "cache_share": 0.9, "peak": 2 * GIB,
}  # fmt: skip


@pytest.mark.parametrize(
    ("available", "killed", "code"),
    [
        (300 * MIB, None, ReasonCode.TRIM_BURST),
        (300 * MIB, 300 * MIB, ReasonCode.CACHE_REFILL),
        (100 * MIB, 300 * MIB, ReasonCode.TRIM_BURST),
    ],
    ids=["it stalled", "programs were killed", "the host is below its low watermark"],
)
def test_headroom_without_which_programs_were_killed_is_not_taken(available: float, killed: float | None, code: ReasonCode) -> None:
    guest = memory_of(**FILLED, stall_floor=300 * MIB, kill_floor=killed)
    (suggestion,) = decide(FULL._replace(available=available), [guest], LawParameters(), LIMITS)
    assert (suggestion.code, suggestion.target is None) == (code, code is ReasonCode.CACHE_REFILL)


@pytest.mark.parametrize(("available", "grows"), [(900 * MIB, True), (300 * MIB, False)], ids=["above the hard watermark", "below"])
def test_guest_whose_kernel_killed_programs_grows_at_once(available: float, *, grows: bool) -> None:
    guest, host = memory_of(**FILLED, stall_floor=500 * MIB, kill_floor=500 * MIB), FULL._replace(available=available)
    assert (ask_of(guest, context_of(host, LawParameters(), LIMITS)).urgent >= 200 * MIB) is grows
    (suggestion,) = decide(host, [guest], LawParameters(), LIMITS)
    assert suggestion.code is ReasonCode.STALL_FLOOR
    assert (suggestion.target or 0) >= 2 * GIB + 200 * MIB if grows else suggestion.target is None


@pytest.mark.parametrize("available", [1200 * MIB, 700 * MIB], ids=["below the high watermark", "where margins are taken"])
def test_untouched_memory_is_taken_only_with_memory_that_helps_the_host(available: float) -> None:
    # 400 MiB were never used; 500 MiB are page cache, less than the target headroom.
    guest = memory_of(
        size=2 * GIB, maximum=2 * GIB, usable=900 * MIB, age=0.2, total=2 * GIB, kernel_reserved=0.0, unused=400 * MIB, cache_share=0.5,
        peak=1300 * MIB, rss=1648 * MIB, qemu_overhead=0.0,
    )  # fmt: skip
    (suggestion,) = decide(FULL._replace(available=available), [guest], LawParameters(), LIMITS)
    if available > 0.7 * FULL.high:
        assert (suggestion.code, suggestion.target) == (ReasonCode.UNTOUCHED, None)
    else:
        assert suggestion.code is ReasonCode.TRIM_MARGIN
        assert suggestion.target is not None
        assert suggestion.target < 2 * GIB - 300 * MIB


AMPLE = HostMemory(20 * GIB, 1300 * MIB, 400 * MIB, 200 * MIB)
IDLE = memory_of(
    size=2 * GIB, maximum=4 * GIB, usable=GIB, age=0.2, total=2 * GIB, unused=GIB, kernel_reserved=0, rss=2 * GIB, qemu_overhead=0
)


@pytest.mark.parametrize("unused", [GIB, None], ids=["told", "by what is usable"])
@pytest.mark.parametrize("unknown", ["maximum", "usable", "total", "kernel_reserved", "rise"])
def test_unknown_facts_make_no_memory_ready(unknown: str, unused: float | None) -> None:
    guest, context = with_facts(IDLE, rise=300 * MIB, unused=unused), context_of(AMPLE, LawParameters(), LIMITS)
    assert ready_memory(guest, context) > 0
    lacking: dict[str, Any] = {unknown: None}
    assert ready_memory(with_facts(guest, **lacking), context) == 0.0


@pytest.mark.parametrize(("available", "takes"), [(900 * MIB, False), (300 * MIB, True)], ids=["above the hard watermark", "below"])
@pytest.mark.parametrize("truthful", [False, True])
def test_truthful_goal_trims_only_below_the_hard_watermark(*, available: float, takes: bool, truthful: bool) -> None:
    host = FULL._replace(available=available, keeps_sizes=truthful)
    guest = memory_of(
        size=4 * GIB, maximum=4 * GIB, usable=3 * GIB, age=0.2, total=4 * GIB, kernel_reserved=0.0, unused=0.0, cache_share=0.9, peak=GIB
    )
    (suggestion,) = decide(host, [guest], LawParameters(), LIMITS)
    assert (suggestion.target is not None) == (takes or not truthful)


@pytest.mark.parametrize("cache_share", [0.1, 0.9], ids=["leaves headroom empty", "fills headroom with page cache"])
def test_guest_with_limited_growth_keeps_headroom_that_it_leaves_empty(cache_share: float) -> None:
    # Its empty headroom costs the host nothing, but trimming it may kill its programs.
    usable = 3 * GIB
    guest = memory_of(
        size=4 * GIB, maximum=4 * GIB, usable=usable, age=0.2, total=4 * GIB, kernel_reserved=0.0, unused=(1 - cache_share) * usable,
        cache_share=cache_share, peak=GIB, rss=GIB + cache_share * usable, qemu_overhead=0.0,
    )  # fmt: skip
    host, short = FULL._replace(available=300 * MIB), guest._replace(size=3 * GIB)
    (free,), (limited,) = (decide(host, [one], LawParameters(), LIMITS) for one in (guest, guest._replace(on_credit=1)))
    assert free.target is not None
    assert (limited.target is None) == (cache_share < 0.5)
    (returned,) = decide(host, [short._replace(on_credit=1)], LawParameters(), LIMITS)
    assert (returned.target == 4 * GIB) == (cache_share < 0.5)


def test_the_gain_of_a_sweep_is_what_the_gate_lets_it_take() -> None:
    # Of 32 GiB, 29 GiB are needed and 3 GiB freed. The gate keeps a reserve of 5 % of the need.
    guest = memory_of(
        size=32 * GIB, maximum=32 * GIB, usable=3 * GIB, age=0.2, total=32 * GIB, kernel_reserved=0.0, unused=3 * GIB, cache_share=0.0,
        peak=29 * GIB, rss=32 * GIB, qemu_overhead=0.0,
    )  # fmt: skip
    (suggestion,) = decide(FULL._replace(available=300 * MIB, interval=5.0), [guest], LawParameters(), LIMITS)
    assert (suggestion.code, suggestion.target) == (ReasonCode.SWEEP, math.ceil(1.05 * 29 * GIB))
    assert suggestion.gain == pytest.approx(32 * GIB - 1.05 * 29 * GIB)
