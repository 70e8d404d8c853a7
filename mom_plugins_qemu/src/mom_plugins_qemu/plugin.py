"""The plugin: settings, declarations, and the hooks that hand work to the hypervisor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mom_core import Declaration, Finding, Hypervisor, HypervisorError, PluginContext, Suggestion, Value, hookimpl
from mom_kvm import LaunchReader, PluginOfGuests, late_hook
from mom_plugins_qemu.fields import COLUMNS, GUEST_FIELDS, HOST_FIELDS, LONGEST_STAY
from mom_plugins_qemu.monitors import checked, monitors, trusted_users
from mom_plugins_qemu.proxmox import ProxmoxLaunches

if TYPE_CHECKING:
    from mom_plugins_qemu.events import EventMonitors
    from mom_plugins_qemu.hypervisor import QemuHypervisor

_SOCKETS = ("/run/qemu-server/*.qmp", "/run/qemu/*.qmp")
"""Proxmox VE's monitors, and where hosts that start QEMU by themselves keep theirs, as a rule."""


class QemuPlugin(PluginOfGuests["QemuHypervisor"]):
    """Guests of QEMU without libvirt: who they are, what they use, their balloons."""

    class Settings(PluginOfGuests.Settings):
        """Where the guests' monitors are."""

        sockets: Annotated[list[str], Field(min_length=1), AfterValidator(checked)] = Field(default_factory=lambda: list(_SOCKETS))
        """Patterns of the sockets of guests' monitors (`-qmp unix:PATH,server=on,wait=off`), as a shell has them: `*`, `?`, `[…]`."""
        event_sockets: Annotated[list[str], AfterValidator(checked)] = Field(default_factory=list)
        """Patterns of sockets of monitors that are mom's alone, beside those of `sockets`: kept open, so that what happens wakes mom."""
        users: list[str] = Field(default_factory=list)
        """Users who run QEMU here, beside root and the one that mom runs as: monitors of any other user's processes are not believed."""
        definitions: Path | None = Path("/etc/pve/qemu-server")
        """Proxmox VE's folder with the definitions of this node's guests, for those whose monitors are in /run/qemu-server."""
        guest_files: Path | None = None
        """A folder with a file NAME.yaml for each guest that the operator defines: `monitor`; `name`, `guarantee`, `class` if need be."""
        readonly: bool = False
        """Ask guests, and change nothing."""

        @model_validator(mode="after")
        def _events_have_monitors_of_their_own(self) -> QemuPlugin.Settings:
            both = next((pattern for pattern in self.event_sockets if pattern in self.sockets), None)
            if both is not None:
                raise ValueError(f"event_sockets has {both}, which is in sockets, too: give guests a second -qmp, which mom alone holds")
            return self

    _garbled_cure = "see what listens there, and what runs: the guest may have broken out of its QEMU; mom leaves it alone"

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._events: EventMonitors | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a node of Proxmox VE, and where there are monitors of QEMU."""
        if (root / "etc/pve/qemu-server").is_dir():
            return Suggestion("this is a node of Proxmox VE", {"sockets": [_SOCKETS[0]]}, order=20)
        for pattern in _SOCKETS:
            if _found(root, (pattern,)):
                return Suggestion(f"QEMU listens on {pattern}", {"sockets": [pattern]}, order=22)
        return None

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Declare the fields of each guest and of all together, the statistics period, and columns of `mom guests`."""
        return (*GUEST_FIELDS, *HOST_FIELDS, *super().mom_declare(), *COLUMNS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """What guests need that Proxmox VE is about to start."""
        return {LaunchReader: ProxmoxLaunches()}

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        """Make ready. Nothing is visited yet: guests may be started later."""
        # Loaded here, as commands that only list plugins are to be fast.
        from mom_plugins_qemu.events import EventMonitors
        from mom_plugins_qemu.hypervisor import QemuHypervisor
        from mom_plugins_qemu.sampler import QemuHypervisorSettings

        settings, context = self._settings, self._context
        users = trusted_users(settings.users)
        sampling = QemuHypervisorSettings(
            settings.sockets, settings.stale_after, settings.readonly, users, settings.definitions, settings.guest_files
        )
        self._hypervisor = hypervisor = QemuHypervisor(sampling, context)
        if settings.event_sockets:
            hypervisor.tell = context.wake
            log = context.log.getChild("events")
            self._events = EventMonitors(context.root, settings.event_sockets, hypervisor.heard, hypervisor.resized, log, users)
            self._events.start()
        if settings.watch:
            self._watch_by(hypervisor)

    @hookimpl
    def mom_teardown(self) -> None:
        """Watch no longer."""
        self._stop_watching()
        if self._events is not None:
            self._events.stop()

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        """How many guests cannot be relied on, and how long another client of a monitor had to wait for mom."""
        own = self._own(hypervisor)
        return {} if own is None else {**super().mom_collect_host(hypervisor), LONGEST_STAY: own.longest_stay()}

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_qemu.explanation:WayExplainer")

    mom_status = late_hook("mom_plugins_qemu.explanation:status_parts", "report")

    mom_importers = late_hook("mom_plugins_qemu.proxmox_import:importers")

    def _examined(self, hypervisor: QemuHypervisor) -> Iterable[Finding]:
        from mom_plugins_qemu.doctor import examined

        return examined(hypervisor, readonly=self._settings.readonly, stats_period=self._settings.stats_period)


def _found(root: Path, patterns: Sequence[str]) -> bool:
    try:
        return bool(monitors(root, patterns))
    except HypervisorError:  # there may be some, which this user may not see
        return False
