"""Plugin ksm: reads, sets and restores KSM's knobs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

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
    format_duration,
    hookimpl,
)
from mom_kvm import ProcessStat, late_hook, unwritable_finding
from mom_plugins_ksm import control
from mom_plugins_ksm.control import CONTROLS, KsmControl, KsmKnobs, KsmWriter
from mom_plugins_ksm.fields import FIELDS, LAW_FIELDS, CpuUsage, Yield, is_count, ksm_fields
from mom_plugins_ksm.law import KsmParameters
from mom_plugins_ksm.suggested import KsmSuggestions

_WITHIN_SECONDS: Final = 900.0
"""If mom's values are replaced twice within this time, mom assumes another program: virt-handler writes every three minutes, ksmtuned every
minute."""

_ALONE_SECONDS: Final = 86_400.0
"""mom does not set KSM for this many seconds after it noticed another program."""


class AnotherHand:
    """Detector of another program that replaces the values set by mom. Times in monotonic seconds."""

    def __init__(self) -> None:
        self._set: dict[str, int] = {}
        self._replaced_at = self._until = float("-inf")
        self.why_left = ""
        """Why mom does not set the knobs; empty if it does."""

    def set_by_mom(self, knob: str, value: int | None) -> None:
        """Record a value that mom has set; None if the value is unknown or restored."""
        if value is None:
            self._set.pop(knob, None)
        elif knob in {control.RUN, control.PAGES_TO_SCAN, control.SLEEP}:
            self._set[knob] = value

    def see(self, files: Mapping[str, Value], now: float) -> None:
        """Compare the present values with those set by mom."""
        if now >= self._until:
            self.why_left = ""
        changed = [knob for knob, value in self._set.items() if is_count(files.get(knob)) and files.get(knob) != value]
        if files.get("advisor_mode", "none") != "none":  # the advisor sets pages_to_scan itself
            changed = [knob for knob in changed if knob != control.PAGES_TO_SCAN]
        if not changed:
            return
        if now - self._replaced_at <= _WITHIN_SECONDS:
            values = ", ".join(f"{knob} {files.get(knob)} instead of {self._set[knob]}" for knob in changed)
            period = format_duration(_ALONE_SECONDS)
            self.why_left = f"another program also sets KSM's knobs ({values}): mom does not set them for {period}"
            self._until = now + _ALONE_SECONDS
        self._replaced_at = now
        for knob in changed:
            del self._set[knob]


ONE_OF_TWO = (
    "let only one program set KSM: remove the ksm plugin from mom's configuration, "
    "or disable the other program (KubeVirt: ksmConfiguration)"
)


def scanner_findings(values: Mapping[str, Value], proc: Path) -> Iterator[Finding]:
    """Report other programs that set the scan speed, and an invisible ksmd."""
    mode = values.get("advisor_mode", "none")
    if mode != "none":
        message = f"the kernel's advisor ({mode}) is on and sets pages_to_scan: mom does not set the scan speed"
        yield Finding(Severity.WARNING, "KSM advisor", message, f"to let mom set the speed: {control.ADVISOR_CURE}")
    if pid := ProcessStat.id_of("ksmtuned", proc):
        message = f"ksmtuned is running (pid {pid}) and sets the same knobs as mom: each would overwrite the other's values"
        yield Finding(Severity.ERROR, "KSM and ksmtuned", message, "systemctl disable --now ksmtuned")
    if pid := ProcessStat.id_of("virt-handler", proc):
        message = f"virt-handler is running (pid {pid}), and sets KSM on nodes that ksmConfiguration selects: mom does not set KSM there"
        yield Finding(Severity.WARNING, "KSM and KubeVirt", message, ONE_OF_TWO)
    if "ksmd_cpu_seconds" not in values:
        message = "ksmd is not visible in /proc, so its CPU time is unknown: policies cannot limit this time"
        yield Finding(Severity.WARNING, "KSM cost", message, "run mom outside of containers, or with the host's PID namespace")


class KsmPlugin:
    """Collector and controller of the kernel's KSM, or of a hypervisor's own KSM (`KsmControl`)."""

    class Settings(PluginSettings):
        """Settings of the KSM law."""

        law: KsmParameters = KsmParameters()
        """Parameters of the KSM law: when memory is short, the worth of ksmd's CPU time, ksmd's speed, and its rests."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._sysfs = control.SysfsKsm(context.root)
        self._page_size = os.sysconf("SC_PAGE_SIZE")
        self._qemu = control.QemuProcesses(context.root, self._page_size)
        self._usage = CpuUsage()
        self._yield = Yield()
        self._suggested = KsmSuggestions(settings.law)
        stopped = "KSM might be stopped, because mom was interrupted: check /sys/kernel/mm/ksm/run"
        self._unmerging = context.state_file(
            "unmerging.json", "the file with KSM's mode before the unmerging", control.UNMERGING, loss=stopped
        )
        self._may_be_cut_off = True
        self._is_foreign = self._is_written_by_another = False
        self._other = AnotherHand()

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / control.FOLDER / "run").exists():
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
        """Report why KSM cannot be used."""
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
            knob, value = control.knob_of(change.control), as_whole(change.value)
            error = errors.get(change.target)
            if isinstance(error, Refused) or self._is_foreign:
                continue
            # A change without an answer may still take effect: do not blame another program for a later value.
            self._other.set_by_mom(knob, None if change.back or error is not None else value)
            if error is not None and knob == control.MERGE_ACROSS_NODES and change.back:  # this restore also sets `run`
                self._other.set_by_mom(control.RUN, None)
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
        # Report whether mom can set the knobs. `present`: whether the file `run` is readable.
        folder = self._sysfs.folder
        if not present:
            cure = "use a kernel built with CONFIG_KSM=y, or remove the ksm plugin from the configuration"
            return Finding(Severity.ERROR, "KSM", f"{folder} is missing or unreadable: this kernel merges no pages", cure)
        if self._is_written_by_another:
            return Finding(Severity.OK, "KSM", f"{folder} exists, and the hypervisor sets KSM")
        unwritable = unwritable_finding(folder / "run", "KSM", "mom cannot set KSM", observes=self._context.observes)
        return unwritable or Finding(Severity.OK, "KSM", f"{folder} exists and is writable")

    def _knobs(self, hypervisor: object) -> KsmKnobs:
        self._is_foreign, self._is_written_by_another = isinstance(hypervisor, KsmControl), isinstance(hypervisor, KsmWriter)
        if isinstance(hypervisor, KsmControl):  # the hypervisor itself checks whether memory allows unmerging
            return KsmKnobs(hypervisor.ksm_read, hypervisor.ksm_write, self._page_size, self._unmerging)
        writer = hypervisor if isinstance(hypervisor, KsmWriter) else self._sysfs
        spare, folder = self._sysfs.spare_kib, self._sysfs.folder
        return KsmKnobs(self._sysfs.ksm_read, writer.ksm_write, self._page_size, self._unmerging, spare, folder)
