"""Records of guests' memory from named facts of any part."""

from typing import Any

from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.memory import GuestMemory

MIB = 1024
GIB = 1024 * MIB
LIMITS = ShrinkLimits(32 * MIB, 0.05, 15.0)
"""Limits of a plugin without settings, in cycles of 5 s."""

PARTS = ("statistics", "process", "habits", "sweeps")


def with_facts(guest: GuestMemory, **facts: Any) -> GuestMemory:
    """Return the record with these facts replaced."""
    for part in PARTS:
        record = getattr(guest, part)
        guest = guest._replace(**{part: record._replace(**{name: facts.pop(name) for name in record._fields if name in facts})})
    return guest._replace(**facts)


def memory_of(**facts: Any) -> GuestMemory:
    """Return a record with only these facts known."""
    return with_facts(GuestMemory(), **facts)
