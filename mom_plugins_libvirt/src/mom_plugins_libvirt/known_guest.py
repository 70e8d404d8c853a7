"""What the hypervisor knows of one guest between two looks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mom_core import CpuTune, Value
from mom_guests import Reading
from mom_plugins_libvirt.domain_xml import DomainDescription


@dataclass(slots=True)
class KnownDomain:
    """What is known of one guest since it was started. Belongs to the hypervisor's lock."""

    uuid: str
    name: str
    number: int
    """Another one each time the guest is started."""
    since: float
    """Monotonic seconds since when statistics could have come: since it runs, and they are on."""
    state: int = 0
    reason: int = 0
    job: str = ""
    """What libvirt is doing with the guest that allows no change; empty for nothing."""
    description: DomainDescription | None = None
    describe: bool = True
    """Whether the description must be read (again); whatever changes something sets it."""
    describe_at: float = float("inf")
    """Monotonic seconds at which it is read again though no event has told of a change."""
    reading: Reading | None = None
    fresh: bool = False
    prompt: bool = False
    """Whether its statistics came when they were due."""
    fields: dict[str, Value] = field(default_factory=dict)
    late: Future[Any] | None = None
    """A call that did not come back in time, until it has come back."""
    cpu_tune: CpuTune | None = None
    pins: Sequence[Sequence[bool]] | None = None
    """For each vCPU whether it may run on each of the host's CPUs. As `cpu_tune`: None until asked for, after each description."""
