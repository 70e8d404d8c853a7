"""Limits that the operator's settings ask for, for single guests. Pure: a snapshot and settings in, values and problems out.

The findings of `mom doctor` on limits.

The plugin: reads the limits of guests, decides on those that the operator set, reviews all plugins' decisions, sets and puts back."""

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
    Severity,
    Snapshot,
    Source,
    Target,
    Value,
    first_names,
    hookimpl,
    printable,
)
from mom_kvm import Enforcement, SetValue, late_hook
from mom_plugins_host.qos import control
from mom_plugins_host.qos.control import CONTROLS, reviewed
from mom_plugins_host.qos.lists import DISKS, DISKS_NOW, FIELDS, HOST_CPUS, INTERFACES, VCPUS, cpu_fields, disk_fields, present_interfaces
from mom_plugins_host.qos.settings import CPU_SHARES, DIRECTIONS, PERIOD, QUOTA, NetLimits, QosGuestSettings, QosSettings, quota_and_period


def wanted_of(guest: Guest, settings: QosGuestSettings, host_cpus: float | None) -> dict[str, Value]:
    """The settings' limits of this guest, by control; None for those that cannot be known now."""
    wanted: dict[str, Value] = {}
    vcpus = guest.number(VCPUS)
    if settings.cpu_limit is not None:
        known = quota_and_period(settings.cpu_limit, host_cpus, vcpus) if host_cpus and vcpus else (None, None)
        wanted[QUOTA], wanted[PERIOD] = known
    if settings.cpu_shares is not None:
        wanted[CPU_SHARES] = settings.cpu_shares
    if settings.io_limit is not None or settings.disk_limits is not None:
        disks = guest.items(DISKS_NOW)
        now = [(item, settings.disk(str(item["name"]))) for item in disks or ()]
        wanted[DISKS] = None if disks is None else [{**item, **own} for item, own in now if own]
    if settings.net_limit is not None:
        interfaces = guest.items(INTERFACES)
        wanted[INTERFACES] = None if interfaces is None else [_limited(item, settings.net_limit) for item in interfaces]
    return wanted


def agreed_of(guest: Guest) -> Value:
    """The disks for which limits were agreed; None: that is unknown now."""
    disks = guest.items(DISKS)
    return None if disks is None else [{"name": item["name"]} for item in disks if _is_agreed(item.get("maximum"))]


def _is_agreed(maximum: Value) -> bool:
    return isinstance(maximum, Mapping) and any(limit is not None for limit in maximum.values())


def _limited(interface: Mapping[str, Value], limit: NetLimits) -> Mapping[str, Value]:
    """The interface with other limits. What was promised to it (its floor) is no limit, and stays."""
    limited = dict(interface)
    for direction in DIRECTIONS:
        present = interface.get(direction)
        floor = {"floor": present["floor"]} if isinstance(present, Mapping) and "floor" in present else {}
        limited[direction] = {**floor, **limit.direction(direction)}
    return limited


def wanted_of_all(snapshot: Snapshot, settings: Mapping[str, QosGuestSettings]) -> dict[str, dict[str, SetValue]]:
    """The settings' limits of all guests, by id and control.

    :param settings: by guest id; a guest for which nothing is set may be absent
    """
    host_cpus = snapshot.host.number(HOST_CPUS)
    wanted = {guest.id: wanted_of(guest, settings[guest.id], host_cpus) for guest in snapshot.guests.values() if guest.id in settings}
    return {identity: {control: SetValue(value) for control, value in values.items()} for identity, values in wanted.items()}


def mistakes_in(snapshot: Snapshot, settings: Mapping[str, QosGuestSettings], source: Source) -> Iterable[Problem]:
    """Settings by which nothing can be decided: shares of CPUs that are not known, and disks that no guest of a pattern has, which
    are misspelt. That some have fewer disks is no mistake."""
    if not snapshot.host.number(HOST_CPUS) and any(one.cpu_limit is not None for one in settings.values()):
        message = "cpu_limit needs the number of the host's CPUs (cpu_count), which is unknown"
        yield Problem(source, message, severity=Severity.WARNING, hint="enable the plugin host")
    asked, there = set[str](), set[str]()
    for identity, own in settings.items():
        guest = snapshot.guests.get(identity)
        if own.disk_limits and guest is not None and (disks := guest.items(DISKS_NOW)) is not None:
            asked |= own.disk_limits.keys()
            there |= own.disk_limits.keys() & {str(item["name"]) for item in disks}
    for name in sorted(asked - there):
        message = f"disk_limits name {printable(name)}, and none of these guests has such a disk"
        yield Problem(source, message, severity=Severity.WARNING, hint="see mom guests --json")


SUBJECT = "limits of guests"
_CURE = (
    "run the guests under qemu:///system with the cgroup controller cpu (cgroup_controllers in /etc/libvirt/qemu.conf, and"
    " mounted when libvirtd starts), or do without CPU limits"
)


def findings(hypervisor: Hypervisor | None) -> Iterable[Finding]:
    """Say what can be limited, and what cannot, and why."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, SUBJECT, "not looked at: no hypervisor was reached")
        return
    missing = [
        what
        for what, capability in (("CPU time", CpuTuneControl), ("disks", IoTuneControl), ("network interfaces", NetTuneControl))
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
        yield Finding(Severity.ERROR, SUBJECT, f"the guests cannot be looked at: {error}", "see what the hypervisor plugin says above")


def _about_cpu(hypervisor: CpuTuneControl, guests: Sequence[Guest]) -> Iterable[Finding]:
    tunes = hypervisor.cpu_tunes([guest.entity for guest in guests])
    unknown = [guest for guest in guests if (tune := tunes.get(guest.id)) is None or tune.quota_us is None]
    if known := len(guests) - len(unknown):
        yield Finding(Severity.OK, SUBJECT, f"the CPU time of {known} guests can be limited")
    if unknown:
        # Only after a look does the list of guests say why not.
        again = hypervisor.guests() if isinstance(hypervisor, Hypervisor) else ()
        reasons = {reason for guest in again if (reason := guest.blocked.get(QUOTA, ""))}
        why = "; ".join(sorted(reasons)) or "the CPU limits cannot be read"
        message = f"{why} (guests {first_names([guest.name for guest in unknown])})"
        yield Finding(Severity.WARNING, SUBJECT, message, _CURE if reasons else "")


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

    mom_explainer = late_hook("mom_plugins_host.explanations:LimitsExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Say which limits this host can set."""
        return findings(hypervisor)
