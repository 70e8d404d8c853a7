"""Plugin that assigns classes to guests. Other plugins keep the guarantees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mom_core import (
    Declaration,
    DefaultPolicy,
    FieldSpec,
    Finding,
    Guest,
    GuestColumn,
    PluginContext,
    Problem,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    Unit,
    Value,
    hookimpl,
    printable,
)
from mom_kvm import Admission, Admissions, ClassFiles, Promises, Reservations, late_hook, seen_lately
from mom_plugins_sla.admission import NewGuests, admission_of, figures_of
from mom_plugins_sla.classes import ALLOWED, ORDINARY, Assigned, ClassAssignment, ServiceClass, SharedClasses, SlaGuestSettings, SlaSettings

_OF_CLASS = "the guest's class"
_SOURCES = "YAML file, metadata, default"


def _guest(name: str, unit: Unit, description: str, source: str = _OF_CLASS) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


FIELDS = (
    _guest("sla_class", Unit.TEXT, "the guest's service class; unknown if it has none", _SOURCES),
    _guest("sla_class_by", Unit.TEXT, "source of sla_class, and if this is not the configured class, the reason", _SOURCES),
    _guest("mem_guarantee", Unit.KIB, "memory that the class guarantees; for a share, computed from the guest's maximum in the last cycle"),
    _guest("mem_guarantee_share", Unit.RATIO, "mem_guarantee as a share of the guest's maximum, if the class guarantees a share"),
    _guest("priority", Unit.COUNT, "priority of the guarantee, 0 to 100; if memory is short, mom reduces guarantees of low priority first"),
    _guest("reclaim_cost", Unit.RATIO, "relative cost of reclaiming memory from the guest; 1 is normal"),
    _guest("cpu_share", Unit.COUNT, "the guest's weight when CPUs are short; 100 is normal"),
    _guest("io_share", Unit.RATIO, "part of the guest's disk limits that it may use while disks are overloaded"),
    _guest("may_offload", Unit.FLAG, "whether the guest's cold memory may go to the host's swap"),
    *(_guest(name, Unit.FLAG, f"whether the guest may be {step} when the host is full") for name, step in ALLOWED.items()),
    _guest("leave_warning", Unit.SECONDS, "time between announcing and taking a step; unknown if the class permits no step"),
    _guest("comes_back", Unit.FLAG, "whether a stopped guest comes back later; unknown if the class permits no step"),
    FieldSpec.reads("mem_promised_stopped", Unit.KIB, Scope.HOST),
)

COLUMNS = (GuestColumn("class", ("sla_class",), Unit.TEXT, "the guest's service class", 10, 1),)


def fields_of(name: str, source: str, terms: ServiceClass, maximum_kib: float | None) -> dict[str, Value]:
    """Return the fields of a guest with the class `name`."""
    result: dict[str, Value] = {
        "sla_class": name,
        "sla_class_by": source,
        "mem_guarantee_share": terms.guarantee.share,
        "priority": terms.priority,
        "reclaim_cost": terms.reclaim_cost,
        "may_offload": int(terms.offload),
        "cpu_share": terms.cpu_share,
        "io_share": terms.io_share,
        **{str(allowed): int(getattr(terms, allowed)) for allowed in ALLOWED},
    }
    guarantee = terms.guarantee.kib_of(maximum_kib)
    if guarantee is not None:
        result["mem_guarantee"] = math.ceil(guarantee)
    if terms.may_leave:
        result["leave_warning"], result["comes_back"] = terms.warning, int(terms.comes_back)
    return result


class SlaPlugin:
    """Plugin that assigns service classes to guests."""

    Settings = SlaSettings
    GuestSettings = SlaGuestSettings

    def __init__(self, settings: SlaSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._classes: Mapping[str, ServiceClass] = settings.all_classes
        self._assignment = ClassAssignment(self._classes, settings.default)
        self._shared = None if settings.classes_file is None else SharedClasses(settings.classes_file)
        self._maxima: dict[str, float] = {}
        self._snapshot: Snapshot | None = None

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        self._read_shared_classes()
        if self._shared is not None and self._shared.wrong:
            text = f"the classes file is not in force: {self._shared.wrong}"
            yield Finding(Severity.ERROR, "service classes", text, "correct the file")
        guests = self._context.configuration().get("guests")
        for pattern, settings in guests.items() if isinstance(guests, Mapping) else ():
            name = settings.get("class") if isinstance(settings, Mapping) else None
            if isinstance(name, str) and name not in self._classes:
                text = f"guests: there is no class {printable(name, 60)} for {printable(str(pattern), 60)}"
                severity = Severity.ERROR if self._shared is None else Severity.WARNING  # a shared file may define it later
                yield Finding(severity, "service classes", text, self._cure())

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*FIELDS, *COLUMNS, *(DefaultPolicy(name, text) for name, text in self._policies().items()))

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {Admissions: self, ClassFiles: self}

    def _policies(self) -> Mapping[str, str]:
        # They need the qos plugin.
        switches = {"62_sla_cpu": self._settings.cpu, "72_sla_io": self._settings.io}
        folder = files("mom_plugins_sla")
        return {name: folder.joinpath(f"{name[3:]}.policy").read_text("utf-8") for name, is_on in switches.items() if is_on}

    # --- collect and evaluate ----------------------------------------------------------------------------------------------------

    def _read_shared_classes(self) -> None:
        if self._shared is None or not self._shared.look():
            return
        self._classes = {**self._settings.all_classes, **self._shared.classes}
        self._assignment = ClassAssignment(self._classes, self._settings.default)
        self._context.log.info("classes of %s: %s", self._settings.classes_file, ", ".join(self._shared.classes) or "none")

    def _wrong_file(self) -> str:
        shared = self._shared
        return "" if shared is None or not shared.wrong else f"the last valid classes stay in force: {shared.wrong}"

    def why_unused(self, path: Path) -> str:
        """Return why the classes in the file `path` are not applied, or an empty string (`ClassFiles`)."""
        shared = self._shared
        if shared is None or self._settings.classes_file != path:
            return f"no plugin reads the file: the {self._context.name} plugin needs `classes_file: {path}`"
        return f"there is no {path}" if shared.absent else self._wrong_file()

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Give each guest all fields, because a missing field means a failure."""
        # With these values, the policies for CPUs and disks release a guest that no longer has a class.
        unclassed: dict[str, Value] = {"mem_guarantee_share": None}
        unclassed |= {"cpu_share": ORDINARY} if self._settings.cpu else {}
        unclassed |= {"io_share": 1.0} if self._settings.io else {}
        fields: dict[str, dict[str, Value]] = {guest.id: {**unclassed} for guest in guests}
        for guest in guests:
            if (assigned := self._assigned(guest)) is not None:
                terms = self._classes[assigned.name]
                fields[guest.id] = fields_of(assigned.name, assigned.explanation, terms, self._maxima.get(guest.id))
        return fields

    def _assigned(self, guest: Guest) -> Assigned | None:
        return self._assignment.of(guest, self._context.guest_settings(guest))

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        self._read_shared_classes()
        return {}

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        maxima = ((identity, guest.number("balloon_max")) for identity, guest in snapshot.guests.items())
        self._maxima = {identity: maximum for identity, maximum in maxima if maximum is not None}
        source = Source(self._context.name)
        if wrong := self._wrong_file():
            yield Problem(source, wrong, severity=Severity.ERROR, hint="correct the file; in a fleet: `mom fleet policy set`")
        for guest in snapshot.guests.values():
            if (assigned := self._assigned(guest)) is not None and assigned.unknown:
                text = f"there is no class {assigned.unknown} ({assigned.source}): {assigned.name}, the safest class, replaces it"
                yield Problem(source, text, guest.entity, Severity.ERROR, self._cure())

    @hookimpl
    def mom_report(self, report: Report) -> None:
        if not report.guests_unknown:
            self._snapshot = report.snapshot

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Return whether guests fit, according to the last cycle (`Admissions`)."""
        new = NewGuests.of(count, memory_kib, sla_class or self._settings.default or "", self._classes)
        snapshot = seen_lately(self._snapshot, self._context, "admission is unknown")
        promises = self._context.service(Promises) or Promises()
        return admission_of(new, figures_of(snapshot, self._context.service(Reservations), promises), snapshot)

    def _cure(self) -> str:
        return f"known classes: {', '.join(self._classes)}; define more in the settings of the {self._context.name} plugin"

    # --- for people -----------------------------------------------------------------------------------------------------------------

    mom_status = late_hook("mom_plugins_sla.presentation:class_parts", "report")

    mom_explainer = late_hook("mom_plugins_sla.presentation:ClassExplainer")
