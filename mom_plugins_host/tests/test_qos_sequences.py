"""Limits from several sources that come and go in any order. Values rest without changes, and return to the originals without sources."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qos_fake import NONE, NotingHypervisor
from qos_lives import Life

from mom_core import CpuTune, DiskTune

CYCLES = 6
"""Number of cycles until all values rest."""

SAID: dict[str, dict[str, object]] = {
    "cpu": {"cpu_limit": "25%"},
    "shares": {"cpu_shares": 512},
    "vdb": {"disk_limits": {"vdb": {"total_iops_sec": 7}}},
}
AGREED = ("agreed_cpu",)
ORDERS = st.sampled_from([("policy", "qos"), ("qos", "policy")])
STEPS = st.lists(st.sampled_from([*SAID, *AGREED, "killed", "stopped"]), min_size=2, max_size=7)


def limits(world: NotingHypervisor) -> object:
    one = world.known["vm"]
    disks = [disk.current["total_iops_sec"] for disk in one.disks]
    return one.cpu.quota_us, one.cpu.period_us, one.cpu.shares, *disks


def agree(world: NotingHypervisor, what: set[str]) -> None:
    one = world.known["vm"]
    one.cpu = replace(one.cpu, user_limit_percent=40.0 if "agreed_cpu" in what else 100.0)


@pytest.mark.long
@settings(max_examples=settings().max_examples // 2, deadline=None)
@given(ORDERS, STEPS, st.booleans())
def test_what_stands_stands_still_and_goes_back_when_all_that_asked_for_it_are_gone(
    order: Sequence[str], steps: Sequence[str], limited: bool
) -> None:
    world = NotingHypervisor()
    world.add("vm")
    if limited:
        world.known["vm"].cpu = CpuTune(30_000, 100_000, 700, 100.0)
        world.known["vm"].disks = tuple(DiskTune(name, f"/{name}", {**NONE, "total_iops_sec": 500}) for name in ("vda", "vdb"))
    before = limits(world)
    with TemporaryDirectory() as folder:
        life = Life(Path(folder), world, order, partial(limits, world), {"10_period": "(defvar cpu_limit_period 20000)"})
        there: set[str] = set()
        for step in steps:
            if step in {"killed", "stopped"}:
                stands = life.ends(put_back=step == "stopped")
                assert step == "killed" or stands == before
            there ^= {step} - {"killed", "stopped"}
            agree(world, there)
            said = {key: value for name, one in SAID.items() if name in there for key, value in one.items()}
            seen = life.goes_on(CYCLES, said, cpu_limits=True, io_limits=True)
            assert seen[-2] == seen[-1], f"it takes turns after {step}"
            assert there or seen[-1] == before
        agree(world, set())
        assert life.goes_on(CYCLES, cpu_limits=True, io_limits=True)[-1] == before
        assert life.ends() == before
