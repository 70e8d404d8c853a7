"""The qemu plugin: settings, declarations and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from mom_core import Declaration, Finding, Hypervisor, HypervisorError, PluginContext, Suggestion, Value, hookimpl
from mom_kvm import LaunchReader, PluginOfGuests, late_hook
from mom_plugins_qemu.fields import COLUMNS, GUEST_FIELDS, HOST_FIELDS, LONGEST_STAY
from mom_plugins_qemu.monitors import check_patterns, find_monitors, trusted_users
from mom_plugins_qemu.proxmox import ProxmoxLaunches

if TYPE_CHECKING:
    from mom_plugins_qemu.events import EventMonitors
    from mom_plugins_qemu.hypervisor import QemuHypervisor

_SOCKETS = ("/run/qemu-server/*.qmp", "/run/qemu/*.qmp")
"""Monitors of Proxmox VE, and monitors in the usual folder of other hosts."""


class QemuPlugin(PluginOfGuests["QemuHypervisor"]):
    """Manager of QEMU guests without libvirt: lists them, reads statistics, sets balloons."""

    class Settings(PluginOfGuests.Settings):
        """Guests' monitors and definitions."""

        sockets: Annotated[list[str], Field(min_length=1), AfterValidator(check_patterns)] = Field(default_factory=lambda: list(_SOCKETS))
        """Patterns of the guests' monitor sockets (`-qmp unix:PATH,server=on,wait=off`), as in a shell: `*`, `?`, `[…]`."""
        event_sockets: Annotated[list[str], AfterValidator(check_patterns)] = Field(default_factory=list)
        """Patterns of further monitor sockets, which only mom may use. mom stays connected to them, so that events start a cycle
        immediately."""
        users: list[str] = Field(default_factory=list)
        """Users who run QEMU here, besides root and mom's own user. mom ignores monitors of other users' processes."""
        definitions: Path | None = Path("/etc/pve/qemu-server")
        """Proxmox VE's folder with this node's guest definitions, for monitors in /run/qemu-server."""
        guest_files: Path | None = None
        """Folder with your own definitions of guests. Each guest has a file NAME.yaml with the key `monitor`, and if needed `name`,
        `memory`, `guarantee` and `class`."""
        readonly: bool = False
        """Only observe guests."""

        @model_validator(mode="after")
        def _events_have_monitors_of_their_own(self) -> QemuPlugin.Settings:
            shared = next((pattern for pattern in self.event_sockets if pattern in self.sockets), None)
            if shared is not None:
                raise ValueError(f"{shared} is in both event_sockets and sockets: give guests a second -qmp for event_sockets")
            return self

    _garbled_cure = "check this QEMU process: the guest may have broken out of it; mom leaves this guest alone"

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._events: EventMonitors | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if (root / "etc/pve/qemu-server").is_dir():
            return Suggestion("this is a node of Proxmox VE", {"sockets": [_SOCKETS[0]]}, order=20)
        for pattern in _SOCKETS:
            if _exist(root, (pattern,)):
                return Suggestion(f"QEMU listens on {pattern}", {"sockets": [pattern]}, order=22)
        return None

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*GUEST_FIELDS, *HOST_FIELDS, *super().mom_declare(), *COLUMNS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {LaunchReader: ProxmoxLaunches()}

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # Late import: commands that only list plugins must be fast.
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
            hypervisor.wake = context.wake
            log = context.log.getChild("events")
            self._events = EventMonitors(context.root, settings.event_sockets, hypervisor.heard, hypervisor.resized, log, users)
            self._events.start()
        if settings.watch:
            self._watch_by(hypervisor)

    @hookimpl
    def mom_teardown(self) -> None:
        self._stop_watching()
        if self._events is not None:
            self._events.stop()

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        own = self._own(hypervisor)
        return {} if own is None else {**super().mom_collect_host(hypervisor), LONGEST_STAY: own.longest_stay()}

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_qemu.explanation:WayExplainer")

    mom_status = late_hook("mom_plugins_qemu.explanation:status_parts", "report")

    mom_importers = late_hook("mom_plugins_qemu.proxmox_import:importers")

    def _examined(self, hypervisor: QemuHypervisor) -> Iterable[Finding]:
        from mom_plugins_qemu.doctor import examined

        return examined(hypervisor, readonly=self._settings.readonly, stats_period=self._settings.stats_period)


def _exist(root: Path, patterns: Sequence[str]) -> bool:
    try:
        return bool(find_monitors(root, patterns))
    except HypervisorError:  # this user has no access to the folder
        return False
