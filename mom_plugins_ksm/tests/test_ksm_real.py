"""Plugin on the real /sys/kernel/mm/ksm and ksmd, which are restored after each test."""

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mom_core import ControlSpec, Decision, Entity, FieldSpec, LedgerEntry, Outcome, PluginContext, Scope, Severity, Status, Value
from mom_devkit import apply_decisions, declared, put_back, wait_until
from mom_devkit.without_root import MomPower
from mom_kvm import Helper
from mom_plugins_ksm import KsmPlugin

KSM = Path("/sys/kernel/mm/ksm")
HOST = Entity(Scope.HOST, "host", "host")
PAGES = 2048  # 8 MiB in each of two processes: merged in a second or two

pytestmark = [pytest.mark.real, pytest.mark.alone]

CHILD = """
import mmap, sys
page = mmap.PAGESIZE
memory = mmap.mmap(-1, {pages} * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_MERGEABLE)
for number in range({pages}):
    memory[number * page:(number + 1) * page] = b"mom ksm %08d" % number * (page // 16)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ksm() -> Iterator[KsmPlugin]:
    """Yield the plugin on the real kernel. Restore everything after the test."""
    if not os.access(KSM / "run", os.W_OK):
        if os.environ.get("MOM_REQUIRE_REAL") == "1":
            pytest.fail(f"{KSM / 'run'} is not writable here")
        pytest.skip(f"{KSM / 'run'} is not writable here")
    was = {
        name: (KSM / name).read_text()
        for name in ("run", "merge_across_nodes", "sleep_millisecs", "pages_to_scan")
        if (KSM / name).exists()
    }
    advisor = KSM / "advisor_mode"
    mode = advisor.read_text().partition("[")[2].partition("]")[0] if advisor.exists() else ""
    if mode != "none" and mode:
        pytest.skip("the kernel's advisor is on, and these tests would need it off")
    yield KsmPlugin(KsmPlugin.Settings(), PluginContext(name="ksm"))
    if mode:
        advisor.write_text(mode)
    if "merge_across_nodes" in was and (KSM / "merge_across_nodes").read_text() != was["merge_across_nodes"]:
        (KSM / "run").write_text("2")
        (KSM / "merge_across_nodes").write_text(was["merge_across_nodes"])
    for name in ("sleep_millisecs", "pages_to_scan", "run"):
        (KSM / name).write_text(was[name])


@pytest.fixture
def equal_pages() -> Iterator[None]:
    """Start two processes with the same `PAGES` pages, offered for merging."""
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD.format(pages=PAGES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for child in children:
        with suppress(OSError):  # first choice of the OOM killer
            Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    yield
    for child in children:
        child.communicate()


def decide(ksm: KsmPlugin, **values: Value) -> dict[str, Outcome]:
    outcomes = apply_decisions(ksm, [Decision(HOST, control, value) for control, value in values.items()])
    return {outcome.decision.control: outcome for outcome in outcomes}


def number(name: str) -> int:
    return int((KSM / name).read_text())


def merge_anew(ksm: KsmPlugin, **knobs: Value) -> dict[str, Outcome]:
    """Unmerge everything, and merge until the equal pages are merged. ksmd counts pages of ended processes for a while."""
    decide(ksm, ksm_run=2)
    wait_until(lambda: number("pages_shared") == 0, "pages stay shared though everything was unmerged")
    outcomes = decide(ksm, ksm_run=1, **knobs)
    wait_until(lambda: number("pages_sharing") >= PAGES * 9 // 10, "pages_sharing did not rise")
    return outcomes


def test_the_real_kernel_tells_all_fields_that_every_kernel_has(ksm: KsmPlugin) -> None:
    decide(ksm, ksm_run=0)  # so that ksmd does not count between the two readings
    fields = ksm.mom_collect_host(None)
    names = "run pages_to_scan sleep_millisecs pages_shared pages_sharing pages_unshared pages_volatile full_scans"
    for name in names.split():
        assert fields[f"ksm_{name}"] == number(name), name
    assert fields.keys() <= {spec.name for spec in declared(ksm, FieldSpec)}
    assert next(iter(ksm.mom_doctor(None))).severity is Severity.OK


def test_equal_pages_of_two_processes_are_merged_and_all_is_put_back(ksm: KsmPlugin, equal_pages: None) -> None:
    was = {f"ksm_{name}": number(name) for name in ("run", "pages_to_scan", "sleep_millisecs")}
    wanted: dict[str, Value] = {"ksm_run": 1, "ksm_pages_to_scan": 4321, "ksm_sleep_millisecs": 7}
    ksm.mom_collect_host(None)
    outcomes = merge_anew(ksm, ksm_pages_to_scan=4321, ksm_sleep_millisecs=7)
    assert {name: outcome.after for name, outcome in outcomes.items()} == wanted
    assert outcomes["ksm_pages_to_scan"].status is Status.APPLIED
    fields = ksm.mom_collect_host(None)
    tracked, usage = fields["ksm_tracked"], fields.get("ksmd_cpu_usage")
    assert isinstance(tracked, int)
    assert tracked >= PAGES * mmap.PAGESIZE // 1024
    assert usage is None or (isinstance(usage, float) and 0 < usage <= 200)  # None: ksmd is invisible in a container
    entries = [LedgerEntry(HOST, name, was[name], wanted[name], "ksm", 0.0) for name in wanted]
    assert all(outcome.status in {Status.APPLIED, Status.UNCHANGED} for outcome in put_back(ksm, entries))
    assert {name: number(name.removeprefix("ksm_")) for name in was} == was


def test_real_knobs_are_set_and_restored_with_and_without_root(ksm: KsmPlugin, mom_power: MomPower) -> None:
    was = {f"ksm_{name}": number(name) for name in ("pages_to_scan", "sleep_millisecs")}
    wanted: dict[str, Value] = {"ksm_pages_to_scan": 4321, "ksm_sleep_millisecs": 7}
    with mom_power("\n".join(map(Helper.declaration, declared(ksm, ControlSpec)))):
        assert {name: one.after for name, one in decide(ksm, **wanted).items()} == wanted
        entries = [LedgerEntry(HOST, name, was[name], wanted[name], "ksm", 0.0) for name in wanted]
        assert {outcome.status for outcome in put_back(ksm, entries)} == {Status.APPLIED}
    assert {name: number(name.removeprefix("ksm_")) for name in was} == was


def test_real_kernel_refuses_merge_across_nodes_while_pages_are_shared(ksm: KsmPlugin, equal_pages: None) -> None:
    if not (KSM / "merge_across_nodes").exists():
        pytest.skip("this kernel has no NUMA")
    was = number("merge_across_nodes")
    merge_anew(ksm, ksm_pages_to_scan=5000, ksm_sleep_millisecs=5)
    outcome = decide(ksm, ksm_merge_across_nodes=1 - was)["ksm_merge_across_nodes"]
    assert (outcome.before, outcome.after, outcome.status) == (was, was, Status.FAILED)
    assert "ksm_run to 2" in outcome.error


def test_merging_across_nodes_is_restored_on_the_real_kernel(ksm: KsmPlugin, equal_pages: None) -> None:
    if not (KSM / "merge_across_nodes").exists():
        pytest.skip("this kernel has no NUMA")
    was, run = number("merge_across_nodes"), number("run")
    decide(ksm, ksm_run=2)
    wait_until(lambda: decide(ksm, ksm_merge_across_nodes=1 - was)["ksm_merge_across_nodes"].after == 1 - was, "it could not be changed")
    merge_anew(ksm, ksm_pages_to_scan=5000, ksm_sleep_millisecs=5)
    entries = [LedgerEntry(HOST, "ksm_run", run, 1, "ksm", 0.0), LedgerEntry(HOST, "ksm_merge_across_nodes", was, 1 - was, "ksm", 0.0)]
    outcomes = put_back(ksm, entries)
    assert all(outcome.status in {Status.APPLIED, Status.UNCHANGED} for outcome in outcomes), outcomes
    assert (number("merge_across_nodes"), number("run")) == (was, run)


def test_real_advisor_keeps_its_pages(ksm: KsmPlugin) -> None:
    if not (KSM / "advisor_mode").exists():
        pytest.skip("this kernel has no advisor")
    pages = number("pages_to_scan")
    decide(ksm, ksm_pages_to_scan=pages + 1)
    (KSM / "advisor_mode").write_text("scan-time")
    its_own = number("pages_to_scan")
    assert ksm.mom_collect_host(None)["ksm_advisor_mode"] == "scan-time"
    outcome = decide(ksm, ksm_pages_to_scan=its_own + 1)["ksm_pages_to_scan"]
    assert outcome.status is Status.REFUSED
    assert "echo none" in outcome.error
    assert any(finding.subject == "KSM advisor" for finding in ksm.mom_doctor(None))
    (outcome,) = put_back(ksm, [LedgerEntry(HOST, "ksm_pages_to_scan", its_own + 2, pages + 1, "ksm", 0.0)])
    assert outcome.status is Status.LEFT_ALONE
    assert number("pages_to_scan") == its_own


def test_error_of_the_real_kernel_is_a_failed_outcome(ksm: KsmPlugin) -> None:
    too_many = 2**32  # pages_to_scan is an unsigned int
    pages = number("pages_to_scan")
    decide(ksm, ksm_pages_to_scan=pages + 1)
    (outcome,) = put_back(ksm, [LedgerEntry(HOST, "ksm_pages_to_scan", too_many, pages + 1, "ksm", 0.0)])
    assert (outcome.after, outcome.status) == (pages + 1, Status.FAILED)
