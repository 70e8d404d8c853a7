"""Conditions of a host that runs out of memory."""

from collections.abc import Mapping
from typing import Any

import pytest

from mom_core import Condition, Guest, Severity, Value
from mom_core.testing import snapshot
from mom_plugins_balloon.problems import conditions
from mom_plugins_balloon.promises import GuestPromise, PromisesKept
from mom_plugins_balloon.states import GIB, MemoryState

FULL = snapshot(
    host={"mem_available": 62 * GIB, "mem_really_available": 0},
    guests={"a": {"rss": 40 * GIB, "balloon_cur": 64 * GIB}, "b": {"balloon_cur": 20 * GIB}},
)
OVERSOLD = PromisesKept({"a": GuestPromise(Guest("a", "a"), 70 * GIB, 70 * GIB, 50.0, guarantee=60 * GIB)}, room=60 * GIB)


def test_full_host_is_reported_with_cause_and_cure() -> None:
    condition, promises = conditions(FULL, MemoryState.LOW, OVERSOLD)
    assert promises.name == "promises", "it remains while the host is full"
    assert condition.message == "the host is full: 0 KiB of 62.00 GiB available"
    assert condition.why == "guests are promised 70.00 GiB, but this host can promise only 60.00 GiB; guests hold 40.00 GiB"
    assert "reduce their guarantees" in condition.cure
    assert condition.severity is Severity.ERROR


def test_short_host_reports_why_no_guest_gives() -> None:
    (condition,) = conditions(FULL, MemoryState.HARD, PromisesKept(), lambda: "no policy in force reads Host.mem_reserved")
    assert "no policy in force reads Host.mem_reserved" in condition.why


def test_unknown_available_memory_is_not_full() -> None:
    assert not list(conditions(snapshot(host={"mem_available": 62 * GIB, "mem_really_available": None}), MemoryState.LOW, OVERSOLD))


def test_growth_beyond_available_memory_is_reported() -> None:
    host = {"mem_available": 62 * GIB, "mem_really_available": 4 * GIB, "mem_growth_peak": 5 * GIB}
    (condition,) = conditions(snapshot(host=host), MemoryState.SOFT, PromisesKept())
    assert (condition.name, condition.severity) == ("growth", Severity.WARNING)
    assert not list(conditions(snapshot(host={**host, "mem_growth_peak": 3 * GIB}), MemoryState.SOFT, PromisesKept()))


def of_full_host(guests: Mapping[str, Mapping[str, Value]] | None = None, **host: Value) -> Condition:
    """Return the first condition of a full host of 62 GiB with these fields."""
    figures = {"mem_available": 62 * GIB, "mem_really_available": 0, "mem_unused": 0, "mem_shmem": 0, "mem_cached": 0, "page_size": 4}
    given = {"a": {"rss": 25 * GIB}, "b": {"rss": 5 * GIB}} if guests is None else guests
    first, *_ = conditions(snapshot(host={**figures, **host}, guests=given), MemoryState.LOW, PromisesKept())
    return first


def test_large_process_is_named_with_its_cure() -> None:
    names: dict[str, Any] = {"mem_other_processes": 31 * GIB, "largest_processes": "java 30.00 GiB, tar 1.00 GiB"}
    condition = of_full_host(anon_pages=61 * GIB, **names)
    assert condition.why == "other processes (java 30.00 GiB, tar 1.00 GiB) hold 31.00 GiB, guests hold 30.00 GiB"
    assert condition.cure.startswith("stop the largest of the other processes")
    assert "guarantee" not in condition.cure
    second = of_full_host(anon_pages=55 * GIB)
    assert second.why.startswith("guests hold 30.00 GiB")
    assert "move guests away or shut some down; stop the largest of the other processes" in second.cure, "they also hold much"


def test_pages_that_ksm_has_merged_count_once() -> None:
    condition = of_full_host(ksm_pages_sharing=8 * GIB // 4, anon_pages=61 * GIB)
    assert condition.why == "other processes hold 39.00 GiB, guests hold 22.00 GiB"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"anon_pages": 31 * GIB, "mem_shmem": 29 * GIB, "mem_cached": 29 * GIB}, "guests hold 30.00 GiB, tmpfs and shared memory hold 29"),
        ({"anon_pages": 30 * GIB, "mem_cached": 31 * GIB}, "page cache that cannot be dropped holds 31.00 GiB, guests hold 30.00 GiB"),
        ({"anon_pages": 30 * GIB, "hugepages_total": 31, "hugepages_free": 31, "hugepage_size": GIB}, "unused huge pages hold 31.00 GiB"),
        ({"anon_pages": 30 * GIB}, "the kernel holds 32.00 GiB, guests hold 30.00 GiB"),
        ({"anon_pages": 60 * GIB, "swap_total": GIB, "swap_usage": GIB}, "swap is full (1.00 GiB)"),
    ],
    ids=["tmpfs", "page cache", "huge pages", "kernel", "swap"],
)
def test_other_consumers_are_named(fields: dict[str, Any], why: str) -> None:
    assert why in of_full_host(**fields).why


def test_unknown_consumers_are_left_out() -> None:
    condition = of_full_host({"a": {"rss": None, "balloon_cur": None}}, anon_pages=61 * GIB)
    assert condition.why == ""
    assert of_full_host(guests={}).why == ""


def test_the_largest_of_small_consumers_is_named() -> None:
    assert of_full_host({"a": {"rss": GIB}}, anon_pages=None).why == "guests hold 1.00 GiB"
