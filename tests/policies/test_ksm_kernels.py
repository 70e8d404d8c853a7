"""The KSM plugin and its law with the files of different kernels in /sys/kernel/mm/ksm."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mom_core import Decision, DefaultPolicy, FieldSpec, PluginContext, Severity, Status, Value
from mom_core.testing import snapshot
from mom_devkit import apply_decisions, declared
from mom_plugins_ksm import KsmPlugin
from mom_plugins_policy import Policy

MIB = 1 << 10  # KiB
PAGE = 4  # KiB
EVERY = {
    "run": "0", "pages_to_scan": "100", "sleep_millisecs": "20", "merge_across_nodes": "1", "use_zero_pages": "0",
    "max_page_sharing": "256", "pages_shared": "0", "pages_sharing": "0", "pages_unshared": "0", "pages_volatile": "0",
    "stable_node_chains": "0", "stable_node_chains_prune_millisecs": "2000", "stable_node_dups": "0", "full_scans": "0",
}  # fmt: skip
SINCE_6_6 = {**EVERY, "general_profit": "0", "ksm_zero_pages": "0", "pages_scanned": "0"}
SINCE_6_12 = {
    **SINCE_6_6, "pages_skipped": "0", "smart_scan": "1", "advisor_mode": "[none] scan-time", "advisor_max_cpu": "70",
    "advisor_min_pages_to_scan": "500", "advisor_max_pages_to_scan": "30000", "advisor_target_scan_time": "200",
}  # fmt: skip
KERNELS = {"5.10": EVERY, "6.6": SINCE_6_6, "6.12": SINCE_6_12}
STAT = "37 (ksmd) S 2 0 0 0 -1 2097216 0 0 0 0 0 {} 0 0 25 5 1 0 26 0 0 0\n"
PAGE_SECONDS = 3e-6


@dataclass
class Machine:
    """Host of 8 GiB with guests of this many MiB. Some of their pages are equal, and the files react to writes."""

    root: Path
    kernel: Mapping[str, str]
    equal: int
    own: int
    shows_ksmd: bool = True
    seconds: float = 0.0
    cpu: float = 0.0
    scanned: float = 0.0
    since: float = 0.0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.root / "sys/kernel/mm/ksm"
        self.folder.mkdir(parents=True)
        for name, text in self.kernel.items():
            self.write(name, text)
        (self.root / "proc/37").mkdir(parents=True)
        context = PluginContext(name="ksm", root=self.root, monotonic=lambda: self.seconds, state_directory=self.root / "state")
        self.plugin = KsmPlugin(KsmPlugin.Settings(), context)
        self.policy = Policy.compile({one.name: one.text for one in declared(self.plugin, DefaultPolicy)})
        self.reason: Value = None

    def write(self, name: str, value: object) -> None:
        (self.folder / name).write_text(f"{value}\n")

    def number(self, name: str) -> int:
        return int((self.folder / name).read_text())

    def cycles(self, count: int) -> list[Decision]:
        """Run cycles of 5 s. Return their decisions."""
        decided: list[Decision] = []
        for _ in range(count):
            self._pass_time()
            collected = self.plugin.mom_collect_host(None)
            absent: dict[str, Value] = {spec.name: None for spec in declared(self.plugin, FieldSpec) if spec.scope == "host"}
            host = {**absent, **collected, "mem_available": 8192 * MIB, "mem_really_available": 1000 * MIB, "mem_free": 0, "cpu_count": 4}
            guests: dict[str, dict[str, Value]] = {"g": {"rss": (self.equal + self.own) * MIB, "balloon_max": None, "balloon_cur": None}}
            taken = replace(snapshot(host=host, guests=guests), monotonic=self.seconds)
            derived = self.plugin.mom_derive(taken).host
            self.reason = derived["ksm_reason"]
            result = self.policy.evaluate(snapshot(host={**host, **derived}, guests=guests))
            assert list(result.errors) == []
            whole = [Decision(one.entity, one.control, int(one.value)) for one in result.decisions]  # type: ignore[arg-type]  # numbers
            for outcome in apply_decisions(self.plugin, whole):
                assert outcome.status is Status.APPLIED, outcome
            decided += whole
        return decided

    def _pass_time(self) -> None:
        self.seconds += 5
        pages = (self.equal + self.own) * MIB // PAGE
        if self.number("run") == 2:
            self.since = self.scanned
            for name in ("pages_sharing", "pages_shared", "pages_unshared", "full_scans"):
                self.write(name, 0)
        if self.number("run") == 1:
            busy = self.number("pages_to_scan") * PAGE_SECONDS
            batches = 5 / (busy + self.number("sleep_millisecs") / 1000)
            self.cpu += batches * busy
            self.scanned += batches * self.number("pages_to_scan")
            found = self.scanned - self.since
            merged = max(0, min(self.equal * MIB // PAGE, int(found) - pages))
            self.write("full_scans", int(found // pages))
            self.write("pages_sharing", merged // 2)
            self.write("pages_shared", merged // 2)
            self.write("pages_unshared", min(int(found), pages) - 2 * (merged // 2))
            if "pages_scanned" in self.kernel:
                self.write("pages_scanned", int(self.scanned))
            if "general_profit" in self.kernel:
                self.write("general_profit", merged // 2 * 4096 - min(int(found), pages) * 64)
        if self.shows_ksmd:
            (self.root / "proc/37/stat").write_text(STAT.format(int(self.cpu * 100)))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shows_ksmd", [True, False])
def test_on_every_kernel_what_is_equal_is_merged_and_then_ksm_rests(tmp_path: Path, kernel: str, shows_ksmd: bool) -> None:
    machine = Machine(tmp_path, KERNELS[kernel], equal=800, own=200, shows_ksmd=shows_ksmd)
    machine.cycles(12)
    assert machine.number("pages_sharing") == 400 * MIB // PAGE
    machine.cycles(20)
    assert machine.number("sleep_millisecs") == 200
    spent = machine.cpu
    assert machine.cycles(60) == []
    assert machine.cpu - spent < 0.5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shows_ksmd", [True, False])
def test_on_every_kernel_ksm_is_given_up_where_nothing_is_equal(tmp_path: Path, kernel: str, shows_ksmd: bool) -> None:
    machine = Machine(tmp_path, KERNELS[kernel], equal=0, own=2000, shows_ksmd=shows_ksmd)
    machine.cycles(40)
    assert machine.number("run") == 2
    assert machine.reason == "books"
    machine.equal = 400
    machine.cycles(20)
    assert machine.number("pages_sharing") > 0, "guests grew by 400 MiB"


def test_the_kernels_advisor_keeps_its_pages_and_the_doctor_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, {**KERNELS["6.12"], "advisor_mode": "none [scan-time]", "pages_to_scan": "1500"}, equal=800, own=200)
    assert [(one.control, one.value) for one in machine.cycles(60)] == [("ksm_run", 1)]
    assert machine.number("pages_to_scan") == 1500
    assert any(one.subject == "KSM advisor" and one.severity is Severity.WARNING for one in machine.plugin.mom_doctor(None))
