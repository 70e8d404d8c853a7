"""What an operator writes about NUMA in YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mom_core import Duration, PluginSettings


class NumaSettings(PluginSettings):
    """How often it is read where guests are."""

    look_every: Annotated[Duration, Field(ge=1, le=86_400)] = 60.0
    """How often it is read where a guest's memory and vCPUs are, at most: less often where that would take more than `look_share`."""

    look_share: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of one CPU that this may use. The kernel walks all page tables of a guest to tell where its memory is."""
