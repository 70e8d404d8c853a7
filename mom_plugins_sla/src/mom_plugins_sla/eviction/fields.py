"""The plugin's fields and controls of guests."""

from typing import Final

from mom_core import ControlSpec, FieldSpec, Scope, Unit

_GUEST, _FLAG, _TEXT = Scope.GUEST, Unit.FLAG, Unit.TEXT

EVICTED: Final = "guest_eviction"
EVICTION_ERROR: Final = "guest_eviction_error"

FIELDS = (
    FieldSpec(EVICTED, _TEXT, _GUEST, "what is being done to the guest, or announced; empty: nothing", "mom"),
    FieldSpec(EVICTION_ERROR, _TEXT, _GUEST, "why what was tried last did not work; empty: it did, or nothing was", "mom"),
    FieldSpec("guest_runs_at", _TEXT, _GUEST, "the URI of the guest's hypervisor", "the hypervisor"),
    FieldSpec("guest_paused", _FLAG, _GUEST, "whether the guest's CPUs stand still", "the hypervisor"),
    FieldSpec("guest_saved", _FLAG, _GUEST, "0: a guest that is saved to disk is not listed", "the hypervisor"),
    FieldSpec("guest_off", _FLAG, _GUEST, "0: a guest that is shut down is not listed", "the hypervisor"),
    FieldSpec("guests_stopped", Unit.COUNT, Scope.HOST, "guests that mom has stopped, and that stand still", "mom"),
    FieldSpec("mem_promised_stopped", Unit.KIB, Scope.HOST, "promised to guests that mom has saved or shut down and that return", "mom"),
)

CONTROLS = (
    ControlSpec("guest_pause", _FLAG, _GUEST, "1: let the guest's CPUs stand still", "guest_paused", gradual=1),
    ControlSpec("guest_save", _FLAG, _GUEST, "1: save the guest to disk and end it", "guest_saved", gradual=1),
    ControlSpec("guest_shutdown", _FLAG, _GUEST, "1: ask the guest to shut down", "guest_off", gradual=1),
    ControlSpec("guest_migrate", _TEXT, _GUEST, "where the guest is moved to; it does not come back", "guest_runs_at", gradual=1),
)
