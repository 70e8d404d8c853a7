"""The simulated samepage merging."""

import pytest

from mom_core import NotSupported
from mom_plugins_sim.ksm import COPIES, PAGE, VOLATILE, Ksm

GIB = 1 << 20
MOST = 2 * GIB / PAGE * (1 - VOLATILE) * (1 - 1 / COPIES)


def run(ksm, seconds, mergeable=2 * GIB, resident=20 * GIB):
    for _ in range(seconds):
        ksm.step(mergeable, resident, 1.0)
    return ksm


def test_merging_approaches_what_there_is_to_merge():
    ksm = Ksm(run=1, pages_to_scan=1250, sleep_millisecs=10)
    early = run(ksm, 30).sharing
    assert 0 < early < 0.5 * MOST
    assert 0.95 * MOST < run(ksm, 3000).sharing < MOST


def test_stopping_keeps_what_is_merged_and_unmerging_does_not():
    ksm = run(Ksm(run=1, pages_to_scan=5000), 1000)
    before = ksm.sharing
    ksm.write({"run": 0})
    assert run(ksm, 10).sharing == before
    ksm.write({"run": 2})
    assert run(ksm, 1).sharing == 0


@pytest.mark.parametrize("knobs", [{"run": 3}, {"run": -1}, {"pages_to_scan": 0}, {"use_zero_pages": 1}, {"run": 1, "smart": 1}])
def test_what_the_kernel_would_refuse_is_refused_whole(knobs):
    ksm = Ksm()
    with pytest.raises(NotSupported):
        ksm.write(knobs)
    assert ksm == Ksm()
