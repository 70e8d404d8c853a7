"""Records of a guest's memory, written by the names of their facts, whichever part of the record has them."""

from typing import Any

from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.memory import GuestMemory

MIB = 1024
GIB = 1024 * MIB
LIMITS = ShrinkLimits(32 * MIB, 0.05, 15.0)
"""As a plugin without settings has them, in cycles of 5 s."""

PARTS = ("statistics", "process", "habits", "sweeps")


def with_facts(guest: GuestMemory, **facts: Any) -> GuestMemory:
    """This guest, but for these facts."""
    for part in PARTS:
        record = getattr(guest, part)
        guest = guest._replace(**{part: record._replace(**{name: facts.pop(name) for name in record._fields if name in facts})})
    return guest._replace(**facts)


def memory_of(**facts: Any) -> GuestMemory:
    """A guest of which only these facts are known."""
    return with_facts(GuestMemory(), **facts)
