"""A libvirt guest since its start, from the last bulk call and its description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mom_core import CpuTune
from mom_kvm import SeenGuest
from mom_plugins_libvirt.domain_xml import DomainDescription
from mom_plugins_libvirt.states import may_come, why_left_alone
from mom_plugins_libvirt.tuning_xml import UNTUNED, Tuning

CPU_CONTROLS = ("vcpu_quota", "vcpu_period", "cpu_shares")
"""Controls of CPU time, with libvirt's names."""


@dataclass(slots=True, eq=False, kw_only=True)
class DomainEntry(SeenGuest):
    """Guest since its start. Use it only with the hypervisor's lock held."""

    status: int = 0
    reason: int = 0
    job: str = ""
    """libvirt's job that forbids changes; empty if there is none."""
    description: DomainDescription | None = None
    describe: bool = True
    """Whether the description must be read (again)."""
    limits_needed: bool = False
    describe_at: float = float("inf")
    """Monotonic time of the next reading without an event."""
    prompt: bool = False
    doubted: bool | None = None
    """True after a migration to this host: until the balloon moves, libvirt might report an old size. None if there is no doubt."""
    untunable: str = ""
    """Why CPU time cannot be limited."""
    untunable_since: float = 0.0
    """Monotonic time of that failure."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None
    """Whether each vCPU may run on each host CPU."""

    @property
    def tuning(self) -> Tuning:
        """Limits in the description."""
        return UNTUNED if self.description is None else self.description.tuning

    @property
    def resizable(self) -> bool:
        """Whether the guest has virtio-mem."""
        return self.description is not None and self.description.resizable_kib > 0

    @property
    def plugged_kib(self) -> int:
        """KiB of plugged virtio-mem, according to the description."""
        return 0 if self.description is None else self.description.plugged_kib

    def fit_sizes(self) -> None:
        """Correct libvirt's sizes, which include memory that the guest lacks."""
        description = self.description
        if description is None or self.reading is None or self.reading.maximum is None:
            return
        most = max(1, self.reading.maximum - description.not_had_kib)
        if not description.balloon and (description.resizable_kib or description.no_ram_kib):
            self.fields["balloon_cur"] = most
        self.fields["balloon_max"] = max(most, self.size or 1)

    @property
    def is_doubtful(self) -> bool:
        """Whether the size is in doubt, and QEMU can report it."""
        return bool(self.doubted) and self.balloon and not may_come(self.status, self.reason)

    def see_size(self, size: int | None) -> None:
        """Record QEMU's size in KiB; None if unknown."""
        if size is not None and size == self.size:
            self.doubted = False
        elif size is None:
            self.fields.pop("balloon_cur", None)
        else:
            self.fields["balloon_cur"] = size

    def left_alone(self) -> str:
        """Return why libvirt's state forbids changes."""
        return why_left_alone(self.status, self.reason)
