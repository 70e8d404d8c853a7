"""What one policy may use up at most, so that no text, however hostile or wrong, hurts the host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """The limits of one policy. Each is far above what a policy needs, and low enough that reaching it is answered within a moment."""

    policies: int = 500
    """Texts. A host has some dozens; each costs something even if it is empty: a record in the history, a row where policies are shown."""
    text: int = 1 << 20
    """Characters in all texts together."""
    forms: int = 50_000
    """Atoms and lists in all texts together."""
    name: int = 200
    """Characters of a name."""
    nesting: int = 500
    """Brackets inside each other. MOM gives up at about 330."""
    steps: int = 1_000_000
    """Forms evaluated in one evaluation outside of loops over `Guests`."""
    guest_steps: int = 100_000
    """Forms evaluated in one guest's step of an outermost loop over `Guests`."""
    seconds: float = 2.0
    """Duration of one evaluation."""
    depth: int = 200
    """Calls of functions inside each other. MOM gives up at about 100."""
    integer_bits: int = 4096
    """Bits of an integer; more is `range`."""
    string: int = 1 << 16
    """Characters of a string that a policy builds."""
    list: int = 100_000
    """Elements of a list that a policy builds, those of lists inside it included."""
    names: int = 64
    """Different controls that are asked for, and different notes that are set, per entity."""


DEFAULT_LIMITS = PolicyLimits()
