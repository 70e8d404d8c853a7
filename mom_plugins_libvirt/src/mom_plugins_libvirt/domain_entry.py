"""One guest of libvirt since its start, as the last look and its description show it."""

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
    """A guest since it was started. Belongs to the hypervisor's lock."""

    status: int = 0
    reason: int = 0
    job: str = ""
    """Libvirt's job with the guest that allows no change; empty for nothing."""
    description: DomainDescription | None = None
    describe: bool = True
    """The description must be read (again); whatever changes something sets it."""
    limits_needed: bool = False
    """Its limits were asked for before its description was read."""
    describe_at: float = float("inf")
    """Monotonic time of the next reading without an event."""
    prompt: bool = False
    """Its statistics came when they were due."""
    doubted: bool | None = None
    """It was moved here, and libvirt may be wrong about its size: it goes on telling the one that the guest had when its move began, until
    its balloon moves once more. One whose balloon moved in between, as after mom has given it its memory back, has another. False: they
    were seen to agree; None: there was no reason to ask."""
    untunable: str = ""
    """Why its CPU time cannot be limited; empty if it can, or it was not looked for."""
    untunable_since: float = 0.0
    """When that was found, in monotonic seconds."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None
    """For each vCPU whether it may run on each of the host's CPUs. As `cpu_tune`: None until asked for, after each description."""

    @property
    def tuning(self) -> Tuning:
        """Its limits by its description."""
        return UNTUNED if self.description is None else self.description.tuning

    @property
    def resizable(self) -> bool:
        """It has virtio-mem."""
        return self.description is not None and self.description.resizable_kib > 0

    @property
    def plugged_kib(self) -> int:
        """By its description."""
        return 0 if self.description is None else self.description.plugged_kib

    def fit_sizes(self) -> None:
        """Take off its sizes what libvirt counts and it does not have, by its description. Without a balloon, libvirt tells its maximum as
        its size."""
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
        """Take the size in KiB that QEMU reports; None: unknown."""
        if size is not None and size == self.size:
            self.doubted = False
        elif size is None:
            self.fields.pop("balloon_cur", None)
        else:
            self.fields["balloon_cur"] = size

    def left_alone(self) -> str:
        """Return why nothing may be changed, by libvirt's state and reason."""
        return why_left_alone(self.status, self.reason)
