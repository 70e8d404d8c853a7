"""A valid configuration, and mom's own settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, KeysView, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, Field

from mom_core.config.document import KeyPath, Place
from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.guest_patterns import GuestPatterns
from mom_core.model import Guest, Value
from mom_core.plugins.discovery import LoadedPlugin
from mom_core.plugins.secrets import masked
from mom_core.settings import Duration, GuestSettings, PluginSettings, StrictModel
from mom_core.texts import printable

JsonObject: TypeAlias = "dict[str, JsonValue]"
JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | JsonObject"


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be a path that begins with /")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class CoreSettings(StrictModel):
    """mom's own settings: all top-level keys except `plugins` and `guests`."""

    interval: Annotated[Duration, Field(ge=0.01, le=3600)] = 5.0
    """Time between two cycles."""

    mode: Literal["enforce", "observe"] = "observe"
    """`observe`: decide and report, but change nothing. `enforce`: apply decisions."""

    history: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of earlier samples that policies can use."""

    root: AbsolutePath = Path("/")
    """Folder that contains /proc and /sys."""

    state_directory: AbsolutePath = STATE_DIRECTORY
    """Folder for files that must survive a reboot, such as the ledger."""

    run_directory: AbsolutePath = RUN_DIRECTORY
    """Folder for the lock, the status and sockets. It need not survive a reboot."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged."""

    stop_timeout: Annotated[Duration, Field(ge=0.5, le=600)] = 2.0
    """Time limit for stopping mom, including the restore. `mom restore` undoes any remaining changes."""

    on_stop: Literal["restore", "keep"] = "restore"
    """On SIGTERM, `restore` undoes all changes; `keep` leaves them for the next start of mom. SIGUSR2 always keeps them."""


SECTIONS = ("plugins", "guests")


Model = TypeVar("Model", bound=BaseModel)


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return the setting names as in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def validated(model: type[Model], settings: Mapping[str, object]) -> Model:
    """Validate settings in pydantic's JSON mode. A plugin's validator may raise anything."""
    return model.model_validate_json(json.dumps(settings, default=dict))


def written(settings: BaseModel) -> dict[str, JsonValue]:
    """Return the settings as in the YAML file, with masked secrets."""
    try:
        return settings.model_dump(mode="json", warnings=False)
    except Exception:  # noqa: BLE001  # a plugin's own type may not serialize
        return {name: str(value) for name, value in settings}


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
