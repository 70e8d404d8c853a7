"""Reads a configuration from a file or mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from mom_core.config.configuration import SECTIONS, Config, ConfiguredPlugin, CoreSettings, GuestRule, Model, setting_names, validated
from mom_core.config.document import Document, KeyPath, mapping_document, read_document
from mom_core.config.wording import complain, unknown_key
from mom_core.errors import ConfigError, MomError, PluginError
from mom_core.files import DEFAULT_CONFIG
from mom_core.guest_patterns import GuestPattern
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.settings import PluginSettings
from mom_core.texts import printable

_NO_PLUGIN: Final = ("no plugin is enabled", "enable at least one, such as `host: {}`; `mom plugin list` shows what is installed")


def load_config(source: Path | str | Mapping[str, object] | None = None) -> Config:
    """Read a configuration and import the enabled plugins. Raise `ConfigError` with all mistakes.

    :param source: path of the file, or its content as a mapping; None for `/etc/mom/mom.yaml`
    """
    if isinstance(source, Mapping):
        file, document = None, mapping_document(source)
    else:
        path = DEFAULT_CONFIG if source is None else Path(source)
        file, document = str(path), read_document(path)
    causes: list[PluginError] = []
    config = _checked(document, file, causes)
    if config is None or document.problems:
        # Keep a plugin's exception for the traceback.
        raise ConfigError(sorted(set(document.problems))) from (causes[0] if causes else None)
    return config


def read_settings(source: Path | Document, model: type[Model], owner: str = "") -> Model:
    """Return the validated settings in any YAML file or document. Raise `ConfigError` with all mistakes.

    :param owner: program that checks the settings, for errors; the file if empty
    """
    document = source if isinstance(source, Document) else read_document(source)
    value = document.value
    settings: Model | None = None
    if isinstance(value, Mapping):
        settings = _validated(document, (), model, value, owner or document.file)
    elif not document.problems:
        document.complain((), "must be a mapping of settings")
    if settings is None or document.problems:
        raise ConfigError(sorted(set(document.problems)))
    return settings


def _checked(document: Document, file: str | None, causes: list[PluginError]) -> Config | None:
    top = document.value
    if top is None:
        document.complain((), "the configuration is empty", "`mom config init` writes a configuration for this host")
        return None
    if not isinstance(top, Mapping):
        document.complain((), "must be a mapping of settings", "write `plugins:`, and under it the plugins, each as `name: {}`")
        return None
    plugins = _plugins(document, top, causes)
    core = _core(document, top)
    guests = _guests(document, top.get("guests"), plugins, complete=not causes)
    if core is None:
        return None
    return Config(
        file=file, **dict(core), plugins=MappingProxyType(plugins), guests=guests, places=MappingProxyType(document.keys), given=top
    )


def _validated(document: Document, path: KeyPath, model: type[Model], settings: Mapping[str, object], owner: str) -> Model | None:
    made = attempt(lambda: validated(model, settings))
    if isinstance(made.error, ValidationError):
        complain(document, path, settings, model, made.error.errors(include_url=False))
    elif made.error is not None:
        hint = "this is a bug in the plugin"
        document.complain(path, f"{owner} cannot check its settings: {describe(made.error)}", hint)
    return made.value


def _core(document: Document, top: Mapping[str, object]) -> CoreSettings | None:
    own_names = setting_names(CoreSettings)
    names = [*own_names, *SECTIONS]
    unknown = [key for key in top if key not in names]
    installed = available_plugins() if unknown else {}
    for key in unknown:
        message, hint = unknown_key(key, names)
        if key in installed:
            message, hint = "is a plugin, not a setting of mom", "indent it under `plugins:`"
        document.complain((key,), message, hint)
    own = {key: value for key, value in top.items() if key in own_names}
    return _validated(document, (), CoreSettings, own, "mom")


def _plugins(document: Document, top: Mapping[str, object], causes: list[PluginError]) -> dict[str, ConfiguredPlugin]:
    section = top.get("plugins")
    if section is None or section == {}:
        document.complain(("plugins",), *_NO_PLUGIN)
        return {}
    if not isinstance(section, Mapping):
        document.complain(("plugins",), "must be a mapping from plugin names to settings", "write each plugin as `name: {}`")
        return {}
    loaded, errors = load_plugins(list(section))
    for error in errors:
        document.note(document.place(("plugins", error.plugin)), error.message, error.hint)
    causes += errors
    # Check settings for guests even if the plugin's own settings are wrong.
    settings = {name: _plugin_settings(document, section[name], plugin) or PluginSettings() for name, plugin in loaded.items()}
    return {name: ConfiguredPlugin(name, plugin, settings[name]) for name, plugin in loaded.items()}


def _plugin_settings(document: Document, value: object, plugin: LoadedPlugin) -> PluginSettings | None:
    path = ("plugins", plugin.name)
    if value is not None and not isinstance(value, Mapping):
        document.complain(path, "the settings of a plugin must be a mapping", f"write `{printable(plugin.name)}: {{}}` for the defaults")
        return None
    return _validated(document, path, plugin.settings_class, value or {}, _owner(plugin))


def _owner(plugin: LoadedPlugin) -> str:
    return f"plugin {plugin.name!r} of {plugin.distribution}"


def _guests(document: Document, section: object, plugins: Mapping[str, ConfiguredPlugin], *, complete: bool) -> tuple[GuestRule, ...]:
    # Unless `complete`, unknown keys may belong to a plugin that failed to load.
    if section is None:
        return ()
    if not isinstance(section, Mapping):
        hint = 'write each as `"db-*": {…}`, or with a property: `"flavor=m1.*": {…}`'
        document.complain(("guests",), "must be a mapping from guest patterns to settings", hint)
        return ()
    models = {name: plugin.loaded.guest_settings_class for name, plugin in plugins.items() if plugin.loaded.guest_settings_class}
    names = list(dict.fromkeys(key for model in models.values() for key in model.model_fields))
    rules: list[GuestRule] = []
    for pattern, value in section.items():
        path = ("guests", pattern)
        try:
            GuestPattern.of(pattern)
        except MomError as error:
            document.complain(path, error.message, error.hint)
        settings = {} if value is None else value
        if not isinstance(settings, Mapping):
            document.complain(path, "the settings for guests must be a mapping", f"available settings: {', '.join(names)}" if names else "")
            continue
        for key in settings:
            if key not in names and complete:
                message, hint = unknown_key(key, names, "setting for guests in the enabled plugins")
                document.complain((*path, key), message, hint)
        rules.append(GuestRule(pattern, MappingProxyType(dict(settings))))
    for name, model in models.items():
        for rule in rules:
            if own := rule.settings_for(model):
                _validated(document, ("guests", rule.pattern), model, own, _owner(plugins[name].loaded))
    return tuple(rules)
