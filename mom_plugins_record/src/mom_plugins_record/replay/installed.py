"""The part of a recorded configuration that can be used here: the plugins that are installed, with settings that they know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import MomError, Value, load_config

SOURCES: Final = frozenset({"directory", "file", "shadow"})
"""Settings that say where an evaluator's policies come from. A recording has the texts; what stands in such a place here is not it."""


@dataclass(frozen=True, slots=True)
class InstalledThen:
    """Recorded plugin: its class here, and its settings then, without `SOURCES`."""

    plugin_class: type
    settings: Mapping[str, Value]


def installed_plugins(configuration: Mapping[str, Value]) -> tuple[dict[str, InstalledThen], dict[str, str]]:
    """Return the recorded plugins that are here, in their order; and why the others are not."""
    recorded = configuration.get("plugins")
    result: dict[str, InstalledThen] = {}
    left_out: dict[str, str] = {}
    for name, settings in recorded.items() if isinstance(recorded, Mapping) else ():
        own = {key: value for key, value in settings.items() if key not in SOURCES} if isinstance(settings, Mapping) else {}
        try:
            result[name] = InstalledThen(load_config({"plugins": {name: own}}).plugins[name].loaded.plugin_class, own)
        except MomError as error:
            left_out[name] = str(error)
    return result, left_out


def guest_rules(configuration: Mapping[str, Value], plugins: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """Return the settings of the recorded section `guests` for these plugins: the rest was for others."""
    if not plugins:
        return {}
    models = [plugin.loaded.guest_settings_class for plugin in load_config({"plugins": dict(plugins)}).plugins.values()]
    known = {key for model in models if model is not None for key in model.model_fields}
    section = configuration.get("guests")
    rules: dict[str, Value] = {}
    for pattern, settings in section.items() if isinstance(section, Mapping) else ():
        own = {key: value for key, value in settings.items() if key in known} if isinstance(settings, Mapping) else {}
        if own:
            rules[pattern] = own
    return rules
