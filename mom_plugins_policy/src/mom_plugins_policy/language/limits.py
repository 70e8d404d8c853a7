"""Limits of policies, so that no text can exhaust the host."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import StrictModel


class PolicyLimits(StrictModel):
    """Limits of one evaluation, far above the needs of real policies."""

    policies: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Number of policies, including those of plugins. A host has some dozens."""
    text: Annotated[int, Field(ge=1, le=1 << 24)] = 1 << 20
    """Characters in all policies together."""
    forms: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Atoms and lists in all policies together."""
    name: Annotated[int, Field(ge=1, le=1000)] = 200
    """Characters of a name."""
    nesting: Annotated[int, Field(ge=1, le=1000)] = 500
    """Nested brackets. MOM fails at about 330."""
    steps: Annotated[int, Field(ge=1)] = 1_000_000
    """Forms evaluated outside of loops over Guests."""
    guest_steps: Annotated[int, Field(ge=1)] = 100_000
    """Forms evaluated in one guest's step of a loop over Guests."""
    seconds: Annotated[float, Field(gt=0, le=300)] = 2.0
    """Seconds per evaluation. Keep it below the plugin's deadline, so that the evaluation can report the reason."""
    depth: Annotated[int, Field(ge=1, le=400)] = 200
    """Nested function calls. MOM fails at about 100."""
    integer_bits: Annotated[int, Field(ge=64, le=8192)] = 4096
    """Bits of an integer."""
    string: Annotated[int, Field(ge=1, le=1 << 24)] = 1 << 16
    """Characters of a string that a policy builds."""
    list: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Elements of a list that a policy builds, including nested lists."""
    names: Annotated[int, Field(ge=2, le=10_000)] = 64
    """Different controls and different notes per entity."""


DEFAULT_LIMITS: Final = PolicyLimits()
