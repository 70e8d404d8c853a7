"""Another program that sets KSM's files, such as KubeVirt's virt-handler: mom reports it, and does not change them."""

from collections.abc import Mapping
from pathlib import Path

from ksm_files import HOST_FILES

from mom_core import Decision, Entity, HypervisorError, LedgerEntry, PluginContext, Scope, Source
from mom_core.testing import snapshot
from mom_devkit import FakeHypervisor, HandClock, apply_decisions, host_of, put_back
from mom_plugins_ksm import KsmPlugin

MINUTES = 60.0
HOST = Entity(Scope.HOST, "host", "host")


class LosesAnswers(FakeHypervisor):
    """Hypervisor that writes the knobs, but loses some answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__([])
        self.folder, self.answers = folder, True

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        for name, value in knobs.items():
            (self.folder / name).write_text(f"{value}\n")
        if not self.answers:
            raise HypervisorError("no answer within 2 s")


class Node:
    """Plugin on files, with a policy that wants 500 pages per batch."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = host_of(root, HOST_FILES), HandClock(1000.0)
        self.plugin = KsmPlugin(KsmPlugin.Settings(), PluginContext("ksm", root=root, monotonic=self.clock, state_directory=root / "state"))
        self.hypervisor: LosesAnswers | None = None

    def stands(self, knob: str) -> str:
        return (self.root / "sys/kernel/mm/ksm" / knob).read_text().strip()

    def cycle(self, wanted: int = 500) -> list[str]:
        """Run one cycle, and return its problems."""
        seen = snapshot(host=dict(self.plugin.mom_collect_host(self.hypervisor)))
        said = [problem.message for problem in self.plugin.mom_problems(seen)]
        decision = Decision(HOST, "ksm_pages_to_scan", wanted, source=Source("40_ksm"))
        if not list(self.plugin.mom_review([decision])):
            apply_decisions(self.plugin, [decision], self.hypervisor)
        self.clock.now += 10
        return said

    def other_sets(self, pages: int, knob: str = "pages_to_scan") -> None:
        (self.root / "sys/kernel/mm/ksm" / knob).write_text(f"{pages}\n")


def test_knobs_are_left_to_a_program_that_keeps_changing_them(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert node.cycle() == []
    node.other_sets(100)
    assert node.cycle() == [], "once may be by hand"
    assert node.stands("pages_to_scan") == "500"
    node.clock.now += 3 * MINUTES
    node.other_sets(100)
    (said,) = node.cycle()
    assert said.startswith("another program also sets KSM's knobs (pages_to_scan 100 instead of 500)")
    assert node.stands("pages_to_scan") == "100"
    node.clock.now += 60 * MINUTES
    assert node.cycle() == [said], "for as long as that is so"
    assert node.stands("pages_to_scan") == "100"
    other = Decision(HOST, "host_knob", 1)
    assert [one.before for one in node.plugin.mom_review([other, Decision(HOST, "ksm_run", 0)])] == [Decision(HOST, "ksm_run", 0)]
    node.clock.now += 22 * 60 * MINUTES
    assert node.cycle() == [said]
    node.clock.now += 2 * 60 * MINUTES
    assert node.cycle() == [], "it is tried again"
    assert node.stands("pages_to_scan") == "500"


def test_changes_by_mom_and_the_kernels_advisor_are_not_another_program(tmp_path: Path) -> None:
    node = Node(tmp_path)
    for pages in (500, 600, 700):
        assert node.cycle(pages) == []
    node.other_sets(5000)
    (node.root / "sys/kernel/mm/ksm/advisor_mode").write_text("none [scan-time]\n")
    assert node.cycle() == []


def test_changes_by_mom_without_an_answer_are_not_another_program(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.hypervisor = LosesAnswers(tmp_path / "sys/kernel/mm/ksm")
    for pages in (500, 600, 700, 800, 900):
        assert node.cycle(pages) == []
        assert node.stands("pages_to_scan") == str(pages)
        node.hypervisor.answers = not node.hypervisor.answers


def test_run_left_by_a_failed_restore_is_not_another_program(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.other_sets(0, "run")
    node.other_sets(0, "merge_across_nodes")
    apply_decisions(node.plugin, [Decision(HOST, "ksm_run", 1)])
    node.hypervisor = LosesAnswers(tmp_path / "sys/kernel/mm/ksm")
    node.hypervisor.answers = False
    put_back(node.plugin, [LedgerEntry(HOST, "ksm_merge_across_nodes", 1, 0, "ksm", 0.0)], node.hypervisor)
    node.other_sets(2, "run")
    node.hypervisor = None
    assert node.cycle() == []
