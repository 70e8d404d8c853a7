"""Settings for guests that stop or leave."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from mom_core import ControlSpec, Duration, FieldSpec, PluginSettings, Scope, Unit
from mom_kvm import Destination


class EvictionSettings(PluginSettings):
    """Conditions and pace of eviction."""

    enabled: bool = False
    """Whether mom itself stops or moves guests when the host stays full and their class allows it. Otherwise guests move only by other
    decisions, such as an operator's drain in a fleet."""

    after: Annotated[Duration, Field(ge=5, le=3600)] = 60.0
    """How long the host must be full before the first step. Ballooning and KSM need time to help."""

    apart: Annotated[Duration, Field(ge=10, le=3600)] = 60.0
    """Time between two steps. A step needs this long to show its effect."""

    calm_for: Annotated[Duration, Field(ge=10, le=86_400)] = 600.0
    """How long 15 % of the host's memory must be available, besides the memory that the guest needs, before the guest comes back."""

    share: Annotated[float, Field(gt=0, le=0.9)] = 0.25
    """Largest share of the guests that may be stopped at once and, counted separately, that may move away within an hour. At least one
    guest may leave, but never all. With 0.25, half of the guests may leave in total. The limit holds for all decisions
    except moves that a fleet orders."""

    destination: Destination | None = None
    """Destination of guests: a libvirt URI with TLS or ssh, such as `qemu+tls://spare/system`. If needed, the network path follows after a
    space, such as `tcp://10.0.0.2`. With another mover: its name for the host, `host://NAME`, or `anywhere` if the mover chooses the host.
    Unset: only the operator of a fleet moves guests."""

    timeout: Annotated[Duration, Field(ge=5, le=7200)] = 600.0
    """Time limit for saving, moving or shutting down one guest. Then mom cancels the step, and the guest continues to run. A guest that
    still shuts down within the next half hour also comes back."""

    sweep: Annotated[Duration, Field(ge=0, le=60)] = 10.0
    """Time limit for the `balloon` plugin to sweep a guest before a move, so that freed memory is not sent. 0 moves at once. A host with
    less than 2 % of its memory available, or in `host_memory_state` low, always moves guests at once."""

    move_unclassed: bool = False
    """Whether guests without a class may also move when the operator of a fleet drains this host."""


_GUEST, _FLAG, _TEXT = Scope.GUEST, Unit.FLAG, Unit.TEXT

EVICTED: Final = "guest_eviction"
EVICTION_ERROR: Final = "guest_eviction_error"

FIELDS = (
    FieldSpec(EVICTED, _TEXT, _GUEST, "step in progress or announced; empty if there is none", "mom"),
    FieldSpec(EVICTION_ERROR, _TEXT, _GUEST, "error of the last step; empty if there is none", "mom"),
    FieldSpec("guest_runs_at", _TEXT, _GUEST, "the URI of the guest's hypervisor", "the hypervisor"),
    FieldSpec("guest_paused", _FLAG, _GUEST, "whether the guest's CPUs are paused", "the hypervisor"),
    FieldSpec("guest_saved", _FLAG, _GUEST, "always 0: a saved guest is not listed", "the hypervisor"),
    FieldSpec("guest_off", _FLAG, _GUEST, "always 0: a guest that is shut down is not listed", "the hypervisor"),
    FieldSpec("guests_stopped", Unit.COUNT, Scope.HOST, "guests that mom has stopped", "mom"),
    FieldSpec(
        "mem_promised_stopped", Unit.KIB, Scope.HOST, "memory promised to guests that mom saved or shut down and that will return", "mom"
    ),
)

CONTROLS = (
    ControlSpec("guest_pause", _FLAG, _GUEST, "1: pause the guest's CPUs", "guest_paused", gradual=1),
    ControlSpec("guest_save", _FLAG, _GUEST, "1: save the guest to disk and stop it", "guest_saved", gradual=1),
    ControlSpec("guest_shutdown", _FLAG, _GUEST, "1: ask the guest to shut down", "guest_off", gradual=1),
    ControlSpec(
        "guest_migrate", _TEXT, _GUEST, "destination of the guest's move; the guest does not come back", "guest_runs_at", gradual=1
    ),
)
