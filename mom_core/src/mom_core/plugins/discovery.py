"""Which plugins are installed, and the loading of those that the configuration enables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mom_core.errors import PluginError
from mom_core.settings import GuestSettings, PluginSettings

GROUP = "mom.plugins"


@dataclass(frozen=True, slots=True)
class AvailablePlugin:
    """A plugin as its distribution's metadata states it; nothing of it is imported."""

    name: str
    distribution: str
    version: str
    target: str


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """A plugin whose class is imported and of the right shape; not constructed."""

    name: str
    distribution: str
    version: str
    plugin_class: type
    settings_class: type[PluginSettings]
    guest_settings_class: type[GuestSettings] | None


def available_plugins() -> Mapping[str, tuple[AvailablePlugin, ...]]:
    """All installed plugins by name, read afresh from the installed distributions' metadata."""
    raise NotImplementedError


def load_plugins(names: Sequence[str]) -> tuple[dict[str, LoadedPlugin], list[PluginError]]:
    """Import the named plugins, in this order, and collect all errors."""
    raise NotImplementedError
