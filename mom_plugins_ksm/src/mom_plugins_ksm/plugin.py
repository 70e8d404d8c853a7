"""Plugin ksm: reads, sets and restores KSM's knobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from mom_core import (
    Change,
    Decision,
    Declaration,
    DefaultPolicy,
    Finding,
    Hypervisor,
    HypervisorError,
    MomError,
    PluginContext,
    PluginSettings,
    Problem,
    Refused,
    Revision,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Value,
    as_number,
    as_whole,
    hookimpl,
)
from mom_kvm import late_hook
from mom_plugins_ksm.control import CONTROLS, MERGE_ACROSS_NODES, RUN, UNMERGING, KsmControl, KsmKnobs, KsmWriter, knob_of
from mom_plugins_ksm.fields import FIELDS, LAW_FIELDS, CpuUsage, Yield, is_count, ksm_fields
from mom_plugins_ksm.findings import ONE_OF_TWO, AnotherHand, knobs_finding, scanner_findings
from mom_plugins_ksm.law import KsmParameters
from mom_plugins_ksm.suggested import FORM, KsmSuggestions
from mom_plugins_ksm.sysfs import FOLDER, QemuProcesses, SysfsKsm


class KsmPlugin:
    """Collector and controller of the kernel's KSM, or of a hypervisor's own KSM (`KsmControl`)."""

    class Settings(PluginSettings):
        """Settings of the KSM law."""

        law: KsmParameters = KsmParameters()
        """Parameters of the KSM law: when memory is short, the worth of ksmd's CPU time, ksmd's speed, and its rests."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._sysfs = SysfsKsm(context.root)
        self._page_size = os.sysconf("SC_PAGE_SIZE")
        self._qemu = QemuProcesses(context.root, self._page_size)
        self._usage = CpuUsage()
        self._yield = Yield()
        file = context.state_file("law.json", "the state file of the KSM law", FORM, loss="KSM scans again for equal pages")
        self._suggested = KsmSuggestions(settings.law, file)
        stopped = "KSM might be stopped, because mom was interrupted: check /sys/kernel/mm/ksm/run"
        self._unmerging = context.state_file("unmerging.json", "the file with KSM's mode before the unmerging", UNMERGING, loss=stopped)
        self._may_be_cut_off = True
        self._is_foreign = self._is_written_by_another = False
        self._other = AnotherHand()

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / FOLDER / "run").exists():
            return None
        return Suggestion("this kernel can merge equal pages of guests (KSM)", order=41)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        policy = files("mom_plugins_ksm").joinpath("ksm.policy").read_text("utf-8")
        return (*FIELDS, *LAW_FIELDS, *CONTROLS, DefaultPolicy("40_ksm", policy))

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor | None) -> Mapping[str, Value]:
        if self._context.serves:
            self._end_unmerging(hypervisor)
        values = self._knobs(hypervisor).ksm_read()
        now = self._context.monotonic()
        self._other.see(values, now)
        if values and not self._is_foreign:
            shareable = self._qemu.address_space_kib(now)
            # In a container or with hidepid, ksmd is invisible. QEMU processes may then be invisible as well.
            if shareable or "ksmd_cpu_seconds" in values:
                values = {**values, "shareable_kib": shareable}
        collected = ksm_fields(values, self._page_size)
        collected["ksmd_cpu_usage"] = self._usage.percent(as_number(values.get("ksmd_cpu_seconds")), now, values.get("pages_to_scan"))
        collected["ksmd_cpu_pages"] = self._usage.pages
        collected["ksm_yield"] = self._yield.kib_per_second(values, self._page_size)
        if values:
            collected["ksm_clock"] = now
        return collected

    @hookimpl
    def mom_derive(self, snapshot: Snapshot) -> Snapshot.Derived:
        return Snapshot.Derived(host=self._suggested.of(snapshot))

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Save the law's state, and report why KSM cannot be used."""
        self._suggested.keep()
        if self._is_foreign:
            return ()
        present = is_count(snapshot.host.fields.get("ksm_run"))
        finding = self._finding(present=present)
        why, cure = (finding.message, finding.cure) if finding.severity is Severity.ERROR else (self._other.why_left, ONE_OF_TWO)
        return (Problem(Source(self._context.name), why, severity=Severity.WARNING, hint=cure),) if why else ()

    @hookimpl
    def mom_review(self, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """Skip all KSM writes while another program manages KSM."""
        why = self._other.why_left
        return [Revision(decision, None, why) for decision in decisions if why and any(decision.control == spec.name for spec in CONTROLS)]

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor | None, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        self._end_unmerging(hypervisor)  # before mom restores a knob
        return self._knobs(hypervisor).read(targets)

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor | None, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set the knobs. A restore leaves pages merged."""
        errors = self._knobs(hypervisor).write(changes)
        for change in changes:
            knob, value = knob_of(change.control), as_whole(change.value)
            error = errors.get(change.target)
            if isinstance(error, Refused) or self._is_foreign:
                continue
            # A change without an answer may still take effect: do not blame another program for a later value.
            self._other.set_by_mom(knob, None if change.back or error is not None else value)
            if error is not None and knob == MERGE_ACROSS_NODES and change.back:  # this restore also sets `run`
                self._other.set_by_mom(RUN, None)
                self._may_be_cut_off = True
        return errors

    def _end_unmerging(self, hypervisor: object) -> None:
        if not self._may_be_cut_off:
            return
        with suppress(MomError):  # retried in the next cycle; mom reports faults of the file
            run = self._knobs(hypervisor).end_unmerging()
            self._may_be_cut_off = False
            if run is not None:
                self._context.log.warning(
                    "restored ksm_run to %d: mom had told KSM to unmerge all pages for a moment, and was interrupted", run
                )

    mom_explainer = late_hook("mom_plugins_ksm.overview:KsmExplainer")
    mom_status = late_hook("mom_plugins_ksm.overview:ksm_parts", "report")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        self._knobs(hypervisor)
        if self._is_foreign:
            return [Finding(Severity.OK, "KSM", "the hypervisor has its own KSM")]
        values = self._sysfs.ksm_read()
        findings = [self._finding(present="run" in values)]
        if "run" in values:
            findings += scanner_findings(values, self._context.root / "proc")
        return findings

    def _finding(self, *, present: bool) -> Finding:
        writes, observes = not self._is_written_by_another, self._context.observes
        return knobs_finding(self._sysfs.folder, present=present, writes=writes, observes=observes)

    def _knobs(self, hypervisor: object) -> KsmKnobs:
        self._is_foreign, self._is_written_by_another = isinstance(hypervisor, KsmControl), isinstance(hypervisor, KsmWriter)
        if isinstance(hypervisor, KsmControl):  # the hypervisor itself checks whether memory allows unmerging
            return KsmKnobs(hypervisor.ksm_read, hypervisor.ksm_write, self._page_size, None, unmerging=self._unmerging)
        writer = hypervisor if isinstance(hypervisor, KsmWriter) else self._sysfs
        spare, folder = self._sysfs.spare_kib, self._sysfs.folder
        return KsmKnobs(self._sysfs.ksm_read, writer.ksm_write, self._page_size, spare, folder, self._unmerging)
