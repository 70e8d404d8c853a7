"""Declarations of the usual plugins, for the checks."""

from collections.abc import Iterable, Mapping

from mom_core import ControlSpec, Declarations, FieldSpec, Scope, Unit

HOST = {
    "mem_available": Unit.KIB, "mem_free": Unit.KIB, "mem_unused": Unit.KIB, "mem_really_available": Unit.KIB, "anon_pages": Unit.KIB,
    "swap_total": Unit.KIB, "swap_usage": Unit.KIB, "swap_in": Unit.PAGES, "cpu_count": Unit.COUNT, "load_1": Unit.RATIO,
    "psi_memory_some_avg10": Unit.PERCENT, "time_hour": Unit.COUNT, "ksm_run": Unit.COUNT, "ksm_pages_to_scan": Unit.PAGES,
    "ksm_sleep_millisecs": Unit.MILLISECONDS, "ksm_merge_across_nodes": Unit.FLAG, "ksm_pages_sharing": Unit.PAGES,
    "ksm_general_profit": Unit.BYTES, "ksm_advisor_mode": Unit.TEXT, "ksmd_cpu_usage": Unit.PERCENT,
}  # fmt: skip
GUEST = {
    "balloon_cur": Unit.KIB, "balloon_max": Unit.KIB, "balloon_min": Unit.KIB, "mem_available": Unit.KIB, "mem_unused": Unit.KIB,
    "mem_usable": Unit.KIB, "swap_in": Unit.KIB_PER_SECOND, "major_fault": Unit.PER_SECOND, "stats_age": Unit.SECONDS,
    "cpu_usage": Unit.PERCENT, "os": Unit.TEXT, "io_tune": Unit.LIST, "io_tune_current": Unit.LIST, "vcpu_count": Unit.COUNT,
    "vcpu_quota": Unit.MICROSECONDS, "vcpu_period": Unit.MICROSECONDS, "vcpu_user_limit": Unit.PERCENT,
}  # fmt: skip
CONTROLS = (
    ControlSpec("balloon_target", Unit.KIB, Scope.GUEST, "size", "balloon_cur", 1024),
    ControlSpec("vcpu_quota", Unit.MICROSECONDS, Scope.GUEST, "CPU time", "vcpu_quota"),
    ControlSpec("vcpu_period", Unit.MICROSECONDS, Scope.GUEST, "of this", "vcpu_period"),
    ControlSpec("share", Unit.PERCENT, Scope.GUEST, "a control that takes fractions", "cpu_usage", 0, 100),
    ControlSpec("vcpu_pins", Unit.TEXT, Scope.GUEST, "a control that takes text", "os"),
    ControlSpec("ksm_run", Unit.COUNT, Scope.HOST, "on or off", "ksm_run", choices=(0, 1, 2)),
    ControlSpec("ksm_pages_to_scan", Unit.PAGES, Scope.HOST, "batch", "ksm_pages_to_scan", 1, 1_000_000),
    ControlSpec("ksm_sleep_millisecs", Unit.MILLISECONDS, Scope.HOST, "pause", "ksm_sleep_millisecs", 1, 60_000),
    ControlSpec("ksm_merge_across_nodes", Unit.FLAG, Scope.HOST, "nodes", "ksm_merge_across_nodes"),
)


def declared(
    host: Mapping[str, Unit] | None = None,
    guest: Mapping[str, Unit] | None = None,
    controls: Iterable[ControlSpec] = (),
    policies: Mapping[str, str] | None = None,
) -> Declarations:
    """Return declarations of fields in these units, and of controls."""
    fields = {
        (scope, name): FieldSpec(name, unit, scope, name)
        for scope, units in ((Scope.HOST, host), (Scope.GUEST, guest))
        for name, unit in (units or {}).items()
    }
    named = {spec.name: spec for spec in controls}
    return Declarations(fields, named, dict.fromkeys(named, "someone"), policies or {})


DECLARED = declared(HOST, GUEST, CONTROLS)
