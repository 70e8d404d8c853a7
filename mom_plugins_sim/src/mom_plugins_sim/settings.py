"""The settings of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mom_core import Duration, PluginSettings, Size


class SimSettings(PluginSettings):
    """The world to simulate: a mixture of the usual guests, or a scenario or a recording, which say all of it."""

    scenario: str | None = None
    """The name of a scenario that comes with mom, or the path of a YAML file; then only `seed` counts besides."""

    recording: str | None = None
    """A recording, whose host and guests are simulated: guests want what they were seen to use."""

    begins: float | None = None
    """Of the recording, from then on; seconds since the epoch."""

    ends: float | None = None
    """Of the recording, up to then; seconds since the epoch."""

    more: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Guests besides those of the recording, called advised-001 and so on, whose programs do what those of recorded ones did, at
    another time of it; `seed` says which."""

    more_memory: Size | None = None
    """The memory that each of them is sold; unset: as the recorded guest whose programs it runs."""

    guests: Annotated[int, Field(ge=0, le=100_000)] = 24
    """How many guests there are."""

    host_memory: Annotated[Size, Field(ge=1 << 30)] = 32 << 30
    """The host's memory."""

    host_swap: Size = 8 << 30
    """The host's swap, on a disk."""

    host_zram: Size = 0
    """The host's swap that is compressed in its own memory, instead of one on a disk."""

    sold: Annotated[float, Field(gt=0, le=10)] = 1.5
    """The memory of all guests together, as a multiple of the host's."""

    seed: int | None = None
    """The same seed gives the same host, guests and workloads. Unset: the scenario's, or 1."""

    statistics_period: Annotated[Duration, Field(gt=0)] = 5.0
    """How often guests send their statistics."""

    silent: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests that send no statistics."""

    rigid: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests without a balloon device."""

    cold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of what guests hold always that they hardly touch: 0.2 to 0.4 in programs of all kinds, by TMO (ASPLOS 2022)."""

    shelf: Path | None = None
    """A folder that several simulated hosts share, so that guests can be moved between them; unset: they cannot."""

    host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = "host"
    """The name of this host there: it has a folder of that name on the shelf, with a file for each of its guests. The destination of
    a move to it is `qemu+tls://NAME/system`, as to a real host. Give each host a `seed` of its own: guests of the same one have the same
    ids, and are not moved where one of their id is."""

    load: Size = 0
    """How much a program beside the guests takes of the host's memory for a while."""

    load_after: Annotated[Duration, Field(ge=0)] = 60.0
    """When that program begins."""

    load_for: Annotated[Duration, Field(ge=0)] = 240.0
    """How long it runs."""

    load_growth: Annotated[Size, Field(gt=0)] = 150 << 20
    """How much more it takes in each second, until it has all."""

    @model_validator(mode="after")
    def _guests_can_move(self) -> Self:
        if self.shelf is not None and (self.scenario is not None or self.recording is not None):
            raise ValueError("shelf: guests of a scenario or a recording cannot be moved; leave out shelf, or scenario and recording")
        return self
