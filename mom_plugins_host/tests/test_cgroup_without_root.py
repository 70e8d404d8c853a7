"""The plugin as root, and as another user with a real mom-helper: groups of real processes, as plain files."""

from pathlib import Path

import pytest
from cgroup_fake import MIB, Bench, FakeKernel

from mom_core import Status
from mom_devkit.without_root import MomPower, StandInGuest
from mom_kvm import Helper
from mom_plugins_host.cgroup.groups import CONTROLS, MEMORY_HIGH, MEMORY_LOW, MEMORY_MIN, SWAP_MAX

pytestmark = pytest.mark.processes

DECLARED = "\n".join([*map(Helper.declaration, CONTROLS), StandInGuest.DECLARATION])
FILES = ("memory.high", "memory.low", "memory.min", "memory.swap.max")
FREE = dict(zip(FILES, ("max", "0", "0", "max"), strict=True))


class Limited:
    """Plugin, and a guest `web`: a process in its own group."""

    def __init__(self, folder: Path, process: StandInGuest) -> None:
        self.kernel = FakeKernel(folder / "root")
        self.process = process
        self.bench = Bench(self.kernel, plainly=True)
        self.guest = self.bench.add("web", 1000 * MIB, group=process.group, pid=process.pid)
        self.tree = self.kernel.folder("/")

    def stands(self) -> dict[str, str]:
        return {file: self.kernel.value(self.process.group, file) for file in FILES}


@pytest.fixture
def limited(mom_open_folder: Path, mom_stand_in_guest: StandInGuest) -> Limited:
    return Limited(mom_open_folder, mom_stand_in_guest)


def test_limits_are_set_changed_and_lifted(limited: Limited, mom_power: MomPower) -> None:
    bench, guest = limited.bench, limited.guest
    with mom_power(DECLARED, limited.tree):
        bench.cycle()
        wanted = ((MEMORY_HIGH, 1900 * MIB), (MEMORY_LOW, 600 * MIB), (MEMORY_MIN, 100 * MIB), (SWAP_MAX, 0))
        done = bench.cycle(*((guest, control, value) for control, value in wanted))
        assert {control: one.status for (_, control), one in done.outcomes.items()} == dict.fromkeys(dict(wanted), Status.APPLIED)
        assert limited.stands() == dict(zip(FILES, (str(1900 << 20), str(600 << 20), str(100 << 20), "0"), strict=True))
        changed = bench.cycle((guest, MEMORY_HIGH, 1800 * MIB), (guest, MEMORY_LOW, 600 * MIB))
        assert [one.status for one in changed.outcomes.values()] == [Status.APPLIED, Status.UNCHANGED]
        lifted = bench.cycle(*((guest, control, value) for control, value in zip(dict(wanted), (-1, 0, 0, -1), strict=True)))
        assert {one.status for one in lifted.outcomes.values()} == {Status.APPLIED}
    assert limited.stands() == FREE
    if mom_power.helper is not None:
        assert f"{limited.process.group}/memory.high: {1800 << 20}, was {1900 << 20}" in mom_power.helper.log


def test_what_root_has_not_declared_only_root_sets_and_the_others_are_told_the_lines(limited: Limited, mom_power: MomPower) -> None:
    bench, guest = limited.bench, limited.guest
    with mom_power(StandInGuest.DECLARATION, limited.tree):
        bench.cycle()
        outcome = bench.cycle((guest, MEMORY_LOW, 600 * MIB)).outcomes["web", MEMORY_LOW]
    if mom_power.by_helper:
        assert outcome.status is Status.REFUSED
        assert "to write memory.low: root has not declared it" in outcome.error
        assert limited.stands() == FREE
    else:
        assert outcome.status is Status.APPLIED
