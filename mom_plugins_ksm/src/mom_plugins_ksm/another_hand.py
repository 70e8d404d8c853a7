"""Detects another program that sets KSM's knobs; mom then stops setting them.

KubeVirt's virt-handler writes `run`, `pages_to_scan` and `sleep_millisecs` every three minutes on nodes that its `ksmConfiguration` selects
(kubevirt/kubevirt, pkg/virt-handler/ksm).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mom_core import Value, format_duration
from mom_kvm import ProcessStat
from mom_plugins_ksm.control import PAGES_TO_SCAN, RUN, SLEEP
from mom_plugins_ksm.fields import is_count

VIRT_HANDLER: Final = "virt-handler"

_WITHIN_SECONDS: Final = 900.0
"""Two replacements of mom's values within this time come from a program: virt-handler writes every three minutes, ksmtuned every minute."""

_ALONE_SECONDS: Final = 86_400.0
"""Time without writes by mom. Afterwards mom detects a running program again within minutes."""


class AnotherHand:
    """Values set by mom, and their replacements. Times in monotonic seconds."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._set: dict[str, int] = {}
        self._replaced: list[float] = []
        self._until: float | None = None
        self._who = self._what = ""

    def set_by_mom(self, knob: str, value: int | None) -> None:
        """Record a value set by mom; None if unknown, or restored."""
        if value is None:
            self._set.pop(knob, None)
        elif knob in {RUN, PAGES_TO_SCAN, SLEEP}:
            self._set[knob] = value

    def see(self, files: Mapping[str, Value], now: float) -> None:
        """Compare the present values with mom's."""
        if self._until is not None and now >= self._until:
            self._until, self._replaced = None, []
        changed = [knob for knob, value in self._set.items() if is_count(files.get(knob)) and files.get(knob) != value]
        if files.get("advisor_mode", "none") != "none":  # the advisor sets pages_to_scan itself
            changed = [knob for knob in changed if knob != PAGES_TO_SCAN]
        if not changed:
            return
        self._what = ", ".join(f"{knob} {files.get(knob)} instead of {self._set[knob]}" for knob in changed)
        self._set = {knob: value for knob, value in self._set.items() if knob not in changed}
        self._replaced = [*(moment for moment in self._replaced if now - moment <= _WITHIN_SECONDS), now]
        self._who, times = ("KubeVirt's virt-handler", 1) if virt_handler_in(self._proc) else ("another program", 2)
        if len(self._replaced) >= times:
            self._until = now + _ALONE_SECONDS

    @property
    def why_left(self) -> str:
        """Why mom does not set the knobs, or an empty string if it does."""
        if self._until is None:
            return ""
        return f"{self._who} also sets KSM's knobs ({self._what}): mom does not set them for {format_duration(_ALONE_SECONDS)}"


def virt_handler_in(proc: Path) -> int:
    """Return the pid of virt-handler, or 0. Too slow for each cycle."""
    return ProcessStat.id_of(VIRT_HANDLER, proc)
