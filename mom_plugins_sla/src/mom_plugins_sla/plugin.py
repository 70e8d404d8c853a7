"""The plugin: says of each guest which class it is of and what that promises; others hold the promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from mom_core import (
    Declaration,
    DefaultPolicy,
    Finding,
    Guest,
    Hypervisor,
    MomError,
    PluginContext,
    Problem,
    Report,
    Severity,
    Snapshot,
    Source,
    Value,
    hookimpl,
    printable,
)
from mom_kvm import NO_PROMISES, Admission, Admissions, ClassFiles, GuestMoves, Promises, Reservations, late_hook, seen_lately
from mom_plugins_sla.admission import Wanted, about_moving, admission_of, figures_of
from mom_plugins_sla.assignment import Assigned, ClassAssignment
from mom_plugins_sla.classes import ORDINARY, ServiceClass
from mom_plugins_sla.fairness import Fairness, fairness_of
from mom_plugins_sla.fields import FIELDS, fields_of
from mom_plugins_sla.settings import SlaGuestSettings, SlaSettings
from mom_plugins_sla.shared_classes import SharedClasses

GUESTS_UNKNOWN: Final = "guests"
"""The name of the core's condition that the hypervisor has not listed its guests."""


class SlaPlugin:
    """Service classes of guests."""

    Settings = SlaSettings
    GuestSettings = SlaGuestSettings

    def __init__(self, settings: SlaSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._classes: Mapping[str, ServiceClass] = settings.all_classes
        self._assignment = ClassAssignment(self._classes, settings.patterns, settings.default)
        self._shared = None if settings.classes_file is None else SharedClasses(settings.classes_file)
        self._maxima: dict[str, float] = {}
        self._fairness = Fairness()
        self._seen: Snapshot | None = None
        """By this guests are admitted."""

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """What is wrong with the file of classes, and classes that the section `guests` names and that there are not."""
        self._look()
        if self._shared is not None and self._shared.wrong:
            text = f"classes that cannot be read are not in force: {self._shared.wrong}"
            yield Finding(Severity.ERROR, "service classes", text, "correct the file")
        guests = self._context.configuration().get("guests")
        for pattern, said in guests.items() if isinstance(guests, Mapping) else ():
            name = said.get("class") if isinstance(said, Mapping) else None
            if isinstance(name, str) and name not in self._classes:
                text = f"guests: {printable(str(pattern), 60)} is to be of the class {printable(name, 60)}, which there is not"
                severity = Severity.ERROR if self._shared is None else Severity.WARNING  # a shared file may bring it any time
                yield Finding(severity, "service classes", text, self._cure())

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Fields and columns of classes, and the policies that are switched on."""
        from mom_plugins_sla.overview import COLUMNS

        return (*FIELDS, *COLUMNS, *(DefaultPolicy(name, text) for name, text in self._policies().items()))

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Admission, and the file of classes."""
        return {Admissions: self, ClassFiles: self}

    def _policies(self) -> Mapping[str, str]:
        """Return the policies that are switched on: those for CPUs and disks read fields that only the plugin qos has."""
        on = {"60_fair_share": self._settings.fair_share, "62_sla_cpu": self._settings.cpu, "72_sla_io": self._settings.io}
        folder = files("mom_plugins_sla")
        texts = {name: folder.joinpath(f"{name[3:]}.policy").read_text("utf-8") for name, is_on in on.items() if is_on}
        if "62_sla_cpu" in texts:
            ordinary = f"(defvar sla_cpu_ordinary {self._settings.cpu_ordinary})  # as the settings of the plugin say\n"
            texts["62_sla_cpu"] = ordinary + texts["62_sla_cpu"]
        return texts

    # --- collect and evaluate ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Take the classes of the file that others may change, where there is one and it has changed."""
        if self._shared is None or not self._shared.look():
            return
        self._classes = {**self._settings.all_classes, **self._shared.classes}
        self._assignment = ClassAssignment(self._classes, self._settings.patterns, self._settings.default)
        self._context.log.info("classes of %s: %s", self._settings.classes_file, ", ".join(self._shared.classes) or "none")

    def _wrong_file(self) -> str:
        """Return why the classes of the file are not in force; empty: they are, or there are none to be."""
        shared = self._shared
        return "" if shared is None or not shared.wrong else f"the classes stay as they were: {shared.wrong}"

    def why_unused(self, path: Path) -> str:
        """`ClassFiles`: why the classes of that file are not in force."""
        shared = self._shared
        if shared is None or self._settings.classes_file != path:
            return f"no plugin reads them: the plugin {self._context.name} needs `classes_file: {path}`"
        return f"there is no {path}" if shared.absent else self._wrong_file()

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Return the class of each guest, and what it promises. Who is promised nothing is named, too: no word would be a failure."""
        # By these, the policies for CPUs and disks let go of a guest that has no class any more.
        unclassed: dict[str, Value] = {"mem_guarantee_share": None}
        unclassed |= {"cpu_share": ORDINARY} if self._settings.cpu else {}
        unclassed |= {"io_share": 1.0} if self._settings.io else {}
        fields: dict[str, dict[str, Value]] = {guest.id: {**unclassed} for guest in guests}
        for identity, one in self._assignment.of_all(guests, self._context.guest_settings).items():
            fields[identity] = fields_of(one.name, one.told, self._classes[one.name], self._maxima.get(identity))
        for guest in guests:
            share = self._fairness.shares.get(guest.id)
            if share is not None:
                fields.setdefault(guest.id, {})["fair_share"] = math.floor(share)
        return fields

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """Return the host's lack, as the last cycle saw it, and why the file of classes is not in force."""
        self._look()
        lack, fields = self._fairness.lack, dict[str, Value]()
        if lack is not None:
            fields["fair_share_lack"] = math.ceil(lack)
        if (path := self._settings.classes_file) is not None:
            fields["classes_file_wrong"] = self.why_unused(path)
        return fields

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Report guests of unknown classes; learn their maximum sizes and fair shares."""
        maxima = ((identity, guest.number("balloon_max")) for identity, guest in snapshot.guests.items())
        self._maxima = {identity: maximum for identity, maximum in maxima if maximum is not None}
        settings, promises = self._settings, self._context.service(Promises) or NO_PROMISES
        source = Source(self._context.name)
        try:
            self._fairness = fairness_of(snapshot, settings.host_keeps, settings.idle_tax, promises)
        except MomError as error:
            self._fairness = Fairness()
            yield Problem(source, f"fair shares are unknown: {error.message}", hint=error.hint)
        if wrong := self._wrong_file():
            yield Problem(source, wrong, severity=Severity.ERROR, hint="correct the file; in a fleet: `mom fleet policy set`")
        for guest, one in self._unknown(list(snapshot.guests.values())):
            yield Problem(source, self._complaint(one), guest.entity, Severity.ERROR, self._cure())

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Note by what guests are admitted: not by a cycle in which the hypervisor has listed none, as if nothing were promised here."""
        conditions = () if report.verdict is None else report.verdict.conditions
        if report.snapshot.guests or not any(condition.name == GUESTS_UNKNOWN and not condition.over for condition in conditions):
            self._seen = report.snapshot

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """`Admissions`: whether these guests fit, by the classes as they are now, and by what the last cycle has seen."""
        wanted = Wanted.of(count, memory_kib, sla_class or self._settings.default or "", self._classes)
        seen = seen_lately(self._seen, self._context, "nothing can be said")
        promises = self._context.service(Promises) or NO_PROMISES
        answer = admission_of(wanted, figures_of(seen, self._context.service(Reservations), promises), seen)
        moves = self._context.service(GuestMoves)
        if answer.admitted or moves is None:
            return answer
        return replace(answer, reasons=(*answer.reasons, about_moving(seen, moves)))

    def _unknown(self, guests: Sequence[Guest]) -> list[tuple[Guest, Assigned]]:
        assigned = self._assignment.of_all(guests, self._context.guest_settings)
        return [(guest, one) for guest in guests if (one := assigned.get(guest.id)) is not None and one.unknown]

    def _complaint(self, one: Assigned) -> str:
        return f"there is no class {one.unknown}, which it has by {one.by}: it is taken for {one.name}, the safest"

    def _cure(self) -> str:
        return f"there are: {', '.join(self._classes)}; more can be defined in the settings of the plugin {self._context.name}"

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_status = late_hook("mom_plugins_sla.overview:class_parts", "report")

    mom_explainer = late_hook("mom_plugins_sla.explanation:ClassExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Yield which guests are of no class that there is; `mom_check` says what is wrong with the file of classes."""
        self._look()
        for guest, one in self._unknown([] if hypervisor is None else hypervisor.guests()):
            yield Finding(Severity.ERROR, f"guest {printable(guest.name)}", self._complaint(one), self._cure())
