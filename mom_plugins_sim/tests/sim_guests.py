"""What a simulated hypervisor tells, as tests read it: guest by guest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mom_core import Guest
from mom_plugins_sim.hypervisor import SimHypervisor


def fields_of(hypervisor: SimHypervisor, guests: Sequence[Guest]) -> dict[str, dict[str, Any]]:
    """The fields of these guests by id, of those that are there."""
    rows = hypervisor.guest_columns(guests).rows()
    return {guest.id: dict(row) for guest, row in zip(guests, rows, strict=True) if row}
