"""Settings of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mom_core import Duration, PluginSettings, Size


class SimSettings(PluginSettings):
    """World to simulate: a mixture of usual guests, or a complete scenario or recording."""

    scenario: str | None = None
    """Name of a scenario that comes with mom, or path of a YAML file. It replaces all other settings except `seed`."""

    recording: str | None = None
    """Folder of a recording. mom simulates its host and guests. Guests demand as much memory as they used in the recording."""

    begins: float | None = None
    """Start of the simulated part of the recording, in seconds since the epoch."""

    ends: float | None = None
    """End of the simulated part of the recording, in seconds since the epoch."""

    guests: Annotated[int, Field(ge=0, le=100_000)] = 24
    """Number of guests."""

    host_memory: Annotated[Size, Field(ge=1 << 30)] = 32 << 30
    """Memory of the host."""

    host_swap: Size = 8 << 30
    """Swap of the host on a disk."""

    host_zram: Size = 0
    """Compressed swap in the host's memory, instead of swap on a disk."""

    sold: Annotated[float, Field(gt=0, le=10)] = 1.5
    """Memory of all guests together, as a multiple of the host's memory."""

    seed: int | None = None
    """The same seed gives the same host, guests and workloads. Unset: the scenario's seed, or 1."""

    statistics_period: Annotated[Duration, Field(gt=0)] = 5.0
    """Time from one set of a guest's statistics to the next."""

    silent: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests that send no statistics."""

    rigid: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests without a balloon device."""

    cold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Cold share of the memory that guests always use: 0.2 to 0.4 in real programs (TMO, ASPLOS 2022)."""

    shelf: Path | None = None
    """Folder that several simulated hosts share, so that guests can migrate between them; unset: guests cannot migrate."""

    host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = "host"
    """Name of this host in `shelf`. For a migration to this host, the destination is `qemu+tls://NAME/system`. Give each host its own
    `seed`: the same seed draws the same guest ids, and a guest cannot migrate to a host that has a guest with the same id."""

    load: Size = 0
    """Memory of a temporary program on the host."""

    load_after: Annotated[Duration, Field(ge=0)] = 60.0
    """Time from the simulation's beginning to the temporary program's start."""

    load_for: Annotated[Duration, Field(ge=0)] = 240.0
    """Run time of the temporary program."""

    load_growth: Annotated[Size, Field(gt=0)] = 150 << 20
    """Growth of the temporary program per second, up to `load`."""

    @model_validator(mode="after")
    def _guests_can_move(self) -> Self:
        if self.shelf is not None and (self.scenario is not None or self.recording is not None):
            raise ValueError("shelf: guests of a scenario or a recording cannot migrate; leave out shelf, or scenario and recording")
        return self
