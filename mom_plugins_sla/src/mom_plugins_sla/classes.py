"""The terms of a class of guests: promises, priorities, and what may be done to its guests when the host is full."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from mom_core import Duration, Portion, SizeOrShare, StrictModel
from mom_kvm import EvictionField

NOTHING: Final = Portion(size=0)
ORDINARY: Final = 100
"""The CPU share of an ordinary guest."""

ALLOWED: Final[Mapping[str, str]] = MappingProxyType(
    {
        EvictionField.MAY_MIGRATE: "moved to another host",
        EvictionField.MAY_SAVE: "saved to disk",
        EvictionField.MAY_PAUSE: "paused",
        EvictionField.MAY_POWER_OFF: "shut down",
    }
)
"""The settings and fields that allow that a guest leaves the host, or stops, to make room: none is on unless a class says so; and in words
what is done to it."""


class ServiceClass(StrictModel):
    """One class. What is left out is what an ordinary guest without any promise has."""

    guarantee: SizeOrShare = NOTHING
    """Memory below which a guest is never shrunk: `6GiB`, or `75%` of the most that it can have."""

    cpu_share: Annotated[int, Field(ge=1, le=10_000)] = ORDINARY
    """The guest's weight when CPUs are short; 100 is an ordinary guest's. Set by the policy 62_sla_cpu, where that is on."""

    io_share: Annotated[float, Field(ge=0.001, le=1)] = 1.0
    """How much of the limits agreed for its disks a guest may use while disks are short: 1 is all. Set by 72_sla_io, where that is on."""

    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Whose promises are kept when the host has promised more than it has: 100 is the last to lose."""

    reclaim_cost: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """What a KiB that is taken from such a guest costs: with twice the cost, it gives half of what others give."""

    offload: bool = True
    """Whether memory that such a guest no longer touches may go to the host's swap, where the plugin offload is enabled."""

    may_pause: bool = False
    """A guest may be paused when the host lacks memory. It holds its memory; it takes no more."""

    may_save: bool = False
    """A guest may be saved to disk, and be restored later."""

    may_power_off: bool = False
    """A guest may be shut down."""

    may_migrate: bool = False
    """A guest may be moved to another host."""

    warning: Duration = 30.0
    """How long before such a step it is announced, for something better to be done."""

    comes_back: bool = True
    """Whether what was done is undone (resumed, restored, started) when there has been enough memory for long."""

    @property
    def may_leave(self) -> bool:
        """True if anything may be done to its guests when the host is full."""
        return any(getattr(self, name) for name in ALLOWED)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ServiceClass:
        if self.guarantee.share == 1.0 and (self.may_power_off or self.may_save or self.may_pause):
            allowed = next(name for name in ALLOWED if name != EvictionField.MAY_MIGRATE and getattr(self, name))
            raise ValueError(
                f"guarantee is 100%, and {allowed} is true: guests that keep all their memory whatever happens are none that may stop for"
                " want of it. Lower the guarantee, or allow only may_migrate"
            )
        return self


READY: Final[Mapping[str, ServiceClass]] = MappingProxyType(
    {
        # All that it bought, whatever happens. Moving it elsewhere would be a service to it, but the guest's owner has not asked for it.
        "platinum": ServiceClass(guarantee=Portion(share=1.0), cpu_share=400, priority=90, reclaim_cost=8.0),
        "gold": ServiceClass(guarantee=Portion(share=0.75), cpu_share=200, priority=70, reclaim_cost=4.0, may_migrate=True),
        # All its CPU time, and little memory of its own: it is taken first and most.
        "compute": ServiceClass(guarantee=Portion(share=0.25), cpu_share=400, priority=40, reclaim_cost=0.5, may_migrate=True),
        # Cheap, and gone when the host is full.
        "vapor": ServiceClass(
            cpu_share=50,
            io_share=0.5,
            priority=10,
            may_pause=True,
            may_save=True,
            may_power_off=True,
            may_migrate=True,
            warning="60s",  # type: ignore[arg-type]  # as in YAML
        ),
    }
)
"""The classes that are there without being defined; one of the same name in the settings takes the place of one of these."""


def _a_name(name: str) -> str:
    if len(name) > 40 or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{name!r:.50} is no name for a class: letters, digits, - and _, at most 40")
    return name


ClassName = Annotated[str, AfterValidator(_a_name)]
"""A name that a file could hold."""


def safest(classes: Mapping[str, ServiceClass]) -> str:
    """Return the name of the class under which least can happen to a guest: for those whose class is unknown."""

    def safety(name: str) -> tuple[bool, bool, float, int, float, int, str]:
        one = classes[name]
        stays = not (one.may_pause or one.may_save or one.may_power_off)
        return stays, not one.may_migrate, one.guarantee.share or 0.0, one.guarantee.size or 0, one.reclaim_cost, one.priority, name

    return max(classes, key=safety)
