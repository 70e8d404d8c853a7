"""Limits of policies, so that no text can exhaust the host."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import StrictModel


class PolicyLimits(StrictModel):
    """Limits of one evaluation, far above the needs of real policies."""

    policies: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Maximum number of policies, including the plugins' default policies. Real hosts have some dozens."""
    text: Annotated[int, Field(ge=1, le=1 << 24)] = 1 << 20
    """Maximum number of characters in all policies together."""
    forms: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    """Maximum number of atoms and lists in all policies together."""
    name: Annotated[int, Field(ge=1, le=1000)] = 200
    """Maximum length of a name in characters."""
    nesting: Annotated[int, Field(ge=1, le=1000)] = 500
    """Maximum depth of nested brackets. oVirt MOM fails at about 330."""
    steps: Annotated[int, Field(ge=1)] = 1_000_000
    """Maximum number of forms evaluated outside of loops over Guests."""
    guest_steps: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of forms evaluated for each guest in a loop over Guests."""
    seconds: Annotated[float, Field(gt=0, le=300)] = 2.0
    """Maximum duration of an evaluation in seconds. Keep it below the plugin's deadline, so that mom can report the slow policy."""
    depth: Annotated[int, Field(ge=1, le=400)] = 200
    """Maximum depth of nested function calls. oVirt MOM fails at about 100."""
    integer_bits: Annotated[int, Field(ge=64, le=8192)] = 4096
    """Maximum size of an integer in bits."""
    string: Annotated[int, Field(ge=1, le=1 << 24)] = 1 << 16
    """Maximum length in characters of a string that a policy builds."""
    list: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    """Maximum number of elements in a list that a policy builds, counting those of nested lists."""
    names: Annotated[int, Field(ge=2, le=10_000)] = 64
    """Maximum number of different controls, and of different notes, that policies use per entity."""


DEFAULT_LIMITS: Final = PolicyLimits()
