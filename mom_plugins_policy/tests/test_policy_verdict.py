"""Verdicts on trials on some guests: bad ones end early, good ones at the end, and what is not known speaks for nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, Host, Value
from mom_kvm import CanaryState
from mom_plugins_policy.rollout.verdict import (
    LEAST_CYCLES,
    RECENT_CYCLES,
    Evidence,
    HostFigures,
    KillCounts,
    Tally,
    WatchedCycle,
    is_below_need,
    judge,
    worse,
)

GIB = 1 << 20
WELL: dict[str, Value] = {"balloon_cur": 2 * GIB, "mem_usable": GIB, "stats_age": 1.0, "swap_in": 0, "major_fault": 0}


def a_guest(**more: Value) -> Guest:
    return Guest("a", "a", {**WELL, **more})


def samples(well: int = 0, unhealthy: int = 0, silent: int = 0, killed: int = 0) -> Tally:
    tally = Tally(killed=killed)
    for trouble in [""] * well + ["swapping"] * unhealthy + [None] * silent:
        tally.add(trouble)
    return tally


def after(*cycles: WatchedCycle, before: Tally) -> Evidence:
    evidence = Evidence(before)
    for cycle in cycles:
        evidence.add(cycle)
    return evidence


def good(count: int, guests: int = 3) -> list[WatchedCycle]:
    return [WatchedCycle(samples(guests), samples(27), "") for _ in range(count)]


class TestWhenAGuestAils:
    @pytest.mark.parametrize(
        ("wanted", "more", "too_much"),
        [
            (1.5 * GIB, {}, False),
            (0.9 * GIB, {}, True),
            (1.5 * GIB, {"guest_guarantee": 1.8 * GIB}, True),
            (0.9 * GIB, {"mem_usable": None}, False),
            (None, {}, False),
        ],
    )
    def test_what_was_decided_for_it_is_compared_with_its_need(self, wanted: float, more: dict[str, Value], too_much: bool) -> None:
        assert is_below_need(a_guest(**more), wanted) == too_much

    @pytest.mark.parametrize(
        ("counts", "news"),
        [
            ([3, 5, 5], [0, 2, 0]),
            ([3, 0, 1], [0, 0, 1]),  # it was booted anew
            ([3, None, 5], [0, 0, 2]),  # its agent was late when they were killed
            ([None, 5, None, None, 6], [0, 0, 0, 0, 1]),
        ],
    )
    def test_kills_are_counted_from_one_look_to_the_next(self, counts: list[int | None], news: list[int]) -> None:
        kills = KillCounts()
        assert [kills.news(a_guest(guest_oom_kills=count)) for count in counts] == news
        assert kills.news(Guest("a", "a", {"guest_oom_kills": 50}, incarnation="2")) == 0


class TestTheHost:
    BEFORE = (HostFigures(1.0, 10.0, 0.30), HostFigures(5.0, 0.0, 0.20), HostFigures(None, None, None))

    @pytest.mark.parametrize(
        ("now", "what"),
        [
            (HostFigures(14.0, 250.0, 0.06), ""),
            (HostFigures(16.0, 0.0, 0.20), "wait for memory 16 % of the time, before at most 5 %"),
            (HostFigures(0.0, 300.0, 0.20), "writes 300 pages a second to its swap, before at most 10"),
            (HostFigures(0.0, 0.0, 0.04), "4.0 % of the host's memory is available, before at least 20.0 %"),
            (HostFigures(None, None, None), ""),
        ],
    )
    def test_is_compared_with_before(self, now: HostFigures, what: str) -> None:
        assert what in worse(now, self.BEFORE)
        assert bool(what) == bool(worse(now, self.BEFORE))

    def test_a_host_that_was_short_before_is_not_blamed_on_the_trial(self) -> None:
        assert worse(HostFigures(0.0, 0.0, 0.03), [HostFigures(0.0, 0.0, 0.04)]) == ""
        assert worse(HostFigures(0.0, 0.0, 0.03), [HostFigures(0.0, 0.0, 0.055)]) == "", "a large host has no more"
        assert "1.0 % of the host's memory is available" in worse(HostFigures(0.0, 0.0, 0.01), [HostFigures(0.0, 0.0, 0.03)])

    def test_what_was_not_known_before_is_not_compared(self) -> None:
        now = HostFigures(99.0, 9999.0, 0.01)
        assert worse(now, []) == worse(now, [HostFigures(None, None, None)]) == ""
        assert "before at most 2" in worse(now, [HostFigures(None, 2.0, None)])

    def test_figures_come_from_its_fields(self) -> None:
        fields: dict[str, Value] = {
            "psi_memory_some_avg10": 2.5, "swap_out_rate": 7, "mem_available": 100, "mem_really_available": 25,
        }  # fmt: skip
        assert HostFigures.of(Host(fields=fields)) == HostFigures(2.5, 7, 0.25)
        assert HostFigures.of(Host()) == HostFigures(None, None, None)


BAD = WatchedCycle(samples(2, 1), samples(27), "")
OTHERS_TOO = WatchedCycle(samples(2, 1), samples(18, 9), "")
A_LITTLE_MORE = WatchedCycle(samples(27, 3), samples(97, 3), "")
HOST_SWAPS = WatchedCycle(samples(3), samples(27), "the host swaps")
FAILS = WatchedCycle(samples(3), samples(27), "", "60_x:1:1: unknown")
KILLED = WatchedCycle(samples(3, killed=1), samples(27), "")
ALL_KILLED = WatchedCycle(samples(3, killed=1), samples(27, killed=9), "")
RUNNING, PROMOTED, ROLLED_BACK = CanaryState.RUNNING, CanaryState.PROMOTED, CanaryState.ROLLED_BACK
TOO_LITTLE = "too little is known to promote it: "

# The cycles, how the same guests fared before, the seconds that are left, and the verdict with its reason.
VERDICTS: dict[str, tuple[list[WatchedCycle], Tally, float, CanaryState, str]] = {
    "nothing speaks against it": (good(3), samples(), 60, RUNNING, ""),
    "a good end": (good(LEAST_CYCLES), samples(10), 0, PROMOTED,
                   "guests fared as well as before and as the others: "
                   "unhealthy in 0 of 15 samples, 0 of 135 samples of the others, 0 of 10 samples before"),
    "one guest of three is unhealthy for two cycles": ([BAD] * 2, samples(), 600, RUNNING, ""),
    "one guest of three is unhealthy for three": ([BAD] * 3, samples(), 600, ROLLED_BACK,
                                          "guests are swapping: 3 of 9 samples, 0 of 81 samples of the others, no samples before"),
    "very many ail in one cycle": ([WatchedCycle(samples(0, 30), samples(70), "")], samples(), 600, RUNNING, ""),
    "it was so before": ([BAD] * 10, samples(20, 10), 600, RUNNING, ""),
    "it was so before, at the end": ([BAD] * 10, samples(20, 10), 0, PROMOTED, ""),
    "all others suffer, too": ([OTHERS_TOO] * 10, samples(), 0, PROMOTED, ""),
    "a little more all the time": ([A_LITTLE_MORE] * 20, samples(), 600, RUNNING, ""),
    "a little more all the time, at the end": ([A_LITTLE_MORE] * 20, samples(), 0, ROLLED_BACK, ""),
    "a program is killed": ([*good(2), KILLED], samples(), 600, ROLLED_BACK, "kernels of guests killed 1 programs for want of memory"),
    "programs of the others are, too": ([*good(2), ALL_KILLED], samples(), 600, RUNNING, ""),
    "the host fares worse for two cycles": ([*good(9), HOST_SWAPS, HOST_SWAPS], samples(), 600, RUNNING, ""),
    "the host fares worse for three of six": ([*good(9), HOST_SWAPS, HOST_SWAPS, *good(1), HOST_SWAPS, *good(1)], samples(), 600,
                                              ROLLED_BACK, "the host swaps"),
    "three of more": ([HOST_SWAPS, HOST_SWAPS, *good(RECENT_CYCLES), HOST_SWAPS], samples(), 600, RUNNING, ""),
    "it fails": ([FAILS] * 3, samples(), 600, ROLLED_BACK, "it fails: 60_x:1:1: unknown"),
    "no cycles": ([], samples(), 0, ROLLED_BACK, TOO_LITTLE + "there were only 0 cycles"),
    "few cycles": (good(LEAST_CYCLES - 1), samples(), 0, ROLLED_BACK, TOO_LITTLE + "there were only 4 cycles"),
    "no guest": ([WatchedCycle(samples(), samples(27), "")] * 9, samples(), 0, ROLLED_BACK, TOO_LITTLE + "there was no guest to try it on"),
    "silent guests": ([WatchedCycle(samples(1, 0, 2), samples(27), "")] * 9, samples(), 0, ROLLED_BACK,
                      TOO_LITTLE + "how guests are is known in only 9 of 27 samples"),
    "an unknown host": ([WatchedCycle(samples(3), samples(27), None)] * 9, samples(), 0, ROLLED_BACK,
                        TOO_LITTLE + "how the host is was known in only 0 of 9 cycles"),
}  # fmt: skip


class TestTheVerdict:
    @pytest.mark.parametrize("name", VERDICTS)
    def test_is_by_what_was_seen(self, name: str) -> None:
        cycles, before, left, state, reason = VERDICTS[name]
        verdict = judge(after(*cycles, before=before), left)
        assert verdict.state is state
        assert reason in ("", verdict.reason)

    @given(cycles=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=20), left=st.floats(0, 600))
    def test_it_always_ends_at_the_end_and_never_promotes_before(self, cycles: list[tuple[int, int, int]], left: float) -> None:
        evidence = after(*(WatchedCycle(samples(*one), samples(9), "") for one in cycles), before=samples())
        verdict = judge(evidence, left)
        assert (verdict.state is CanaryState.PROMOTED) <= (left == 0)
        assert (verdict.state is CanaryState.RUNNING) <= (left > 0)
        assert bool(verdict.reason) == (verdict.state is not CanaryState.RUNNING)
        if verdict.state is CanaryState.PROMOTED:
            assert evidence.canary.known >= LEAST_CYCLES / 2
