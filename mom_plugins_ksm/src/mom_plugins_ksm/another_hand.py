"""Whether another program sets KSM's knobs, too: then they are left to it, as two that undo each other's work are worse than either.

KubeVirt's virt-handler does so on nodes that its `ksmConfiguration` selects: it writes `run`, `pages_to_scan` and `sleep_millisecs` every
three minutes (kubevirt/kubevirt, pkg/virt-handler/ksm). Its mark is a label of the node, `kubevirt.io/ksm-enabled`, which only the
cluster's API tells, so it is known by what it does.
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
"""s. Two times that mom's values were replaced within this are no accident: virt-handler comes every three minutes, ksmtuned every minute.
A person who has set something by hand once has not begun a fight."""

_ALONE_SECONDS: Final = 86_400.0
"""s. For so long the knobs are left to the other one, as it may be gone some day; then it takes minutes to be sure of it again."""


class AnotherHand:
    """Follows what mom has set, and what becomes of it. Times are monotonic seconds.

    :param proc: where /proc is found
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._set: dict[str, int] = {}
        self._replaced: list[float] = []
        self._until: float | None = None
        self._who = self._what = ""

    def set_by_mom(self, knob: str, value: int | None) -> None:
        """mom has set a knob; None: it has put back what stood there before, or does not know what it has set: whoever sets it from now on
        undoes nothing of mom's."""
        if value is None:
            self._set.pop(knob, None)
        elif knob in {RUN, PAGES_TO_SCAN, SLEEP}:
            self._set[knob] = value

    def see(self, found: Mapping[str, Value], now: float) -> None:
        """What stands there now, by the kernel's names of the files."""
        if self._until is not None and now >= self._until:
            self._until, self._replaced = None, []
        changed = [knob for knob, value in self._set.items() if is_count(found.get(knob)) and found.get(knob) != value]
        if found.get("advisor_mode", "none") != "none":  # the kernel's own, which sets this one
            changed = [knob for knob in changed if knob != PAGES_TO_SCAN]
        if not changed:
            return
        self._what = ", ".join(f"{knob} {found.get(knob)} instead of {self._set[knob]}" for knob in changed)
        self._set = {knob: value for knob, value in self._set.items() if knob not in changed}
        self._replaced = [*(moment for moment in self._replaced if now - moment <= _WITHIN_SECONDS), now]
        self._who, times = ("KubeVirt's virt-handler", 1) if virt_handler_in(self._proc) else ("another program", 2)
        if len(self._replaced) >= times:
            self._until = now + _ALONE_SECONDS

    @property
    def why_left(self) -> str:
        """Why the knobs are left alone; empty: they are not."""
        if self._until is None:
            return ""
        return f"{self._who} sets KSM's knobs, too ({self._what}): mom leaves KSM to it, for {format_duration(_ALONE_SECONDS)}"


def virt_handler_in(proc: Path) -> int:
    """The process of KubeVirt's virt-handler; 0: none is seen. It looks at all processes, which is too much for each cycle."""
    return ProcessStat.id_of(VIRT_HANDLER, proc)
