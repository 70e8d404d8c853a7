"""Fields from KSM's files and ksmd's /proc entry."""

import pytest
from ksm_files import FILES

from mom_core import Value
from mom_plugins_ksm.fields import CpuUsage, Yield, saved_kib


def test_savings_exclude_ksms_own_memory() -> None:
    assert saved_kib({**FILES, "general_profit": 5 << 20}, 4096) == 5 << 10
    older = {name: value for name, value in FILES.items() if name != "general_profit"}
    assert saved_kib(older, 4096) == 20 * 4 - 100 * 64 // 1024
    assert saved_kib({**older, "pages_sharing": 0, "pages_unshared": 1000}, 4096) == -(1050 * 64 // 1024)
    assert saved_kib({**older, "pages_volatile": None}, 4096) is None


def scan(number: int, saved_kib: int, **more: Value) -> dict[str, Value]:
    """Return KSM's files after this number of full scans."""
    return {**FILES, "run": 1, "full_scans": number, "general_profit": saved_kib << 10, **more}


def test_yield_is_the_savings_of_the_last_whole_scan_per_cpu_second() -> None:
    found = Yield()
    assert found.kib_per_second(scan(0, 0, ksmd_cpu_seconds=10.0), 4096) is None
    assert found.kib_per_second(scan(0, 500, ksmd_cpu_seconds=11.0), 4096) is None, "the scan is not over"
    assert found.kib_per_second(scan(1, 6000, ksmd_cpu_seconds=12.0), 4096) == 3000
    assert found.kib_per_second(scan(1, 9000, ksmd_cpu_seconds=13.0), 4096) == 3000
    assert found.kib_per_second(scan(3, 8000, ksmd_cpu_seconds=14.0), 4096) == 1000
    assert found.kib_per_second(scan(4, 4000, ksmd_cpu_seconds=15.0), 4096) == -4000


def test_scan_of_minutes_is_judged_before_its_end() -> None:
    found = Yield()
    found.kib_per_second(scan(0, 0, ksmd_cpu_seconds=0.0), 4096)
    assert found.kib_per_second(scan(0, 6000, ksmd_cpu_seconds=60.0), 4096) == 100


def test_yield_is_unknown_after_a_restart_of_ksm_or_without_counters() -> None:
    found = Yield()
    for change in ({"run": 2}, {"full_scans": 0}, {"ksmd_cpu_seconds": 0.5}, {"pages_shared": None}, {"full_scans": None}):
        found.kib_per_second(scan(1, 0, ksmd_cpu_seconds=1.0), 4096)
        assert found.kib_per_second(scan(2, 1000, ksmd_cpu_seconds=2.0), 4096) is not None
        assert found.kib_per_second({**scan(3, 1000, ksmd_cpu_seconds=3.0), **change}, 4096) is None, change
    assert found.kib_per_second(scan(4, 1000, ksmd_cpu_seconds=4.0), 4096) is None, "what was saved before it was unknown is old"


def test_usage_belongs_to_one_scan_speed() -> None:
    usage = CpuUsage()
    usage.percent(10.0, 100.0, pages=1000)
    assert (usage.percent(10.5, 101.0, pages=1000), usage.pages) == (50.0, 1000)
    assert (usage.percent(10.6, 101.3, pages=500), usage.pages) == (50.0, 1000), "nothing is known of the new speed yet"
    assert (usage.percent(10.7, 101.9, pages=500), usage.pages) == (50.0, 1000)
    assert usage.percent(10.8, 102.2, pages=500) == pytest.approx(25.0)
    assert usage.pages == 500


def test_time_of_a_hidden_ksmd_is_estimated_from_whole_scans() -> None:
    counters: dict[str, Value] = {"pages_unshared": 999_940}
    hidden = Yield()
    hidden.kib_per_second(scan(0, 0, **counters), 4096)
    assert hidden.kib_per_second(scan(1, 3000, **counters), 4096) == pytest.approx(1000, rel=0.01)
    assert hidden.kib_per_second(scan(1, 9000, **counters), 4096) == pytest.approx(1000, rel=0.01), "a scan that is not over costs nothing"
    assert hidden.kib_per_second(scan(3, 6000, **counters), 4096) == pytest.approx(500, rel=0.01)
