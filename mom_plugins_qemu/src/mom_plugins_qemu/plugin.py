"""The qemu plugin: settings, declarations and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from mom_core import Declaration, Finding, HypervisorError, PluginContext, Suggestion, hookimpl
from mom_kvm import LaunchReader, PluginOfGuests
from mom_plugins_qemu.fields import COLUMNS, GUEST_FIELDS, QemuGuestSettings
from mom_plugins_qemu.monitors import check_patterns, find_monitors, trusted_users
from mom_plugins_qemu.proxmox import ProxmoxLaunches

if TYPE_CHECKING:
    from mom_plugins_qemu.hypervisor import QemuHypervisor

_SOCKETS = ("/run/qemu-server/*.qmp", "/run/qemu/*.qmp")
"""Monitors of Proxmox VE, and monitors in the usual folder of other hosts."""


class QemuPlugin(PluginOfGuests["QemuHypervisor"]):
    """Manager of QEMU guests without libvirt: lists them, reads statistics, sets balloons."""

    class Settings(PluginOfGuests.Settings):
        """Guests' monitors and definitions."""

        sockets: Annotated[list[str], Field(min_length=1), AfterValidator(check_patterns)] = Field(default_factory=lambda: list(_SOCKETS))
        """Patterns of the guests' monitor sockets (`-qmp unix:PATH,server=on,wait=off`), as in a shell: `*`, `?`, `[…]`."""
        users: list[str] = Field(default_factory=list)
        """Users who run QEMU here, besides root and mom's own user. mom ignores monitors of other users' processes."""
        definitions: Path | None = Path("/etc/pve/qemu-server")
        """Proxmox VE's folder with this node's guest definitions, for monitors in /run/qemu-server."""

    GuestSettings = QemuGuestSettings

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings

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
        return (*GUEST_FIELDS, *super().mom_declare(), *COLUMNS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {LaunchReader: ProxmoxLaunches()}

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # Late import: commands that only list plugins must be fast.
        from mom_plugins_qemu.hypervisor import QemuHypervisor

        settings = self._settings
        self._hypervisor = QemuHypervisor(self._context, settings.sockets, trusted_users(settings.users), settings.definitions)
        if settings.watch:
            self._watch_by(self._hypervisor)

    @hookimpl
    def mom_teardown(self) -> None:
        self._stop_watching()

    # --- surface -----------------------------------------------------------------------------------------------------------------

    def _examined(self, hypervisor: QemuHypervisor) -> Iterable[Finding]:
        from mom_plugins_qemu.hypervisor import examined

        return examined(hypervisor, stats_period=self._settings.stats_period)


def _exist(root: Path, patterns: Sequence[str]) -> bool:
    try:
        return bool(find_monitors(root, patterns))
    except HypervisorError:  # this user has no access to the folder
        return False
