"""What is said of a guest's control group in words."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_host.cgroup.explanation import GroupExplainer

GIB = 1 << 20


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"cgroup_memory_current": 2 * GIB, "cgroup_swap_current": 0}, ["The host holds 2.00 GiB for it, QEMU and caches included."]),
        (
            {"cgroup_memory_current": 2 * GIB, "cgroup_swap_current": GIB},
            ["The host holds 2.00 GiB for it, QEMU and caches included, and 1.00 GiB of it in its swap."],
        ),
        ({"cgroup_memory_high": -1, "cgroup_memory_low": 0}, []),
        (
            {"cgroup_memory_high": 3 * GIB, "cgroup_memory_min": GIB},
            [
                "Of its control group: above 3.00 GiB memory is taken from it, and it is slowed down;"
                " below 1.00 GiB no memory is taken from it."
            ],
        ),
    ],
)
def test_what_the_host_holds_and_what_limits_it_is_told(fields: dict[str, Value], words: list[str]) -> None:
    taken = snapshot(guests={"web": fields})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    assert [sentence.text for sentence in GroupExplainer().part(About(report, taken.guests["web"])).sentences] == words
