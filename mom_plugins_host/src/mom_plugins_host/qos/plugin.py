"""Plugin `qos`: CPU, disk and network limits of guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from mom_core import (
    Change,
    CpuTune,
    Decision,
    Declaration,
    DefaultPolicy,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    Problem,
    Revision,
    Severity,
    Snapshot,
    Source,
    Target,
    Value,
    first_names,
    hookimpl,
)
from mom_kvm import late_hook
from mom_plugins_host.capabilities import CpuTuneControl, IoTuneControl, NetTuneControl
from mom_plugins_host.enforcement import Enforcement, SetValue
from mom_plugins_host.qos import control
from mom_plugins_host.qos.settings import CPU_SHARES, DIRECTIONS, PERIOD, QUOTA, NetLimits, QosGuestSettings, QosSettings, quota_and_period


def limits_of(guest: Guest, settings: QosGuestSettings, host_cpus: float | None) -> dict[str, Value]:
    """Return a guest's configured limits, keyed by control. A limit is None if unknown now."""
    limits: dict[str, Value] = {}
    vcpus = guest.number(control.VCPUS)
    if settings.cpu_limit is not None:
        pair = quota_and_period(settings.cpu_limit, host_cpus, vcpus) if host_cpus and vcpus else (None, None)
        limits[QUOTA], limits[PERIOD] = pair
    if settings.cpu_shares is not None:
        limits[CPU_SHARES] = settings.cpu_shares
    if settings.io_limit is not None or settings.disk_limits is not None:
        disks = guest.items(control.DISKS_NOW)
        now = [(item, settings.disk(str(item["name"]))) for item in disks or ()]
        limits[control.DISKS] = None if disks is None else [{**item, **own} for item, own in now if own]
    if settings.net_limit is not None:
        interfaces = guest.items(control.INTERFACES)
        limits[control.INTERFACES] = None if interfaces is None else [_limited(item, settings.net_limit) for item in interfaces]
    return limits


def _limited(interface: Mapping[str, Value], limit: NetLimits) -> Mapping[str, Value]:
    # Keep the interface's floor, which is guaranteed.
    limited = dict(interface)
    for direction in DIRECTIONS:
        present = interface.get(direction)
        floor = {"floor": present["floor"]} if isinstance(present, Mapping) and "floor" in present else {}
        limited[direction] = {**floor, **limit.direction(direction)}
    return limited


SUBJECT = "limits of guests"
_CURE = (
    "run the guests under qemu:///system with the cgroup controller cpu (cgroup_controllers in /etc/libvirt/qemu.conf, and"
    " mounted when libvirtd starts), or do without CPU limits"
)


def findings(hypervisor: Hypervisor | None) -> Iterable[Finding]:
    """Yield findings: limits that the hypervisor can set, and why it cannot set others."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, SUBJECT, "not checked: mom reached no hypervisor")
        return
    missing = [
        resource
        for resource, capability in (("CPU time", CpuTuneControl), ("disks", IoTuneControl), ("network interfaces", NetTuneControl))
        if not isinstance(hypervisor, capability)
    ]
    if missing:
        yield Finding(Severity.WARNING, SUBJECT, f"{hypervisor.uri} cannot limit {', '.join(missing)}")
    try:
        guests = hypervisor.guests()
        if isinstance(hypervisor, CpuTuneControl) and guests:
            yield from _about_cpu(hypervisor, guests)
        if isinstance(hypervisor, IoTuneControl):
            disks = sum(len(tunes) for tunes in hypervisor.io_tunes([guest.entity for guest in guests]).values())
            yield Finding(Severity.OK, SUBJECT, f"{disks} disks of {len(guests)} guests can be limited")
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, f"the guests cannot be checked: {error}", "see the hypervisor plugin's finding above")


def _about_cpu(hypervisor: CpuTuneControl, guests: Sequence[Guest]) -> Iterable[Finding]:
    tunes = hypervisor.cpu_tunes([guest.entity for guest in guests])
    unknown = [guest for guest in guests if (tune := tunes.get(guest.id)) is None or tune.quota_us is None]
    if limitable := len(guests) - len(unknown):
        yield Finding(Severity.OK, SUBJECT, f"the CPU time of {limitable} guests can be limited")
    if unknown:
        message = f"the CPU limits of guests {first_names([guest.name for guest in unknown])} cannot be read"
        yield Finding(Severity.WARNING, SUBJECT, message, _CURE)


_NOTHING_SET = QosGuestSettings()


class QosPlugin:
    """Limits of guests: CPU time and shares, disks, and network."""

    Settings = QosSettings
    GuestSettings = QosGuestSettings

    def __init__(self, settings: QosSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._enforcement = Enforcement(context, control.CONTROLS)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        texts = files("mom_plugins_host.qos")
        yield from control.FIELDS
        yield from control.CONTROLS
        for name, is_on in (("60_cpu_limits", self._settings.cpu_limits), ("70_io_limits", self._settings.io_limits)):
            switch = f"(defvar {name[3:]} {int(is_on)})  # as the settings of the plugin say\n"
            yield DefaultPolicy(name, switch + texts.joinpath(f"{name[3:]}.policy").read_text("utf-8"))

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        entities = [guest.entity for guest in guests]
        cpu = hypervisor.cpu_tunes(entities) if isinstance(hypervisor, CpuTuneControl) else {}
        disks = hypervisor.io_tunes(entities) if isinstance(hypervisor, IoTuneControl) else {}
        interfaces = hypervisor.net_tunes(entities) if isinstance(hypervisor, NetTuneControl) else {}
        fields: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            settings = self._settings_of(guest)
            own = control.cpu_fields(cpu.get(guest.id) or CpuTune(), settings)
            if guest.id in disks:
                own |= control.disk_fields(disks[guest.id], settings)
            if guest.id in interfaces:
                own[control.INTERFACES] = control.present_interfaces(interfaces[guest.id])
            fields[guest.id] = own
        return fields

    def _settings_of(self, guest: Guest) -> QosGuestSettings:
        settings = self._context.guest_settings(guest)
        return settings if isinstance(settings, QosGuestSettings) else _NOTHING_SET

    # --- evaluate ----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        host_cpus, own_settings = snapshot.host.number(control.HOST_CPUS), self._own_settings(snapshot)
        limits = {identity: limits_of(snapshot.guests[identity], own, host_cpus) for identity, own in own_settings.items()}
        wanted = {identity: {name: SetValue(value) for name, value in own.items()} for identity, own in limits.items()}
        return self._enforcement.decide(snapshot, wanted)

    def _own_settings(self, snapshot: Snapshot) -> dict[str, QosGuestSettings]:
        return {guest.id: own for guest in snapshot.listed if (own := self._settings_of(guest)).model_fields_set}

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        yield from self._enforcement.problems
        limits_cpus = any(own.cpu_limit is not None for own in self._own_settings(snapshot).values())
        if limits_cpus and not snapshot.host.number(control.HOST_CPUS):
            message = "cpu_limit needs the number of the host's CPUs (cpu_count), which is unknown"
            yield Problem(Source(self._context.name), message, severity=Severity.WARNING, hint="enable the plugin host")

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        self._enforcement.hear(decisions)
        return control.reviewed(snapshot, decisions)

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        return control.read(hypervisor, targets)

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        return control.write(hypervisor, changes)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_host.explanations:LimitsExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        return findings(hypervisor)
