"""Setting and restoring KSM's knobs, on a KSM with the kernel's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ksm_files import FILES

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Entity,
    Guest,
    HypervisorError,
    LedgerEntry,
    Outcome,
    PluginContext,
    Scope,
    StateFile,
    Status,
    Target,
    Value,
    hookimpl,
)
from mom_devkit import apply_decisions
from mom_devkit import put_back as put_entries_back
from mom_plugins_ksm import KsmPlugin
from mom_plugins_ksm.control import CONTROLS, KsmControl, KsmKnobs, knob_of

HOST = Entity(Scope.HOST, "host", "host")
KNOBS = [control.name for control in CONTROLS]


class Kernel:
    """Knobs of KSM by the rules of mm/ksm.c. Pages are merged at once."""

    def __init__(self, mergeable: int = 0, **files: Value) -> None:
        self.files: dict[str, Value] = {name: FILES[name] for name in (*map(knob_of, KNOBS), "advisor_mode")} | {"run": 0} | files
        self.mergeable = mergeable
        self.calls: list[list[tuple[str, int]]] = []
        self.merged = 0
        self.fault: Exception | None = None
        self._merge()

    def ksm_read(self) -> Mapping[str, Value]:
        return {**self.files, "pages_shared": self.merged // 2, "pages_sharing": self.merged // 2}

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        self.calls.append(list(knobs.items()))
        if self.fault is not None:
            raise self.fault
        for name, value in knobs.items():
            if name == "pages_to_scan" and self.files["advisor_mode"] != "none":
                raise HypervisorError("Invalid argument")
            if name == "merge_across_nodes" and value != self.files[name] and self.merged:
                raise HypervisorError("Device or resource busy")
            self.files[name] = value
            self._merge()

    def _merge(self) -> None:
        if self.files["run"] == 2:
            self.merged = 0
        elif self.files["run"] == 1:
            self.merged = self.mergeable if self.mergeable > 1 else 0  # a single page has no equal


class OnlyKnobs:
    """Part of the plugin that these tests need."""

    def __init__(self, kernel: KsmControl, spare_kib: int | None) -> None:
        spare = None if spare_kib is None else lambda: spare_kib
        self._knobs = KsmKnobs(kernel.ksm_read, kernel.ksm_write, 4096, Mock(spec=StateFile), spare)

    @hookimpl
    def mom_declare(self) -> Sequence[ControlSpec]:
        return CONTROLS

    @hookimpl
    def mom_read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        return self._knobs.read(targets)

    @hookimpl
    def mom_write(self, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        return self._knobs.write(changes)


def decide(kernel: KsmControl, spare_kib: int | None = None, **values: Value) -> dict[str, Outcome]:
    decisions = [Decision(HOST, f"ksm_{knob}", value) for knob, value in values.items()]
    outcomes = apply_decisions(OnlyKnobs(kernel, spare_kib), decisions)
    return {knob_of(outcome.decision.control): outcome for outcome in outcomes}


def put_back(kernel: KsmControl, spare: int | None = None, /, **before_and_applied: tuple[Value, Value]) -> dict[str, Outcome]:
    entries = [LedgerEntry(HOST, f"ksm_{knob}", before, applied, "ksm", 0.0) for knob, (before, applied) in before_and_applied.items()]
    outcomes = put_entries_back(OnlyKnobs(kernel, spare), entries)
    assert len(outcomes) == len(entries)
    return {knob_of(outcome.decision.control): outcome for outcome in outcomes}


def test_ksm_starts_last_and_stops_first() -> None:
    kernel = Kernel()
    outcomes = decide(kernel, run=1, pages_to_scan=300, sleep_millisecs=16)
    decide(kernel, pages_to_scan=64, run=0)
    assert kernel.calls == [[("sleep_millisecs", 16), ("pages_to_scan", 300), ("run", 1)], [("run", 0), ("pages_to_scan", 64)]]
    assert {(outcome.before, outcome.after, outcome.status) for outcome in outcomes.values()} == {
        (0, 1, Status.APPLIED),
        (100, 300, Status.APPLIED),
        (20, 16, Status.APPLIED),
    }


@pytest.mark.parametrize("nonsense", [-1, 0.5, float("nan"), None])
def test_invalid_value_is_refused(nonsense: Value) -> None:
    kernel = Kernel()
    assert decide(kernel, run=nonsense)["run"].status is Status.REFUSED
    assert kernel.calls == []


def test_active_advisor_keeps_its_pages_and_the_error_names_the_remedy() -> None:
    kernel = Kernel(advisor_mode="scan-time", pages_to_scan=500)
    outcomes = decide(kernel, pages_to_scan=300, run=1)
    assert outcomes["pages_to_scan"].status is Status.REFUSED
    assert "advisor" in outcomes["pages_to_scan"].error
    assert "echo none" in outcomes["pages_to_scan"].error
    assert outcomes["run"].status is Status.APPLIED


@pytest.mark.parametrize(("zero_pages", "said", "enough"), [(0, "1000 pages needs 3 MiB", 4001), (500, "1500 pages needs 5 MiB", 6001)])
def test_unmerging_is_refused_without_memory_for_merged_and_empty_pages(zero_pages: int, said: str, enough: int) -> None:
    kernel = Kernel(mergeable=2000, run=1, ksm_zero_pages=zero_pages)
    outcome = decide(kernel, spare_kib=enough - 1, run=2)["run"]
    assert outcome.status is Status.REFUSED
    assert f"unmerging {said}" in outcome.error
    assert kernel.merged
    assert decide(kernel, spare_kib=enough, run=2)["run"].status is Status.APPLIED


def test_refused_knob_does_not_stop_others() -> None:
    kernel = Kernel(mergeable=100, run=1)
    outcomes = decide(kernel, merge_across_nodes=0, pages_to_scan=300, sleep_millisecs=16)
    assert outcomes["merge_across_nodes"].status is Status.FAILED
    assert "busy" in outcomes["merge_across_nodes"].error
    assert outcomes["pages_to_scan"].status is outcomes["sleep_millisecs"].status is Status.APPLIED
    assert (kernel.files["pages_to_scan"], kernel.files["sleep_millisecs"]) == (300, 16)


@pytest.mark.parametrize(
    ("mergeable", "files", "entries", "left", "run"),
    [
        (100, {"pages_to_scan": 400}, {"run": (0, 1), "pages_to_scan": (100, 400)}, {}, 0),
        (100, {}, {}, {}, 1),  # a KSM that ran before mom runs again
        (100, {}, {"run": (2, 0)}, {"run": Status.LEFT_ALONE}, 1),  # chosen by another process
        (2000, {"pages_to_scan": 400}, {"run": (0, 1), "pages_to_scan": (100, 400)}, {"merge_across_nodes": Status.FAILED}, 0),
    ],
    ids=["stopped", "running", "chosen", "without memory to unmerge"],
)
def test_merging_across_nodes_is_restored_by_unmerging_first_if_memory_allows(
    mergeable: int, files: dict[str, Value], entries: dict[str, tuple[Value, Value]], left: dict[str, Status], run: int
) -> None:
    kernel = Kernel(mergeable=mergeable, run=1, merge_across_nodes=0, **files)
    outcomes = put_back(kernel, 1000, merge_across_nodes=(1, 0), **entries)
    assert {name: one.status for name, one in outcomes.items() if one.status is not Status.APPLIED} == left
    assert ("unmerging 1000 pages" in outcomes["merge_across_nodes"].error) == ("merge_across_nodes" in left)
    assert (kernel.files["merge_across_nodes"], kernel.files["run"]) == (0 if "merge_across_nodes" in left else 1, run)
    assert kernel.merged == (0 if run == 0 and not left else mergeable)


@pytest.mark.parametrize(("mergeable", "run"), [(0, 1), (100, None)], ids=["no pages are shared", "the mode of KSM is unknown"])
def test_nothing_is_unmerged_if_that_would_not_help(mergeable: int, run: Value) -> None:
    kernel = Kernel(mergeable, run=1, merge_across_nodes=0)
    kernel.files["run"], kernel.fault = run, HypervisorError("Device or resource busy")
    assert put_back(kernel, merge_across_nodes=(1, 0))["merge_across_nodes"].status is Status.FAILED
    assert kernel.calls == [[("merge_across_nodes", 1)]]


class Sticky(Kernel):
    """KSM that keeps some shared pages for a moment after unmerging, as the kernel may."""

    refusals = 2

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        if "merge_across_nodes" in knobs and self.refusals:
            self.refusals -= 1
            raise HypervisorError("Device or resource busy")
        super().ksm_write(knobs)


def test_restore_waits_for_the_last_shared_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_ksm.control._BUSY_PAUSE", 0.0)
    kernel = Sticky(mergeable=100, run=1, merge_across_nodes=0)
    assert put_back(kernel, merge_across_nodes=(1, 0))["merge_across_nodes"].status is Status.APPLIED
    kernel = Sticky(mergeable=100, run=1, merge_across_nodes=0)
    kernel.refusals = 1000
    outcome = put_back(kernel, merge_across_nodes=(1, 0))["merge_across_nodes"]
    assert (outcome.status, outcome.error) == (Status.FAILED, "Device or resource busy")
    assert kernel.files["run"] == 1


class Killed(BaseException):
    """Raised when mom is killed."""


class UntilKilled(Kernel):
    """KSM under a mom that is killed after some writes."""

    uri, left = "test:///own", 99

    def guests(self) -> Sequence[Guest]:
        return []

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        super().ksm_write(knobs)


BACK = [Change(Target(HOST, "ksm_merge_across_nodes"), 1, 0, back=True)]


def plugin(folder: Path, *, serves: bool = True) -> KsmPlugin:
    context = PluginContext(name="ksm", root=folder, state_directory=folder / "state", serves=serves)
    return KsmPlugin(KsmPlugin.Settings(), context)


@pytest.mark.parametrize("writes", range(4))
@pytest.mark.parametrize("serves", [True, False], ids=["the next mom", "mom restore"])
def test_ksm_continues_after_a_kill_during_unmerging(tmp_path: Path, writes: int, *, serves: bool) -> None:
    kernel = UntilKilled(mergeable=100, run=1, merge_across_nodes=0)
    kernel.left = writes
    with pytest.raises(Killed):
        plugin(tmp_path).mom_write(kernel, BACK)
    kernel.left = 99
    later = plugin(tmp_path, serves=serves)
    if serves:
        assert later.mom_collect_host(kernel)["ksm_run"] == 1
    else:
        later.mom_read(kernel, [])
    assert kernel.files["run"] == 1
    assert later.mom_write(kernel, BACK) == {}
    assert (kernel.files["merge_across_nodes"], kernel.files["run"], kernel.merged) == (1, 1, 100)
    kernel.files["run"] = 2
    plugin(tmp_path).mom_read(kernel, [])
    assert kernel.files["run"] == 2, "another process has set it, and nothing is noted any more"


def test_nothing_is_unmerged_if_the_former_mode_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder belongs")
    kernel = UntilKilled(mergeable=100, run=1, merge_across_nodes=0)
    (error,) = plugin(tmp_path).mom_write(kernel, BACK).values()
    assert "Device or resource busy" in str(error)
    assert "cannot be written" in str(error)
    assert (kernel.files["run"], kernel.merged) == (1, 100)


knob_values = {
    "run": st.integers(0, 2),
    "pages_to_scan": st.integers(1, 1_000_000),
    "sleep_millisecs": st.integers(1, 60_000),
    "merge_across_nodes": st.integers(0, 1),
}
settings_of_all = st.fixed_dictionaries(knob_values)
changes = st.fixed_dictionaries({}, optional=knob_values)
SLOW = {"run": 0, "pages_to_scan": 1, "sleep_millisecs": 1, "merge_across_nodes": 1}


@given(settings_of_all, st.integers(0, 1000), st.lists(changes, max_size=5))
@example(SLOW, 1, [{"run": 0, "merge_across_nodes": 0}, {"run": 1}])
@example(SLOW, 2, [{"run": 0, "merge_across_nodes": 0}, {"run": 1}])
def test_restore_leaves_everything_as_before(first: dict[str, int], mergeable: int, cycles: list[dict[str, int]]) -> None:
    kernel = Kernel(mergeable=mergeable, **first)
    before = dict(kernel.files)
    ledger: dict[str, tuple[Value, Value]] = {}
    for values in cycles:
        for knob, outcome in decide(kernel, **values).items():
            if outcome.status is Status.APPLIED:
                ledger[knob] = (ledger.get(knob, (before[knob],))[0], outcome.after)
    outcomes = put_back(kernel, None, **ledger)
    assert {outcome.status for outcome in outcomes.values()} <= {Status.APPLIED, Status.UNCHANGED}
    assert kernel.files == before
