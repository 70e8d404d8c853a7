"""The libvirt plugin: settings, declarations and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mom_core import Declaration, Duration, Finding, PluginContext, Severity, Suggestion, format_duration, hookimpl
from mom_kvm import Cures, LaunchReader, PlatformProperties, PluginOfGuests
from mom_plugins_libvirt.fields import GUEST_FIELDS
from mom_plugins_libvirt.launches import LibvirtLaunches
from mom_plugins_libvirt.uri import checked_uri

if TYPE_CHECKING:
    import logging

    from mom_plugins_libvirt import Connection, LibvirtHypervisor

_PATIENT_SHARE = 0.45
"""Timeout of one call in commands, such as `mom doctor`, as a fraction of `deadline`."""

_SOCKETS = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")


_SWITCHING = "virt-xml GUEST --edit --memballoon {0}=on, or {0}='on' in <memballoon> (virsh edit)"

_CURES = Cures(
    plugin="libvirt",
    balloon="add <memballoon model='virtio'/> to their devices (virsh edit), then stop and start them",
    statistics="virsh dommemstat GUEST --period {} --live",
    reporting=_SWITCHING.format("freePageReporting"),
    autodeflate=_SWITCHING.format("autodeflate"),
)


class LibvirtPlugin(PluginOfGuests["LibvirtHypervisor"]):
    """Manager of QEMU guests under libvirt: lists them, reads statistics, sets balloons."""

    class Settings(PluginOfGuests.Settings):
        """Connection to libvirt, and timeouts."""

        uri: Annotated[str, AfterValidator(checked_uri)] = "qemu:///system"
        """libvirt's URI. For another host: `qemu+ssh://root@HOST/system` or `qemu+tls://HOST/system`."""
        call_timeout: Annotated[Duration, Field(gt=0, le=60)] = 2.0
        """Timeout of one call to libvirtd. It must be less than half of `deadline`. A guest whose QEMU hangs delays one cycle by two to
        three timeouts."""
        pid_directory: str = "/run/libvirt/qemu"
        """Folder with libvirt's pid files."""

        @model_validator(mode="after")
        def _calls_fit_into_the_deadline(self) -> LibvirtPlugin.Settings:
            if 2 * self.call_timeout >= self.deadline:
                raise ValueError(f"call_timeout must be less than half of deadline (deadline: {format_duration(self.deadline)})")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._launches = LibvirtLaunches()
        self._watching: Connection | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        socket = next((socket for socket in _SOCKETS if (root / socket).exists()), None)
        return None if socket is None else Suggestion(f"libvirt listens on /{socket}", {"uri": "qemu:///system"}, order=21)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*super().mom_declare(), *GUEST_FIELDS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {LaunchReader: self._launches}

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # The first call connects to libvirt.
        # Late import: commands that only list plugins do not need libvirt.
        from mom_plugins_libvirt import LibvirtHypervisor, SamplingSettings
        from mom_plugins_libvirt.qemu_process import pid_of

        root = self._context.root
        find = partial(pid_of, root / self._settings.pid_directory.lstrip("/"), root / "proc")
        seconds = 0.0 if self._context.serves else _PATIENT_SHARE * self._settings.deadline  # a command has no next cycle
        sampling = SamplingSettings(find, PlatformProperties(self._context), on_demand_seconds=seconds)
        connection = self._connection(readonly=False, log=self._context.log)
        hypervisor = LibvirtHypervisor(connection, sampling, self._context)
        hypervisor.wake = self._context.wake
        connection.start()
        self._hypervisor = hypervisor
        if self._settings.watch:
            self._watching = self._connection(readonly=True, log=self._context.log.getChild("watch"))
            self._watch_by(self._watching)

    @hookimpl
    def mom_teardown(self) -> None:
        self._stop_watching()
        for connection in (self._watching, self._hypervisor):
            if connection is not None:
                connection.close()

    def _connection(self, readonly: bool, log: logging.Logger) -> Connection:
        from mom_plugins_libvirt import Connection, ConnectionSettings, binding

        timeout = self._settings.call_timeout
        if not self._context.serves:
            timeout = max(timeout, _PATIENT_SHARE * self._settings.deadline)
        settings = ConnectionSettings(self._settings.uri, readonly, timeout)
        return Connection(settings, log, binding(), blocked_in_start_hook=self._launches.blocked_in_start_hook)

    # --- surface ---------------------------------------------------------------------------------------------------------

    def _examined(self, hypervisor: LibvirtHypervisor) -> Iterable[Finding]:
        guests = hypervisor.guests()
        yield Finding(Severity.OK, "libvirt", f"{hypervisor.uri} answers; {len(guests)} active guests")
        changes = hypervisor.examined_changes()
        yield changes
        acts = changes.severity is Severity.OK
        yield from _CURES.examine(hypervisor, guests, hypervisor.seen(), acts=acts, stats_period=self._settings.stats_period)
