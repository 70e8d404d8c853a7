"""Fields and controls of the `eviction` plugin."""

from typing import Final

from mom_core import ControlSpec, FieldSpec, Scope, Unit

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
