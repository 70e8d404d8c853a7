"""A libvirt guest since its start, from the last look and its description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mom_core import CpuTune
from mom_kvm import SeenGuest, possible_maximum
from mom_plugins_libvirt.domain_xml import DomainDescription
from mom_plugins_libvirt.states import may_come, why_left_alone
from mom_plugins_libvirt.tuning_xml import UNTUNED, Tuning

CPU_CONTROLS = ("vcpu_quota", "vcpu_period", "cpu_shares")
"""Controls of CPU time, by libvirt's names."""


@dataclass(slots=True, eq=False, kw_only=True)
class DomainEntry(SeenGuest):
    """Guest since its start. Only used with the hypervisor's lock held."""

    status: int = 0
    reason: int = 0
    job: str = ""
    """libvirt's job with the guest that allows no change; empty: none."""
    description: DomainDescription | None = None
    describe: bool = True
    """The description must be read (again)."""
    limits_needed: bool = False
    """Its limits were asked for before its description was read."""
    describe_at: float = float("inf")
    """Monotonic time of the next reading without an event."""
    prompt: bool = False
    """Its statistics were in time."""
    doubted: bool | None = None
    """It was moved here, and libvirt may report a wrong size: the one from the begin of the move, until its balloon moves again. False: the
    size was seen to be right; None: no reason for doubt."""
    untunable: str = ""
    """Why its CPU time cannot be limited; empty: it can, or is unknown."""
    untunable_since: float = 0.0
    """Monotonic time of that."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None
    """For each vCPU, whether it may run on each host CPU. Like `cpu_tune`, None until read after each description."""

    @property
    def tuning(self) -> Tuning:
        """Limits from its description."""
        return UNTUNED if self.description is None else self.description.tuning

    @property
    def resizable(self) -> bool:
        """It has virtio-mem."""
        return self.description is not None and self.description.resizable_kib > 0

    @property
    def plugged_kib(self) -> int:
        """KiB plugged, from its description."""
        return 0 if self.description is None else self.description.plugged_kib

    def fit_sizes(self) -> None:
        """Correct libvirt's sizes by the description: libvirt counts memory that the guest lacks, and without a balloon tells the maximum
        as the size."""
        description = self.description
        if description is None or self.reading is None or self.reading.maximum is None:
            return
        most = max(1, self.reading.maximum - description.not_had_kib)
        if not description.balloon and (description.resizable_kib or description.no_ram_kib):
            self.fields["balloon_cur"] = most
        self.fields["balloon_max"] = possible_maximum(most, self.size)

    @property
    def is_doubtful(self) -> bool:
        """Its size is doubted, and QEMU can be asked."""
        return bool(self.doubted) and self.balloon and not may_come(self.status, self.reason)

    def see_size(self, size: int | None) -> None:
        """Note QEMU's size in KiB; None: unknown."""
        if size is not None and size == self.size:
            self.doubted = False
        elif size is None:
            self.fields.pop("balloon_cur", None)
        else:
            self.fields["balloon_cur"] = size

    def left_alone(self) -> str:
        """Return why nothing may be changed in libvirt's state and reason."""
        return why_left_alone(self.status, self.reason)
