"""Parsers: whole files of kernels, and invalid content."""

import time

import pytest

from mom_plugins_host.host.readings import SwapActivity, memory_fields, time_fields


@pytest.mark.parametrize(
    ("meminfo", "fields"),
    [
        ({"MemFree": 5, "Cached": 6}, {"mem_unused": 5, "mem_cached": 6}),
        ({"MemTotal": 0}, {}),
        ({"SwapTotal": 5, "SwapFree": 6}, {"swap_total": 5}),
        ({"SwapFree": 6}, {}),
        ({"SwapTotal": 0, "SwapFree": 0}, {"swap_total": 0, "swap_usage": 0}),
    ],
)
def test_missing_and_impossible_sizes_are_unknown(meminfo: dict[str, int], fields: dict[str, int]) -> None:
    assert memory_fields(meminfo) == fields


def vmstat(**counts: int) -> str:
    return "nr_free_pages 5\n" + "".join(f"{name} {count}\n" for name, count in counts.items()) + "zswpin 7\nthp_swpout 3\n"


def test_swap_activity_is_unknown_at_first_and_a_difference_then() -> None:
    activity = SwapActivity()
    assert activity.fields(vmstat(pswpin=100, pswpout=50), now=1000.0) == {}
    assert activity.fields(vmstat(pswpin=120, pswpout=50), now=1010.0) == {
        "swap_in": 20,
        "swap_in_rate": 2.0,
        "swap_out": 0,
        "swap_out_rate": 0.0,
    }


def test_a_counter_that_goes_backwards_is_unknown_and_starts_anew() -> None:
    activity = SwapActivity()
    activity.fields(vmstat(pswpin=100, pswpout=50), now=0.0)
    assert activity.fields(vmstat(pswpin=5, pswpout=60), now=5.0) == {"swap_out": 10, "swap_out_rate": 2.0}
    assert activity.fields(vmstat(pswpin=6, pswpout=60), now=10.0)["swap_in"] == 1
    assert activity.fields(vmstat(pswpin=7), now=10.0) == {"swap_in": 1}, "without time between samples there is no rate"


def test_time_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XST-2")
    time.tzset()
    try:
        fields = time_fields(1_700_000_000_123_456_789)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert fields == {
        "time_year": 2023, "time_month": 11, "time_day": 15, "time_hour": 0, "time_minute": 13, "time_second": 20,
        "time_microsecond": 123456,
    }  # fmt: skip
