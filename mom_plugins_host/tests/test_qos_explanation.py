"""What is said of a guest's limits in words."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_daemon import About
from mom_plugins_host.qos.explanation import LimitsExplainer


def said(fields: dict[str, Value]) -> list[str]:
    taken = snapshot(guests={"web": fields})
    report = Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01)
    return [sentence.text for sentence in LimitsExplainer().part(About(report, taken.guests["web"])).sentences]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"vcpu_quota": -1, "vcpu_period": 100_000, "vcpu_user_limit": 100, "io_tune_current": []}, []),
        ({"vcpu_quota": 25_000, "vcpu_period": 100_000}, ["Each of its vCPUs may use 25 % of a CPU."]),
        ({"vcpu_quota": 25_000, "vcpu_period": None}, []),
        ({"vcpu_user_limit": 50}, ["50 % of the host's CPUs were agreed for it."]),
        (
            {"io_tune_current": [{"name": "vda", "total_iops_sec": 1000, "total_bytes_sec": 0, "read_iops_sec": None}, {"name": "vdb"}, 7]},
            ["Its disk vda is limited: total_iops_sec 1,000."],
        ),
    ],
)
def test_limits_that_stand_are_told_and_nothing_of_those_that_do_not(fields: dict[str, Value], words: list[str]) -> None:
    assert said(fields) == words
