"""One guest of libvirt, as it is remembered between two looks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mom_core import CpuTune
from mom_guests import SeenGuest
from mom_plugins_libvirt.domain_xml import DomainDescription
from mom_plugins_libvirt.states import why_left_alone
from mom_plugins_libvirt.tuning_xml import UNTUNED, Tuning


@dataclass(slots=True, eq=False, kw_only=True)
class KnownDomain(SeenGuest):
    """A guest since it was started. Belongs to the hypervisor's lock."""

    status: int = 0
    reason: int = 0
    job: str = ""
    """Libvirt's job with the guest that allows no change; empty for nothing."""
    description: DomainDescription | None = None
    describe: bool = True
    """The description must be read (again); whatever changes something sets it."""
    describe_at: float = float("inf")
    """Monotonic seconds at which it is read again though no event has told of a change."""
    prompt: bool = False
    """Its statistics came when they were due."""
    late: Future[Any] | None = None
    """A call that did not come back in time, until it has come back."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None
    """For each vCPU whether it may run on each of the host's CPUs. As `cpu_tune`: None until asked for, after each description."""

    @property
    def tuning(self) -> Tuning:
        """Its limits by its description."""
        return UNTUNED if self.description is None else self.description.tuning

    def left_alone(self) -> str:
        """By libvirt's state and reason."""
        return why_left_alone(self.status, self.reason)
