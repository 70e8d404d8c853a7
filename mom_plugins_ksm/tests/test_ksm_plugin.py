"""Plugin on a folder with files of /sys and /proc, and with a hypervisor that has its own KSM."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ksm_files import HOST_FILES

from mom_core import (
    ControlSpec,
    Decision,
    Declarations,
    Entity,
    HypervisorError,
    LedgerEntry,
    NotSupported,
    PluginContext,
    Report,
    Scope,
    Severity,
    Status,
    Value,
)
from mom_core.testing import snapshot
from mom_devkit import ConformanceTests, FakeHypervisor, apply_decisions, declared, host_of, put_back
from mom_devkit.without_root import MomPower
from mom_kvm import Helper
from mom_plugins_ksm import KsmPlugin
from mom_plugins_ksm.control import SysfsKsm
from mom_plugins_ksm.overview import ksm_parts

HOST = Entity(Scope.HOST, "host", "host")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return host_of(tmp_path, HOST_FILES)


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "sys/kernel/mm/ksm"


def plugin(
    root: Path, declarations: Declarations | None = None, clock: Callable[[], float] = time.monotonic, mode: str = "enforce"
) -> KsmPlugin:
    context = PluginContext(name="ksm", root=root, monotonic=clock, state_directory=root / "state", configuration=lambda: {"mode": mode})
    context.declarations = declarations or Declarations()
    return KsmPlugin(KsmPlugin.Settings(), context)


class OwnKsm(FakeHypervisor):
    """Hypervisor with its own KSM."""

    def __init__(self) -> None:
        super().__init__([])
        self.files: dict[str, Value] = {"run": 0, "pages_to_scan": 100, "ksmd_cpu_seconds": 1.0}

    def ksm_read(self) -> Mapping[str, Value]:
        return dict(self.files)

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        self.files.update(knobs)


def qemu(root: Path, pid: int, kib: int, name: str = "qemu-kvm") -> Path:
    statm = f"{kib * 1024 // os.sysconf('SC_PAGE_SIZE')} 5 4 3 0 2 0\n"
    return host_of(root, {f"proc/{pid}/comm": f"{name}\n", f"proc/{pid}/statm": statm}) / f"proc/{pid}"


def test_shareable_memory_is_the_address_space_of_qemu_even_before_ksm_has_run(root: Path, folder: Path) -> None:
    for name in ("run", "pages_shared", "pages_sharing", "pages_unshared", "pages_volatile", "full_scans"):
        (folder / name).write_text("0\n")
    assert plugin(root).mom_collect_host(None)["ksm_shareable"] == 0, "there is no guest"
    qemu(root, 100, 40 << 20)
    qemu(root, 101, 2 << 20, "qemu-system-x86")
    qemu(root, 102, 1 << 20, "kvm")  # Proxmox VE's name
    qemu(root, 103, 8 << 20, "postgres")
    fields = plugin(root).mom_collect_host(None)
    assert fields["ksm_shareable"] == 43 << 20
    assert fields["ksm_tracked"] == 0


def test_shareable_memory_is_unknown_if_processes_are_hidden(root: Path) -> None:
    """With hidepid, or in a container, even ksmd is invisible."""
    shutil.rmtree(root / "proc/37")
    assert plugin(root).mom_collect_host(None).get("ksm_shareable") is None
    qemu(root, 100, 4 << 20)
    assert plugin(root).mom_collect_host(None)["ksm_shareable"] == 4 << 20


def test_hypervisors_own_ksm_replaces_the_kernels(root: Path, folder: Path) -> None:
    ksm, own = plugin(root), OwnKsm()
    assert ksm.mom_collect_host(own)["ksm_run"] == 0
    (outcome,) = apply_decisions(ksm, [Decision(HOST, "ksm_run", 1)], own)
    assert (outcome.before, outcome.after, outcome.status) == (0, 1, Status.APPLIED)
    (outcome,) = put_back(ksm, [LedgerEntry(HOST, "ksm_run", 0, 1, "ksm", 0.0)], own)
    assert outcome.status is Status.APPLIED
    assert own.files["run"] == 0
    assert (folder / "run").read_text() == "1\n"
    (finding,) = ksm.mom_doctor(own)
    assert finding.message == "the hypervisor has its own KSM"
    assert not list(ksm.mom_problems(snapshot())), "whatever another process does with it"
    assert [finding.severity for finding in ksm.mom_doctor(own)] == [Severity.OK]


def test_kernel_knobs_are_written_and_restored(mom_open_folder: Path, mom_power: MomPower) -> None:
    ksm = plugin(host_of(mom_open_folder, HOST_FILES))
    folder = mom_open_folder / "sys/kernel/mm/ksm"
    controls = [replace(control, file=f"{mom_open_folder}{control.file}") for control in declared(ksm, ControlSpec)]
    with mom_power("\n".join(map(Helper.declaration, controls))):
        assert [finding.severity for finding in ksm.mom_doctor(None) if finding.subject == "KSM"] == [Severity.OK]
        outcomes = apply_decisions(ksm, [Decision(HOST, "ksm_pages_to_scan", 64), Decision(HOST, "ksm_run", 0)])
        assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.APPLIED]
        assert (folder / "pages_to_scan").read_text() == "64"
        entries = [LedgerEntry(HOST, "ksm_run", 1, 0, "ksm", 0.0), LedgerEntry(HOST, "ksm_pages_to_scan", 100, 64, "ksm", 0.0)]
        assert [outcome.status for outcome in put_back(ksm, entries)] == [Status.APPLIED, Status.APPLIED]
    assert (folder / "run").read_text() == "1"


def test_without_ksm_there_are_no_fields_and_no_exceptions(tmp_path: Path) -> None:
    qemu(tmp_path, 100, 4 << 20)
    ksm = plugin(tmp_path)
    assert set(ksm.mom_collect_host(None).values()) == {None}
    (problem,) = ksm.mom_problems(snapshot())
    assert (problem.severity, "merges no pages" in problem.message, bool(problem.hint)) == (Severity.WARNING, True, True)
    (outcome,) = apply_decisions(ksm, [Decision(HOST, "ksm_run", 1)])
    assert outcome.status is Status.REFUSED
    (outcome,) = put_back(ksm, [LedgerEntry(HOST, "ksm_run", 0, 1, "ksm", 0.0)])
    assert outcome.status is Status.GONE
    (finding,) = ksm.mom_doctor(None)
    assert finding.severity is Severity.ERROR
    assert "CONFIG_KSM" in finding.cure


def test_knob_that_cannot_be_read_once_is_restored_later(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mom may have no file descriptor left for a moment."""
    really, failures = os.open, [24] * 100
    entry = LedgerEntry(HOST, "ksm_run", 0, 1, "ksm", 0.0)

    def open_file(path: str | Path, *rest: int) -> int:
        if str(path).startswith(str(folder)) and failures:
            raise OSError(failures.pop(), "Too many open files")
        return really(path, *rest)

    monkeypatch.setattr(os, "open", open_file)
    (outcome,) = put_back(plugin(root), [entry])
    assert (outcome.status, outcome.error) == (Status.FAILED, "the present value of ksm_run is unknown")
    failures.clear()
    (outcome,) = put_back(plugin(root), [entry])
    assert outcome.status is Status.APPLIED
    assert (folder / "run").read_text() == "0"


class HelpedHypervisor(FakeHypervisor):
    """Hypervisor that writes the knobs of this host's KSM through a privileged helper."""

    def __init__(self, folder: Path) -> None:
        super().__init__([])
        self.folder = folder

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        for name, value in knobs.items():
            (self.folder / name).write_text(f"{value}\n")


def test_hypervisor_that_only_writes_is_used_for_writes_only(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ksm, helper = plugin(root), HelpedHypervisor(folder)
    assert ksm.mom_collect_host(helper)["ksm_pages_to_scan"] == 100
    (outcome,) = apply_decisions(ksm, [Decision(HOST, "ksm_pages_to_scan", 200)], helper)
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 100, 200)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert {finding.severity for finding in ksm.mom_doctor(helper)} == {Severity.OK}
    assert not ksm.mom_problems(snapshot(host={"ksm_run": 1}))


@pytest.mark.parametrize(
    ("more", "words"),
    [(0, "only 0 MiB to spare"), (-1 << 20, "only 0 MiB to spare"), (1, ""), (None, "the available memory is unknown")],
    ids=["not enough", "far too little", "enough", "unknown"],
)
def test_unmerging_leaves_a_twentieth_of_the_host_available(root: Path, folder: Path, more: int | None, words: str) -> None:
    needed, total = 20 * os.sysconf("SC_PAGE_SIZE") >> 10, 64 << 20
    known = "" if more is None else f"MemAvailable: {total // 20 + needed + more} kB\n"
    (root / "proc/meminfo").write_text(f"MemTotal: {total} kB\n{known}")
    (outcome,) = apply_decisions(plugin(root), [Decision(HOST, "ksm_run", 2)], HelpedHypervisor(folder))
    assert (outcome.status is Status.REFUSED) == bool(words)
    assert words in outcome.error


def test_nothing_is_unmerged_if_the_merged_memory_is_unknown(root: Path, folder: Path) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {64 << 20} kB\nMemAvailable: {32 << 20} kB\n")
    (folder / "pages_sharing").write_text("")
    (outcome,) = apply_decisions(plugin(root), [Decision(HOST, "ksm_run", 2)])
    assert outcome.status is Status.REFUSED
    assert "the number of merged pages is unknown" in outcome.error
    assert (folder / "run").read_text() == "1\n"


@pytest.mark.parametrize(
    ("knob", "number", "said"),
    [
        ("merge_across_nodes", errno.EBUSY, "merge_across_nodes can change only while no pages are shared (set ksm_run to 2 first)"),
        ("pages_to_scan", errno.EINVAL, "rejects pages_to_scan while its advisor is active (echo none"),
        ("pages_to_scan", errno.EBUSY, "Device or resource busy"),
        ("run", errno.ENOENT, "this kernel has no KSM knob run"),
    ],
)
def test_kernel_errors_are_explained(root: Path, monkeypatch: pytest.MonkeyPatch, knob: str, number: int, said: str) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refused)
    with pytest.raises(HypervisorError, match=re.escape(said)) as raised:
        SysfsKsm(root).ksm_write({knob: 1})
    monkeypatch.undo()
    assert isinstance(raised.value, NotSupported) == (number == errno.ENOENT)


def test_doctor_and_cycles_report_read_only_knobs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ksm = plugin(root)
    ksm.mom_collect_host(None)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert any(f.severity is Severity.ERROR and "not writable" in f.message and "root" in f.cure for f in ksm.mom_doctor(None))
    (problem,) = ksm.mom_problems(snapshot(host={"ksm_run": 1}))
    assert "not writable" in problem.message
    observing = plugin(root, mode="observe")
    observing.mom_collect_host(None)
    assert [f.severity for f in observing.mom_doctor(None) if "not writable" in f.message] == [Severity.WARNING]
    assert list(observing.mom_problems(snapshot(host={"ksm_run": 1}))) == [], "it changes nothing anyway"


def test_the_doctor_finds_ksmtuned(root: Path) -> None:
    (host_of(root, {"proc/812/comm": "ksmtuned\n"}) / "proc/813").mkdir()  # it has just ended
    (finding,) = (f for f in plugin(root).mom_doctor(None) if f.severity is Severity.ERROR)
    assert "812" in finding.message
    assert "systemctl disable --now ksmtuned" in finding.cure


def test_doctor_reports_a_hidden_ksmd(root: Path) -> None:
    (root / "proc/37/stat").unlink()
    assert [f.subject for f in plugin(root).mom_doctor(None) if f.severity is Severity.WARNING] == ["KSM cost"]


def test_plugin_is_suggested_if_the_kernel_has_ksm(root: Path, tmp_path: Path) -> None:
    assert KsmPlugin.mom_suggest(root) is not None
    assert KsmPlugin.mom_suggest(tmp_path / "elsewhere") is None


def test_state_of_the_law_changes_once_a_snapshot(root: Path) -> None:
    host: dict[str, Value] = {
        "mem_available": 24 << 20, "mem_really_available": 4 << 20, "cpu_count": 4, "ksm_run": 1, "ksm_pages_to_scan": 6666,
        "ksm_sleep_millisecs": 20, "ksm_full_scans": 7, "ksm_clock": 1000.0, "ksm_yield": 0.0, "ksm_saved": 0,
    }  # fmt: skip

    def reasons(looked: KsmPlugin, scans: int, cycle: float) -> list[Value]:
        taken = replace(snapshot(host={**host, "ksm_full_scans": scans}), monotonic=cycle)
        found = [looked.mom_derive(taken).host["ksm_reason"] for _ in range(2)]
        list(looked.mom_problems(taken))
        return found

    first = plugin(root)
    assert reasons(first, 7, 1.0) == ["look", "look"]
    assert reasons(first, 10, 2.0) == ["rest", "rest"], "three scans later"
    assert reasons(plugin(root), 10, 3.0) == ["look", "look"], "after a restart"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, []),
        ({"ksm_run": 1, "ksm_pages_sharing": 12345}, ["KSM on, 12,345 pages shared"]),
        ({"ksm_run": 0, "ksm_pages_sharing": None}, ["KSM off"]),
        ({"ksm_run": 2}, ["KSM off"]),
        ({"ksm_run": 1, "ksm_reason": "look", "ksm_suggested_run": 1}, ["KSM on: KSM scans for new equal pages"]),
        ({"ksm_run": 1, "ksm_reason": "look", "ksm_suggested_run": 0}, ["KSM on"]),
    ],
)
def test_status_shows_whether_pages_are_merged(fields: dict[str, Value], shown: list[str]) -> None:
    taken = snapshot(host=fields)
    assert [part.text for part in ksm_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01))] == shown


class TestConformance(ConformanceTests):
    plugin = KsmPlugin
    host = HOST_FILES
