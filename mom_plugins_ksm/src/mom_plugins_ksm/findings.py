"""Obstacles to KSM on this host, each with advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mom_core import Finding, Severity, Value, format_duration
from mom_kvm import ProcessStat, unwritable_finding
from mom_plugins_ksm.control import PAGES_TO_SCAN, RUN, SLEEP
from mom_plugins_ksm.fields import is_count
from mom_plugins_ksm.sysfs import ADVISOR_CURE

VIRT_HANDLER: Final = "virt-handler"

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
        elif knob in {RUN, PAGES_TO_SCAN, SLEEP}:
            self._set[knob] = value

    def see(self, files: Mapping[str, Value], now: float) -> None:
        """Compare the present values with those set by mom."""
        if now >= self._until:
            self.why_left = ""
        changed = [knob for knob, value in self._set.items() if is_count(files.get(knob)) and files.get(knob) != value]
        if files.get("advisor_mode", "none") != "none":  # the advisor sets pages_to_scan itself
            changed = [knob for knob in changed if knob != PAGES_TO_SCAN]
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


def knobs_finding(folder: Path, *, present: bool, writes: bool, observes: bool) -> Finding:
    """Report whether mom can set KSM's knobs.

    :param present: whether KSM's file `run` is readable
    :param writes: true if mom writes the files, false if the hypervisor does
    """
    if not present:
        cure = "use a kernel built with CONFIG_KSM=y, or remove the ksm plugin from the configuration"
        return Finding(Severity.ERROR, "KSM", f"{folder} is missing or unreadable: this kernel merges no pages", cure)
    if not writes:
        return Finding(Severity.OK, "KSM", f"{folder} exists, and the hypervisor sets KSM")
    unwritable = unwritable_finding(folder / "run", "KSM", "mom cannot set KSM", observes=observes)
    return unwritable or Finding(Severity.OK, "KSM", f"{folder} exists and is writable")


def scanner_findings(values: Mapping[str, Value], proc: Path) -> Iterator[Finding]:
    """Report other programs that set the scan speed, and an invisible ksmd."""
    mode = values.get("advisor_mode", "none")
    if mode != "none":
        message = f"the kernel's advisor ({mode}) is on and sets pages_to_scan: mom does not set the scan speed"
        yield Finding(Severity.WARNING, "KSM advisor", message, f"to let mom set the speed: {ADVISOR_CURE}")
    if pid := ProcessStat.id_of("ksmtuned", proc):
        message = f"ksmtuned is running (pid {pid}) and sets the same knobs as mom: each would overwrite the other's values"
        yield Finding(Severity.ERROR, "KSM and ksmtuned", message, "systemctl disable --now ksmtuned")
    if pid := ProcessStat.id_of(VIRT_HANDLER, proc):
        message = f"{VIRT_HANDLER} is running (pid {pid}), and sets KSM on nodes that ksmConfiguration selects: mom does not set KSM there"
        yield Finding(Severity.WARNING, "KSM and KubeVirt", message, ONE_OF_TWO)
    if "ksmd_cpu_seconds" not in values:
        message = "ksmd is not visible in /proc, so its CPU time is unknown: policies cannot limit this time"
        yield Finding(Severity.WARNING, "KSM cost", message, "run mom outside of containers, or with the host's PID namespace")
