"""A valid configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, KeysView, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from mom_core.config.document import KeyPath, Place
from mom_core.config.schema import CoreSettings, validated, written
from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.guest_patterns import GuestPatterns
from mom_core.model import Guest, Value
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.plugins.secrets import masked
from mom_core.settings import GuestSettings, PluginSettings
from mom_core.texts import printable

LOG = logging.getLogger("mom.config")


@dataclass(frozen=True, slots=True)
class ConfiguredPlugin:
    """Enabled plugin, imported but not constructed."""

    name: str
    loaded: LoadedPlugin
    settings: PluginSettings


@dataclass(frozen=True, slots=True)
class GuestRule:
    """Guest pattern with its settings."""

    pattern: str
    settings: Mapping[str, object]

    def settings_for(self, model: type[BaseModel]) -> dict[str, object]:
        """Return the settings that are fields of `model`."""
        return {key: value for key, value in self.settings.items() if key in model.model_fields}


@dataclass(frozen=True, slots=True)
class Config:
    """Valid configuration; times are in seconds.

    :param file: path; None if a program passed the configuration
    :param given: content of the file, including secrets
    """

    file: str | None = None
    interval: float = 5.0
    mode: Literal["enforce", "observe"] = "observe"
    history: int = 10
    root: Path = Path("/")
    state_directory: Path = STATE_DIRECTORY
    run_directory: Path = RUN_DIRECTORY
    log_level: str = "info"
    stop_timeout: float = 2.0
    on_stop: Literal["restore", "keep"] = "restore"
    plugins: Mapping[str, ConfiguredPlugin] = field(default_factory=dict)
    guests: tuple[GuestRule, ...] = ()
    places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False, compare=False)
    given: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    def having(self, hook: str) -> KeysView[str]:
        """Return the names of the plugins that implement this hook, in file order."""
        return {name: plugin for name, plugin in self.plugins.items() if hasattr(plugin.loaded.plugin_class, hook)}.keys()

    def with_only(self, names: Collection[str]) -> Config:
        """Return a copy with only these plugins."""
        return replace(self, plugins={name: plugin for name, plugin in self.plugins.items() if name in names})

    def guest_settings(self, plugin: str) -> Callable[[Guest], GuestSettings]:
        """Return a function that looks up a guest's settings for this plugin. It is thread-safe and never raises."""
        configured = self.plugins.get(plugin)
        model = configured.loaded.guest_settings_class if configured else None
        if model is None:
            nothing = GuestSettings()
            return lambda guest: nothing
        return _lookup(model, self.guests)

    def in_force(self) -> dict[str, Value]:
        """Return all settings as in the YAML file, including defaults. Mask secrets."""
        core = CoreSettings.model_construct(**{name: getattr(self, name) for name in CoreSettings.model_fields})
        settings: dict[str, Value] = dict(written(core))
        settings["plugins"] = {plugin.name: masked(written(plugin.settings)) for plugin in self.plugins.values()}
        settings["guests"] = {rule.pattern: masked({**rule.settings}) for rule in self.guests}
        return settings


def _lookup(model: type[GuestSettings], rules: tuple[GuestRule, ...]) -> Callable[[Guest], GuestSettings]:
    matched_rules = [(rule, own) for rule in rules if (own := rule.settings_for(model))]
    patterns = GuestPatterns([rule.pattern for rule, _ in matched_rules])
    default = model()

    @lru_cache(maxsize=4096)
    def merged(matching: tuple[int, ...]) -> GuestSettings:
        settings: dict[str, object] = {}
        for number in matching:
            settings.update(matched_rules[number][1])
        try:
            return validated(model, settings)
        except Exception:  # noqa: BLE001  # a plugin's validators may raise anything
            # Each pattern alone is valid; together they violate a rule of the plugin.
            together = ", ".join(printable(matched_rules[number][0].pattern) for number in matching)
            LOG.warning("the guest patterns %s contradict each other: only the last is used", together)
            return validated(model, matched_rules[matching[-1]][1])

    def settings_of(guest: Guest) -> GuestSettings:
        matching = patterns.matching(guest)
        return merged(matching) if matching else default

    return settings_of
