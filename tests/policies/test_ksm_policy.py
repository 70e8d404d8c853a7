"""The default KSM policy, evaluated over hand-made hosts and over hosts that answer to it."""

from __future__ import annotations

from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_policy import Policy

GIB = 1 << 20  # KiB
TEXT = files("mom_plugins_ksm").joinpath("ksm.policy").read_text("utf-8")
POLICY = Policy.compile({"40_ksm": TEXT})

AMPLE: dict[str, Value] = {
    "mem_available": 24 * GIB,
    "mem_really_available": 12 * GIB,
    "mem_free": 13 * GIB,
    "cpu_count": 16,
    "ksm_run": 0,
    "ksm_pages_to_scan": 100,
    "ksm_sleep_millisecs": 20,
    "ksm_pages_sharing": 0,
    "ksm_full_scans": 0,
    "ksm_general_profit": 0,
    "ksm_advisor_mode": "none",
    "ksmd_cpu_usage": 0.0,
}
SHORT: dict[str, Value] = {**AMPLE, "mem_really_available": 4 * GIB}  # start is 4.8 GiB, stop 7.2 GiB for 24 GiB
BETWEEN: dict[str, Value] = {**AMPLE, "mem_really_available": 6 * GIB}
BUSY: dict[str, Value] = {
    "ksm_run": 1,
    "ksm_pages_to_scan": 1000,
    "ksm_full_scans": 1,
    "ksm_general_profit": GIB << 10,
    "ksm_pages_sharing": 300_000,
}


def decide(policy: Policy, host: dict[str, Value], **changes: Value) -> dict[str, int]:
    """The decisions, cut to whole numbers as the core does."""
    result = policy.evaluate(snapshot(host={**host, **changes}))
    assert list(result.errors) == []
    decided: dict[str, int] = {}
    for decision in result.decisions:
        assert isinstance(decision.value, int | float)
        assert decision.control not in decided
        decided[decision.control] = int(decision.value)
    return decided


def test_ample_memory_leaves_ksm_off() -> None:
    assert decide(POLICY, AMPLE) == {}


def test_short_memory_switches_ksm_on_and_begins_to_ramp() -> None:
    assert decide(POLICY, SHORT) == {"ksm_run": 1, "ksm_pages_to_scan": 100 + 301}


def test_ksm_that_was_unmerged_is_switched_on_like_one_that_was_stopped() -> None:
    assert decide(POLICY, SHORT, ksm_run=2)["ksm_run"] == 1


def test_between_start_and_stop_ksm_stays_off_or_on() -> None:
    assert decide(POLICY, BETWEEN) == {}
    assert "ksm_run" not in decide(POLICY, BETWEEN, **BUSY)


def test_the_ramp_reaches_full_speed_within_five_cycles_and_stays_there() -> None:
    pages = []
    now = 64
    for _ in range(8):
        now = decide(POLICY, SHORT, **{**BUSY, "ksm_pages_to_scan": now}).get("ksm_pages_to_scan", now)
        pages.append(now)
    assert pages == [365, 666, 967, 1258, 1258, 1258, 1258, 1258]


def test_relief_slows_down_step_by_step_to_the_least() -> None:
    pages = []
    now = 1258
    for _ in range(40):
        now = decide(POLICY, BETWEEN, **{**BUSY, "ksm_pages_to_scan": now}).get("ksm_pages_to_scan", now)
        pages.append(now)
    assert pages == sorted(pages, reverse=True)
    assert 1150 < pages[0] < 1258
    assert pages.index(64) == pytest.approx(24, abs=2)
    assert pages[-1] == 64


def test_ample_memory_switches_ksm_off_when_nothing_is_shared() -> None:
    assert decide(POLICY, AMPLE, ksm_run=1) == {"ksm_run": 0}


def test_ample_memory_switches_ksm_off_when_it_would_be_ample_without_it() -> None:
    assert decide(POLICY, AMPLE, **BUSY) == {"ksm_run": 0}


def test_memory_that_is_ample_only_thanks_to_ksm_keeps_it_on_and_slow() -> None:
    saved = (6 * GIB) << 10  # bytes; 12 GiB - 6 GiB is below stop
    decided = decide(POLICY, AMPLE, **{**BUSY, "ksm_general_profit": saved})
    assert "ksm_run" not in decided
    assert decided["ksm_sleep_millisecs"] == 100
    assert 64 <= decided["ksm_pages_to_scan"] < 1000


def test_short_memory_shortens_the_sleep_again() -> None:
    assert decide(POLICY, SHORT, **{**BUSY, "ksm_sleep_millisecs": 100})["ksm_sleep_millisecs"] == 20


def test_what_is_saved_is_counted_in_pages_where_the_kernel_tells_no_profit() -> None:
    older = {**AMPLE, **BUSY, "ksm_general_profit": None}
    assert decide(POLICY, older, ksm_pages_sharing=6 * GIB // 4).get("ksm_run") is None
    assert decide(POLICY, older, ksm_pages_sharing=1 * GIB // 4)["ksm_run"] == 0
    assert "ksm_run" not in decide(POLICY, older, ksm_pages_sharing=None)


@pytest.mark.parametrize(("total", "start"), [(2, 0.5), (8, 2), (24, 4.8), (64, 12.8), (512, 57.6), (1024, 83.2), (4096, 236.8)])
def test_start_makes_sense_from_small_to_large_hosts(total: int, start: float) -> None:
    below, above = int((start - 0.01) * GIB), int((start + 0.01) * GIB)
    assert decide(POLICY, SHORT, mem_available=total * GIB, mem_really_available=below)["ksm_run"] == 1
    assert decide(POLICY, SHORT, mem_available=total * GIB, mem_really_available=above) == {}


@pytest.mark.parametrize(("total", "most"), [(2, 104), (8, 419), (256, 13421), (1024, 30000), (4096, 30000)])
def test_full_speed_fits_the_host(total: int, most: int) -> None:
    saved = total * GIB * 1024 // 100
    decided = decide(
        POLICY,
        SHORT,
        **{**BUSY, "mem_available": total * GIB, "mem_really_available": 1, "ksm_pages_to_scan": 10**6, "ksm_general_profit": saved},
    )
    assert decided["ksm_pages_to_scan"] == most


def test_ksmd_above_its_share_of_the_cpus_is_slowed_in_proportion() -> None:
    assert decide(POLICY, SHORT, **BUSY, cpu_count=8, ksmd_cpu_usage=100.0)["ksm_pages_to_scan"] == 500
    assert decide(POLICY, SHORT, **BUSY, cpu_count=2, ksmd_cpu_usage=25.0)["ksm_pages_to_scan"] == 500
    assert decide(POLICY, SHORT, **BUSY, cpu_count=1000, ksmd_cpu_usage=100.0)["ksm_pages_to_scan"] == 700
    assert decide(POLICY, SHORT, **BUSY, cpu_count=None, ksmd_cpu_usage=25.0)["ksm_pages_to_scan"] == 500


def test_ksmd_near_its_share_keeps_its_speed() -> None:
    assert decide(POLICY, SHORT, **BUSY, cpu_count=8, ksmd_cpu_usage=45.0) == {}


def test_where_nothing_can_be_shared_an_eighth_of_the_speed_is_enough() -> None:
    fruitless = {**BUSY, "ksm_general_profit": -5_000_000, "ksm_pages_sharing": 10}
    assert decide(POLICY, SHORT, **{**fruitless, "ksm_full_scans": 1})["ksm_pages_to_scan"] == 1258
    assert decide(POLICY, SHORT, **{**fruitless, "ksm_full_scans": 2})["ksm_pages_to_scan"] == 157
    assert decide(POLICY, SHORT, **{**BUSY, "ksm_full_scans": 2})["ksm_pages_to_scan"] == 1258


def test_with_the_advisor_on_only_run_is_decided() -> None:
    assert decide(POLICY, SHORT, ksm_advisor_mode="scan-time", ksm_sleep_millisecs=100) == {"ksm_run": 1}
    assert decide(POLICY, SHORT, **BUSY, ksm_advisor_mode="scan-time", ksm_sleep_millisecs=100) == {}
    assert decide(POLICY, BETWEEN, **BUSY, ksm_advisor_mode="scan-time") == {}
    assert decide(POLICY, AMPLE, ksm_run=1, ksm_advisor_mode="scan-time") == {"ksm_run": 0}


def test_an_older_kernel_without_the_newer_files_is_ramped_all_the_same() -> None:
    older = dict.fromkeys(("ksm_general_profit", "ksm_advisor_mode", "ksmd_cpu_usage", "ksm_full_scans"))
    assert decide(POLICY, SHORT, **older) == {"ksm_run": 1, "ksm_pages_to_scan": 401}


@pytest.mark.parametrize("unknown", ["ksm_run", "mem_available"])
@pytest.mark.parametrize("host", [SHORT, BETWEEN, AMPLE])
@pytest.mark.parametrize("run", [0, 1])
def test_what_is_unknown_decides_nothing(unknown: str, host: dict[str, Value], run: int) -> None:
    assert decide(POLICY, host, **{"ksm_run": run, unknown: None}) == {}


def test_without_memavailable_free_memory_stands_in_and_without_both_nothing_is_decided() -> None:
    assert decide(POLICY, SHORT, mem_really_available=None) == {}
    assert decide(POLICY, SHORT, mem_really_available=None, mem_free=GIB)["ksm_run"] == 1
    assert decide(POLICY, SHORT, mem_really_available=None, mem_free=None) == {}


@pytest.mark.parametrize(
    ("unknown", "control"), [("ksm_pages_to_scan", "ksm_pages_to_scan"), ("ksm_sleep_millisecs", "ksm_sleep_millisecs")]
)
def test_an_unknown_knob_is_not_set(unknown: str, control: str) -> None:
    decided = decide(POLICY, SHORT, **{unknown: None})
    assert decided["ksm_run"] == 1
    assert control not in decided


def test_constants_can_be_changed_by_a_policy_of_an_earlier_name() -> None:
    policy = Policy.compile({"10_site": "(defvar ksm_start_least 20) (defvar ksm_start_least_share 1)", "40_ksm": TEXT})
    assert decide(policy, AMPLE)["ksm_run"] == 1


sizes = st.one_of(st.none(), st.integers(0, 4096 * GIB))
hosts = st.fixed_dictionaries(
    {
        "mem_available": st.one_of(st.none(), st.integers(1, 4096 * GIB)),
        "mem_really_available": sizes,
        "mem_free": sizes,
        "cpu_count": st.one_of(st.none(), st.integers(1, 1024)),
        "ksm_run": st.sampled_from([None, 0, 1, 2]),
        "ksm_pages_to_scan": st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        "ksm_sleep_millisecs": st.one_of(st.none(), st.integers(0, 2**32 - 1)),
        "ksm_pages_sharing": sizes,
        "ksm_full_scans": sizes,
        "ksm_general_profit": st.one_of(st.none(), st.integers(-(2**40), 2**52)),
        "ksm_advisor_mode": st.sampled_from([None, "none", "scan-time"]),
        "ksmd_cpu_usage": st.one_of(st.none(), st.floats(0, 200)),
    }
)


@settings(deadline=None)
@given(hosts)
def test_every_host_gets_values_within_the_controls_bounds(host: dict[str, Value]) -> None:
    decided = decide(POLICY, host)
    assert decided.get("ksm_run", 0) in {0, 1}
    assert 64 <= decided.get("ksm_pages_to_scan", 64) <= 30000
    assert decided.get("ksm_sleep_millisecs", 20) in {20, 100}
    assert "ksm_merge_across_nodes" not in decided


@settings(deadline=None)
@given(
    total=st.integers(2, 4096),
    base_share=st.floats(0, 1),
    shareable_share=st.floats(0, 0.5),
    run=st.integers(0, 2),
    pages=st.integers(64, 30000),
)
def test_ksm_never_flaps_by_its_own_doing(total: int, base_share: float, shareable_share: float, run: int, pages: int) -> None:
    """Guests need the same all the time; only what KSM saves comes and, while it is off, goes again."""
    base, shareable, saved = total * GIB * base_share, total * GIB * shareable_share, 0.0
    host: dict[str, Value] = {**AMPLE, "mem_available": total * GIB, "ksm_run": run, "ksm_pages_to_scan": pages}
    switches = 0
    for _ in range(60):
        saved = saved + (shareable - saved) / 4 if host["ksm_run"] == 1 else saved / 2
        host["mem_really_available"] = int(min(base + saved, total * GIB))
        host["ksm_general_profit"] = int(saved * 1024)
        decided = decide(POLICY, host)
        switches += "ksm_run" in decided
        host.update(decided)
    assert switches <= 1
    assert decide(POLICY, host) == {}, "after five minutes all is at rest"
