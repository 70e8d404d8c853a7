"""A configuration that was read and found right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, KeysView, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from mom_core.config.document import KeyPath, Place
from mom_core.config.schema import CoreSettings, validated, written
from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.guest_patterns import GuestPatterns
from mom_core.model import Guest, Value, printable
from mom_core.plugins.bounded import describe
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.plugins.secrets import masked
from mom_core.settings import GuestSettings, PluginSettings

LOG = logging.getLogger("mom.config")


@dataclass(frozen=True, slots=True)
class ConfiguredPlugin:
    """A plugin that the configuration enables: loaded, with its settings; not constructed."""

    name: str
    loaded: LoadedPlugin
    settings: PluginSettings


@dataclass(frozen=True, slots=True)
class GuestRule:
    """One entry of the section `guests`: a pattern as of `GuestPattern`, and what it says, as it stands in the file."""

    pattern: str
    settings: Mapping[str, object]

    def said_to(self, model: type[BaseModel]) -> dict[str, object]:
        """The part of it that is for a plugin with these settings."""
        return {key: value for key, value in self.settings.items() if key in model.model_fields}


@dataclass(frozen=True, slots=True)
class Config:
    """All that the operator decided. Made by `load_config`; a program may also make one itself.

    `interval` and `stop_timeout` are in seconds, `history` counts samples, `plugins` is in the order of precedence. `file` is None
    when the configuration came from a program. `places` has the place of each key that is written in the file, by the way to it,
    `given` all that is written there, with its secrets.
    """

    file: str | None = None
    interval: float = 5.0
    mode: Literal["enforce", "observe"] = "observe"
    history: int = 10
    root: Path = Path("/")
    state_directory: Path = STATE_DIRECTORY
    run_directory: Path = RUN_DIRECTORY
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    stop_timeout: float = 2.0
    on_stop: Literal["restore", "keep"] = "restore"
    plugins: Mapping[str, ConfiguredPlugin] = field(default_factory=dict)
    guests: tuple[GuestRule, ...] = ()
    places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False, compare=False)
    given: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    def having(self, hook: str) -> KeysView[str]:
        """The plugins whose classes have a hook, in the order of precedence."""
        return {name: plugin for name, plugin in self.plugins.items() if hasattr(plugin.loaded.plugin_class, hook)}.keys()

    def with_only(self, names: Collection[str]) -> Config:
        """The same, with none but these of its plugins."""
        return replace(self, plugins={name: plugin for name, plugin in self.plugins.items() if name in names})

    def guest_settings(self, plugin: str) -> Callable[[Guest], GuestSettings]:
        """A function that gives what the section `guests` says to this plugin about a guest.

        All patterns that match the guest count, in the order of the file; a later one overrides single settings of an
        earlier one. The function remembers what it found for a guest, may be called from several threads, and never raises.
        """
        configured = self.plugins.get(plugin)
        model = configured.loaded.guest_settings_class if configured else None
        if model is None:
            nothing = GuestSettings()
            return lambda guest: nothing
        return _lookup(model, self.guests)

    def in_force(self) -> dict[str, Value]:
        """All settings as they would be written in YAML, defaults included, secrets masked.

        `load_config` reads the same configuration from it, if it holds no secrets; from `given`, it always does.
        """
        core = CoreSettings.model_construct(**{name: getattr(self, name) for name in CoreSettings.model_fields})
        found: dict[str, Value] = dict(written(core))
        found["plugins"] = {plugin.name: _shown(plugin.settings) for plugin in self.plugins.values()}
        guests: dict[str, dict[str, Value]] = {}
        for rule in self.guests:
            for plugin in self.plugins.values():
                model = plugin.loaded.guest_settings_class
                if model is not None and (own := rule.said_to(model)):
                    dumped = _shown(validated(model, own))
                    guests.setdefault(rule.pattern, {}).update({name: dumped[name] for name in own})
        found["guests"] = guests
        return found


def _shown(settings: BaseModel) -> dict[str, Value]:
    """Settings as they are written in YAML, without secrets."""
    return {name: masked(value, name) for name, value in written(settings).items()}


def _lookup(model: type[GuestSettings], rules: tuple[GuestRule, ...]) -> Callable[[Guest], GuestSettings]:
    said = [(rule, own) for rule in rules if (own := rule.said_to(model))]
    patterns = GuestPatterns([rule.pattern for rule, _ in said])
    default = model()

    @lru_cache(maxsize=4096)
    def merged(matching: tuple[int, ...]) -> GuestSettings:
        """Guests that the same patterns match share their settings."""
        settings: dict[str, object] = {}
        for number in matching:
            settings.update(said[number][1])
        try:
            return validated(model, settings)
        except Exception as error:  # noqa: BLE001  # validators of the plugin may raise anything, and one guest must not cost the others
            # Each pattern alone was found right when the file was read; together they break a rule of the plugin.
            last, alone = said[matching[-1]]
            together = ", ".join(printable(said[number][0].pattern) for number in matching)
            reason = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else describe(error)
            LOG.warning("the guest patterns %s contradict each other (%s): only %s is used", together, reason, printable(last.pattern))
            return validated(model, alone)

    def settings_of(guest: Guest) -> GuestSettings:
        matching = patterns.matching(guest)
        return merged(matching) if matching else default

    return settings_of
