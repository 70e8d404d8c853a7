"""The plugin: reads the limits of guests, decides on those that the operator set, reviews all plugins' decisions, sets and puts back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from mom_core import (
    Change,
    CpuTune,
    CpuTuneControl,
    Decision,
    Declaration,
    DefaultPolicy,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    IoTuneControl,
    NetTuneControl,
    PluginContext,
    Problem,
    Revision,
    Snapshot,
    Source,
    Target,
    Value,
    hookimpl,
)
from mom_kvm import Enforcement, late_hook
from mom_plugins_host.qos import control
from mom_plugins_host.qos.control import CONTROLS
from mom_plugins_host.qos.fields import DISKS, FIELDS, INTERFACES, cpu_fields, disk_fields
from mom_plugins_host.qos.findings import findings
from mom_plugins_host.qos.limits import agreed_of, mistakes_in, wanted_of_all
from mom_plugins_host.qos.lists import present_interfaces
from mom_plugins_host.qos.review import reviewed
from mom_plugins_host.qos.settings import QosGuestSettings, QosSettings

_NOTHING_SET = QosGuestSettings()


class QosPlugin:
    """Limits of guests: CPU time and shares, disks, network."""

    Settings = QosSettings
    GuestSettings = QosGuestSettings

    def __init__(self, settings: QosSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._enforcement = Enforcement(context, CONTROLS)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """The limits that stand, those that were agreed, and policies that hold guests to these, unless the settings say otherwise."""
        texts = files("mom_plugins_host.qos")
        yield from FIELDS
        yield from CONTROLS
        for name, is_on in (("60_cpu_limits", self._settings.cpu_limits), ("70_io_limits", self._settings.io_limits)):
            switch = f"(defvar {name[3:]} {int(is_on)})  # as the settings of the plugin say\n"
            yield DefaultPolicy(name, switch + texts.joinpath(f"{name[3:]}.policy").read_text("utf-8"))

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """The limits of all guests."""
        entities = [guest.entity for guest in guests]
        cpu = hypervisor.cpu_tunes(entities) if isinstance(hypervisor, CpuTuneControl) else {}
        disks = hypervisor.io_tunes(entities) if isinstance(hypervisor, IoTuneControl) else {}
        interfaces = hypervisor.net_tunes(entities) if isinstance(hypervisor, NetTuneControl) else {}
        fields: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            settings = self._settings_of(guest)
            own = cpu_fields(cpu.get(guest.id) or CpuTune(), settings)
            if guest.id in disks:
                own |= disk_fields(disks[guest.id], settings)
            if guest.id in interfaces:
                own[INTERFACES] = present_interfaces(interfaces[guest.id])
            fields[guest.id] = own
        return fields

    def _settings_of(self, guest: Guest) -> QosGuestSettings:
        settings = self._context.guest_settings(guest)
        return settings if isinstance(settings, QosGuestSettings) else _NOTHING_SET

    # --- evaluate ----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide on the limits that the YAML file sets for single guests, and undo those that are set or agreed no more."""
        set_for = {guest.id: own for guest in snapshot.listed if (own := self._settings_of(guest)).model_fields_set}
        listed = snapshot.guests.values() if self._settings.io_limits else ()
        agreed = {guest.id: {DISKS: agreed_of(guest)} for guest in listed}
        return self._enforcement.decide(snapshot, wanted_of_all(snapshot, set_for), agreed)

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Report limits of the YAML file that cannot be set, or are wrong."""
        yield from self._enforcement.problems
        set_for = {guest.id: own for guest in snapshot.listed if (own := self._settings_of(guest)).model_fields_set}
        yield from mistakes_in(snapshot, set_for, Source(self._context.name))

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """Refuse what no hypervisor takes, with the bounds, and complete lists, whatever plugin decided."""
        self._enforcement.hear(decisions)
        return reviewed(snapshot, decisions)

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """The limits as they stand."""
        return control.read(hypervisor, targets)

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set limits."""
        return control.write(hypervisor, changes)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_host.qos.explanation:LimitsExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Say which limits this host can set."""
        return findings(hypervisor)
