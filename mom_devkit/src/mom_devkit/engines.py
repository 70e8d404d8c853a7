"""Engines for tests, with plugin classes that no distribution provides and files below a folder of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mom_core import Config, GuestSettings, PluginSettings
from mom_core.config import ConfiguredPlugin
from mom_core.config.document import mapping_document
from mom_core.config.loader import settings_in
from mom_core.plugins.discovery import LoadedPlugin


def plugin_settings(said: Mapping[str, object], name: str, model: type[PluginSettings]) -> PluginSettings:
    """A plugin's settings, if this stood in its section of the configuration.

    :raises ConfigError: with all that is wrong, each with the way to it and a hint
    """
    return settings_in(mapping_document(said, f"settings of {name}"), model, f"plugin {name!r}")


def config_of(
    directory: Path,
    plugins: Mapping[str, type],
    settings: Mapping[str, Mapping[str, object]] | None = None,
    *,
    interval: float = 0.05,
    mode: str = "enforce",
    stop_timeout: float = 2.0,
    root: Path = Path("/"),
) -> Config:
    """A configuration of these plugin classes, in this order, whose ledger, lock and status are below `directory`.

    :param plugins: name in YAML to class; its inner `Settings` and `GuestSettings` count as they do for an installed plugin
    :param settings: what YAML would say, by plugin name: checked as YAML is
    :param interval: seconds
    :param root: where /proc and /sys are found
    :raises ConfigError: with all that is wrong in the settings
    """
    configured = {}
    for name, plugin_class in plugins.items():
        settings_class: type[PluginSettings] = getattr(plugin_class, "Settings", PluginSettings)
        guest_class: type[GuestSettings] | None = getattr(plugin_class, "GuestSettings", None)
        loaded = LoadedPlugin(name, f"test-{name}", "0", plugin_class, settings_class, guest_class)
        configured[name] = ConfiguredPlugin(name, loaded, plugin_settings((settings or {}).get(name, {}), name, settings_class))
    return Config(
        interval=interval,
        mode="observe" if mode == "observe" else "enforce",
        root=root,
        state_directory=directory / "state",
        run_directory=directory / "run",
        stop_timeout=stop_timeout,
        plugins=configured,
    )
