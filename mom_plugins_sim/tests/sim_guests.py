"""Helpers that read a simulated hypervisor guest by guest."""

from collections.abc import Sequence
from typing import Any

from mom_core import Guest
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scene import SimSettings, mixture
from mom_plugins_sim.world import World


def fields_of(hypervisor: SimHypervisor, guests: Sequence[Guest]) -> dict[str, dict[str, Any]]:
    """Return the fields of present guests, keyed by ID."""
    rows = hypervisor.guest_columns(guests).rows()
    return {guest.id: dict(row) for guest, row in zip(guests, rows, strict=True) if row}


def usual_world(guests: int, host_gib: int, now: float = 0.0, *, swap_gib: int = 0, **settings: Any) -> World:
    """Return a host of this size with a mixture of guests."""
    sizes = {"host_memory": f"{host_gib}GiB", "host_swap": f"{swap_gib}GiB"}
    return World(mixture(SimSettings.model_validate({"guests": guests, **sizes, **settings})), now)
