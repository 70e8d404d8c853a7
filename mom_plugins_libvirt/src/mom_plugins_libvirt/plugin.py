"""The plugin: settings, declarations, and the hooks that hand work to the hypervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, model_validator

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Duration,
    Entity,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    PluginSettings,
    Problem,
    Refused,
    Report,
    Scope,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Unit,
    Value,
    format_duration,
    hookimpl,
)
from mom_guests import PERIOD
from mom_plugins_libvirt.fields import GUEST_FIELDS, HOST_FIELDS
from mom_plugins_libvirt.uri import checked

if TYPE_CHECKING:
    from mom_core import GuestColumn
    from mom_guests import GuestWatch
    from mom_plugins_libvirt.connection import ConnectionSettings
    from mom_plugins_libvirt.hypervisor import LibvirtHypervisor

_LONGEST_PERIOD_SECONDS = 3600

_SWITCHED_PER_CYCLE = 50
"""How many guests' statistics are switched on in one cycle: it takes two or three calls each, and the cycle has other things to do."""

_SHORTEST_WATCH_SECONDS = 0.05
"""Guests have something new to tell once a second; looking more often than this only costs."""

_PATIENT_SHARE = 0.45
"""Of the deadline that a verb gives which only takes a look: two attempts of a call are less than it. A person waits longer."""

_NOT_OURS = "another plugin's hypervisor is in use"

_SOCKETS = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")


def _whole_seconds(seconds: float) -> float:
    if seconds != int(seconds):
        raise ValueError("libvirt counts whole seconds here")
    return seconds


def _not_too_often(seconds: float) -> float:
    if 0 < seconds < _SHORTEST_WATCH_SECONDS:
        raise ValueError(f"must be at least {format_duration(_SHORTEST_WATCH_SECONDS)}, or 0s for never")
    return seconds


class LibvirtPlugin:
    """QEMU guests under libvirt: who they are, what they use, their balloons."""

    class Settings(PluginSettings):
        """Where libvirt is, and how patient to be with it."""

        uri: Annotated[str, AfterValidator(checked)] = "qemu:///system"
        """libvirt's URI; of another host: `qemu+ssh://root@HOST/system` or `qemu+tls://HOST/system`."""
        readonly: bool = False
        """Connect read-only: mom can watch, and change nothing."""
        stats_period: Annotated[Duration, Field(ge=0, le=_LONGEST_PERIOD_SECONDS), AfterValidator(_whole_seconds)] = 1.0
        """How often the statistics of guests are read for which libvirt reads none; put back at the end. `0s` leaves such guests alone."""
        stale_after: Annotated[Duration, Field(gt=0)] | None = None
        """From which age on a guest's own statistics count as unknown. Unset: three of the guest's periods, at least 10s."""
        watch: Annotated[Duration, Field(ge=0, le=10), AfterValidator(_not_too_often)] = 0.25
        """How often to look at guests from which memory was taken: one that comes short wakes mom for a cycle at once. `0s`: never."""
        call_timeout: Annotated[Duration, Field(gt=0, le=60)] = 2.0
        """How long to wait for one answer of libvirtd. A guest's QEMU that hangs costs this once. Less than half of `deadline`."""
        pid_directory: str = "/run/libvirt/qemu"
        """Where libvirt keeps the process ids of its guests."""

        @model_validator(mode="after")
        def _calls_fit_into_the_deadline(self) -> LibvirtPlugin.Settings:
            if 2 * self.call_timeout >= self.deadline:
                raise ValueError(f"call_timeout must be less than half of deadline, which is {format_duration(self.deadline)}")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._hypervisor: LibvirtHypervisor | None = None
        self._close: Callable[[], None] = _nothing
        self._watch: GuestWatch | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits where a libvirt socket is."""
        for socket in _SOCKETS:
            if (root / socket).exists():
                return Suggestion(f"libvirt listens on /{socket}", {"uri": "qemu:///system"}, order=21)
        return None

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """What is known of each guest, and of all of them together."""
        return GUEST_FIELDS + HOST_FIELDS

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        """The statistics period; balloons are another plugin's."""
        description = f"how often libvirt has the guest report its memory, up to {_LONGEST_PERIOD_SECONDS} s; 0: never"
        # No bounds here: a period below 0 that is moved to 0 means never. Such values are refused.
        return (ControlSpec(PERIOD, Unit.SECONDS, Scope.GUEST, description, PERIOD),)

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        """Start libvirt's event loop. The first call that needs a connection opens it: libvirtd may be down when mom starts."""
        # Loaded here, as commands that only list plugins must not wait for libvirt.
        from mom_plugins_libvirt.connection import Connection
        from mom_plugins_libvirt.hypervisor import LibvirtHypervisor, SamplingSettings

        root = self._context.root
        pids = root / self._settings.pid_directory.lstrip("/")
        sampling = SamplingSettings(self._settings.stale_after, pids, root / "proc", root / "sys/fs/cgroup")
        connection = Connection(self._connection_settings(self._settings.readonly), self._context.log)
        self._close = connection.close
        hypervisor = LibvirtHypervisor(connection, sampling, self._context.log, monotonic=self._context.monotonic)
        self._close = hypervisor.close
        hypervisor.subscribe(self._context.wake)
        connection.start()
        self._hypervisor = hypervisor
        if self._settings.watch:
            self._watch = self._started_watch()

    @hookimpl
    def mom_teardown(self) -> None:
        """Watch no longer, and let the connections go."""
        if self._watch is not None:
            self._watch.stop()
        self._close()

    @hookimpl
    def mom_hypervisor(self) -> Hypervisor | None:
        """libvirt."""
        return self._hypervisor

    def _started_watch(self) -> GuestWatch:
        from mom_guests import GuestWatch
        from mom_plugins_libvirt.connection import Connection
        from mom_plugins_libvirt.watched_statistics import WatchedStatistics

        log = self._context.log.getChild("watch")
        balloons = WatchedStatistics(Connection(self._connection_settings(readonly=True), log))
        watch = GuestWatch(balloons, self._settings.watch, self._context.wake, log)
        watch.start()
        return watch

    def _connection_settings(self, readonly: bool) -> ConnectionSettings:
        from mom_plugins_libvirt.connection import ConnectionSettings

        timeout = self._settings.call_timeout
        if not self._context.serves:
            timeout = max(timeout, _PATIENT_SHARE * self._settings.deadline)
        return ConnectionSettings(self._settings.uri, readonly, timeout)

    # --- collect and evaluate ----------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """What the bulk call that listed the guests said about them."""
        own = self._own(hypervisor)
        if own is None:
            return {}
        fields = own.fields(guests)
        for uuid, soon in (self._watch.forecasts() if self._watch is not None else {}).items():
            usable = fields.get(uuid, {}).get("mem_usable")
            if isinstance(usable, int):
                fields[uuid]["mem_usable_soon"] = min(soon, usable)  # the cycle may know newer statistics
        return fields

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        """How many guests there are that cannot be relied on."""
        own = self._own(hypervisor)
        return {} if own is None else {"guests_silent": len(own.silent()), "guests_distrusted": len(own.impossible())}

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision | Problem]:
        """Statistics are switched on for guests that have none: without them what a guest needs is unknown.

        Guests that do not report any more, or that report what cannot be, are a problem for as long as they do.
        """
        yield from self._unreliable(snapshot)
        period = int(self._settings.stats_period)
        if not period:
            return
        off = (guest for guest in snapshot.guests.values() if guest.fields.get(PERIOD) == 0 and not {"*", PERIOD} & guest.blocked.keys())
        for guest in islice(off, _SWITCHED_PER_CYCLE):
            yield Decision(guest.entity, PERIOD, period, "libvirt reads no statistics of this guest", Source(self._context.name))

    def _unreliable(self, snapshot: Snapshot) -> Iterable[Problem]:
        if self._hypervisor is None:
            return
        source = Source(self._context.name)
        for uuid, silence in self._hypervisor.silent().items():
            guest = snapshot.guests.get(uuid)
            if guest is not None:
                hint = "look whether it hangs, and load virtio_balloon in it: in Windows, the balloon driver and service of virtio-win"
                yield Problem(source, silence, guest.entity, Severity.WARNING, hint)
        for uuid, names in self._hypervisor.impossible().items():
            guest = snapshot.guests.get(uuid)
            if guest is not None:
                message = f"the guest reports what cannot be true ({', '.join(names)}): nothing of it is believed"
                yield Problem(source, message, guest.entity, Severity.WARNING, "its balloon driver is broken, or lies")

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """Statistics periods."""
        own = self._own(hypervisor)
        if own is None:
            raise NotSupported(_NOT_OURS)
        return {target: _period_of(own, target.entity) for target in targets}

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set statistics periods."""
        own = self._own(hypervisor)
        if own is None:
            raise NotSupported(_NOT_OURS)
        errors: dict[Target, HypervisorError] = {}
        for change in changes:
            try:
                _set_period(own, change)
            except HypervisorError as error:
                errors[change.target] = error
        return errors

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """What the cycle saw of the guests, and asked of them, is what the watch compares with."""
        if self._watch is not None:
            self._watch.follow(report)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_guest_columns() -> Iterable[GuestColumn]:
        """What guests have of their memory."""
        from mom_guests import COLUMNS

        return COLUMNS

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether libvirt can be reached, and what the guests lack."""
        from mom_plugins_libvirt.connection import Connection
        from mom_plugins_libvirt.doctor import examined, read_only_works, unreachable

        if self._hypervisor is None:
            return []
        try:
            return list(examined(self._hypervisor, readonly=self._settings.readonly, stats_period=self._settings.stats_period))
        except HypervisorError as error:
            watching = Connection(self._connection_settings(readonly=True), self._context.log)
            return list(unreachable(error, read_only_works=not self._settings.readonly and read_only_works(watching)))

    def _own(self, hypervisor: Hypervisor) -> LibvirtHypervisor | None:
        """This plugin's hypervisor, if it is the one in use."""
        return self._hypervisor if hypervisor is self._hypervisor else None


def _period_of(own: LibvirtHypervisor, guest: Entity) -> Value | HypervisorError:
    try:
        return own.stats_period(guest)
    except HypervisorError as error:
        return error


def _set_period(own: LibvirtHypervisor, change: Change) -> None:
    value = change.value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LONGEST_PERIOD_SECONDS:
        raise Refused(f"not a number of whole seconds from 0 to {_LONGEST_PERIOD_SECONDS}")
    own.set_stats_period(change.entity, value)


def _nothing() -> None:
    """Nothing was opened."""
