"""The settings for guests that stop or leave."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mom_core import Duration, PluginSettings
from mom_kvm import Destination


class EvictionSettings(PluginSettings):
    """When guests must go, and how slowly."""

    enabled: bool = False
    """Whether mom itself stops or moves guests whose class allows that, when the host stays full. Without it, guests are moved only when
    another one decides that, such as the operator of a fleet."""

    full: Annotated[float, Field(gt=0, le=100)] = 10.0
    """%: the host is full when everything on it waits for memory for more than this share of the last ten seconds."""

    least: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    """The host is full, too, when less than this share of its memory is available."""

    calm: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """There is room when this share of its memory is available, also with the guest that comes back."""

    after: Annotated[Duration, Field(ge=5, le=3600)] = 60.0
    """For how long the host must have been full before the first step: ballooning and KSM need some time to help."""

    apart: Annotated[Duration, Field(ge=10, le=3600)] = 60.0
    """How long after one step the next may follow: so long its effect takes to be seen."""

    calm_for: Annotated[Duration, Field(ge=10, le=86_400)] = 600.0
    """For how long there must have been room before a guest comes back."""

    share: Annotated[float, Field(gt=0, le=0.9)] = 0.25
    """At most this share of the guests is stopped at once, and at most as many again are moved away within an hour, by whatever decision:
    of each at least one, but never all of them. The two are counted apart: with a quarter, half of the guests may leave."""

    destination: Destination | None = None
    """libvirt's URI of the host to which guests are moved, by TLS or ssh, such as `qemu+tls://spare/system`; behind one space, where it is
    needed, the way there, such as `tcp://10.0.0.2`. With another mover, the name that it has for the host, `host://NAME`, or `anywhere`
    where it chooses by itself. Unset: only the operator of a fleet moves guests."""

    timeout: Annotated[Duration, Field(ge=5, le=7200)] = 600.0
    """How long saving or moving one guest may take before it is given up, and the guest runs on. A guest that was asked to shut down has
    failed to when it is over; one that does so within half an hour after that comes back nevertheless."""

    sweep: Annotated[Duration, Field(ge=0, le=60)] = 10.0
    """For how long a guest that is to be moved may be swept by the plugin balloon before, so that what it has used and freed is not sent. A
    host that has less than `least` available, or whose `host_memory_state` is low, moves guests at once, and so does any with 0."""

    move_unclassed: bool = False
    """Whether guests without a class may be moved, too, when the operator of a fleet drains this host."""

    @model_validator(mode="after")
    def _room_is_more_than_full(self) -> EvictionSettings:
        if self.calm <= self.least:
            raise ValueError(f"calm is {self.calm:g}, and must be above least, {self.least:g}: else guests come back and go again for ever")
        return self
