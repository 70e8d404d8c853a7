"""Obstacles to KSM on this host, each with advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mom_core import Declarations, Finding, Scope, Severity, Value
from mom_kvm import ProcessStat, unwritable_finding
from mom_plugins_ksm.another_hand import VIRT_HANDLER, virt_handler_in
from mom_plugins_ksm.sysfs import ADVISOR_CURE

_LAW_READS = ("mem_available", "mem_really_available", "mem_free", "cpu_count")

ONE_OF_TWO = (
    "let only one program set KSM: remove the ksm plugin from mom's configuration, "
    "or disable the other program (KubeVirt: ksmConfiguration)"
)


def knobs_finding(folder: Path, *, present: bool, writes: bool, observes: bool) -> Finding:
    """Report whether KSM can be set. `present`: `run` is readable. `writes`: mom writes the knobs itself."""
    if not present:
        cure = "use a kernel built with CONFIG_KSM=y, or remove the ksm plugin from the configuration"
        return Finding(Severity.ERROR, "KSM", f"{folder} is missing or unreadable: this kernel merges no pages", cure)
    if not writes:
        return Finding(Severity.OK, "KSM", f"{folder} exists, and the hypervisor sets KSM")
    unwritable = unwritable_finding(folder / "run", "KSM", "mom cannot set KSM", observes=observes)
    return unwritable or Finding(Severity.OK, "KSM", f"{folder} exists and is writable")


def scanner_findings(values: Mapping[str, Value], proc: Path) -> Iterator[Finding]:
    """Report other programs that set the speed, or an invisible ksmd."""
    mode = values.get("advisor_mode", "none")
    if mode != "none":
        message = f"the kernel's advisor ({mode}) is on and sets pages_to_scan: mom does not set the scan speed"
        yield Finding(Severity.WARNING, "KSM advisor", message, f"to let mom set the speed: {ADVISOR_CURE}")
    if pid := ProcessStat.id_of("ksmtuned", proc):
        message = f"ksmtuned is running (pid {pid}) and sets the same knobs as mom: each would overwrite the other's values"
        yield Finding(Severity.ERROR, "KSM and ksmtuned", message, "systemctl disable --now ksmtuned")
    if pid := virt_handler_in(proc):
        message = f"{VIRT_HANDLER} is running (pid {pid}), and sets KSM on nodes that ksmConfiguration selects: mom does not set KSM there"
        yield Finding(Severity.WARNING, "KSM and KubeVirt", message, ONE_OF_TWO)
    if "ksmd_cpu_seconds" not in values:
        message = "ksmd is not visible in /proc, so its CPU time is unknown: policies cannot limit it"
        yield Finding(Severity.WARNING, "KSM cost", message, "run mom outside of containers, or with the host's PID namespace")


def law_findings(declarations: Declarations, *, evaluated: bool) -> Iterator[Finding]:
    """Report missing fields of the law. `evaluated`: a plugin evaluates the default policy."""
    missing = [name for name in _LAW_READS if (Scope.HOST, name) not in declarations.fields]
    if missing and evaluated:
        message = f"the KSM law reads {', '.join(missing)}, which no enabled plugin collects: it suggests nothing"
        yield Finding(Severity.ERROR, "KSM law", message, "enable the host plugin")
