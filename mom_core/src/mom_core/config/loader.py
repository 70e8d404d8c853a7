"""From a file or mapping to a configuration, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from mom_core.config.configuration import Config, ConfiguredPlugin, GuestRule
from mom_core.config.document import Document, KeyPath, mapping_document, read_document
from mom_core.config.schema import SECTIONS, CoreSettings, Model, setting_names, validated
from mom_core.config.wording import complain, unknown_key
from mom_core.errors import ConfigError, MomError, PluginError
from mom_core.files import DEFAULT_CONFIG
from mom_core.guest_patterns import GuestPattern
from mom_core.model import printable
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins, pip_install
from mom_core.settings import PluginSettings

CHECK_SECONDS: Final = 10.0
"""How long a plugin may check all of its settings: as long as it may be constructed."""

_NO_PLUGIN: Final = ("no plugin is enabled", "name at least one, such as `host: {}`; `mom plugin list` shows what is installed")


def load_config(source: Path | str | Mapping[str, object] | None = None) -> Config:
    """Read a configuration, and load the plugins that it enables (without constructing them).

    :param source: a file; or, for embedding, what the file would hold, as a mapping; None is `/etc/mom/mom.yaml`
    :raises ConfigError: with all that is wrong, each with its place in the file and a hint
    """
    if isinstance(source, Mapping):
        file, document = None, mapping_document(source)
    else:
        path = DEFAULT_CONFIG if source is None else Path(source)
        file, document = str(path), read_document(path)
    causes: list[PluginError] = []
    config = _checked(document, file, causes)
    if config is None or document.problems:
        # The first plugin's own exception stays attached, for the traceback.
        raise ConfigError(sorted(set(document.problems))) from (causes[0] if causes else None)
    return config


def read_settings(source: Path, model: type[Model]) -> Model:
    """Any other YAML file, as a pydantic model says: read within the same limits and with the same care as the configuration.

    :raises ConfigError: with all that is wrong, each with its place in the file and a hint
    """
    return settings_in(read_document(source), model, str(source))


def settings_in(document: Document, model: type[Model], owner: str) -> Model:
    """The settings in a document, as a pydantic model has them; `owner` is whose settings these are.

    :raises ConfigError: with all that is wrong, each with its place in the document and a hint
    """
    value = document.value
    settings: Model | None = None
    if isinstance(value, Mapping):
        settings = _validated(document, (), model, value, owner)
    elif not document.problems:
        document.complain((), "must be a mapping of settings")
    if settings is None or document.problems:
        raise ConfigError(sorted(set(document.problems)))
    return settings


def _checked(document: Document, file: str | None, causes: list[PluginError]) -> Config | None:
    top = document.value
    if top is None:
        document.complain((), "the configuration is empty", "`mom config init` writes one for this host")
        return None
    if not isinstance(top, Mapping):
        document.complain((), "must be a mapping of settings", "write `plugins:`, and below it the plugins, each as `name: {}`")
        return None
    plugins = _plugins(document, top, causes)
    core = _core(document, top, plugins)
    guests = _guests(document, top.get("guests"), plugins, complete=not causes)
    if core is None:
        return None
    return Config(
        file=file, **dict(core), plugins=MappingProxyType(plugins), guests=guests, places=MappingProxyType(document.keys), given=top
    )


def _validated(document: Document, path: KeyPath, model: type[Model], settings: Mapping[str, object], owner: str) -> Model | None:
    """The settings as the model has them; None when there are problems, which are noted."""
    try:
        return validated(model, settings)
    except ValidationError as error:
        complain(document, path, settings, model, error.errors(include_url=False))
    except Exception as error:  # noqa: BLE001  # validators may raise anything, and the file's other problems are to be told
        _cannot_check(document, path, owner, error)
    return None


def _cannot_check(document: Document, path: KeyPath, owner: str, error: BaseException) -> None:
    document.complain(path, f"{owner} cannot check its settings: {describe(error)}", "this is a mistake in the plugin", at_key=True)


def _validated_by_plugin(
    document: Document,
    model: type[Model],
    given: Sequence[tuple[KeyPath, Mapping[str, object]]],
    owner: str,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Sequence[Model | BaseException]:
    """What a plugin's model makes of each of these settings. Its validators are the plugin's: they may raise `SystemExit`, or not end."""
    found: list[Model | BaseException] = []

    def check() -> None:
        for _, settings in given:
            try:
                found.append(validated(model, settings))
            except BaseException as error:  # noqa: BLE001  # containment: it becomes a problem of the file
                found.append(error)

    late = attempt(check, seconds=CHECK_SECONDS, what=f"the check of the settings of {owner}").error
    made = found if late is None else [*found[: len(given) - 1], late]  # one that is left behind may go on
    for (path, settings), one in zip(given, made, strict=False):
        if isinstance(one, ValidationError):
            complain(document, path, settings, model, one.errors(include_url=False), elsewhere)
        elif isinstance(one, BaseException):
            _cannot_check(document, path, owner, one)
    return made


def _core(document: Document, top: Mapping[str, object], plugins: Mapping[str, ConfiguredPlugin]) -> CoreSettings | None:
    own_names = setting_names(CoreSettings)
    known = [*own_names, *SECTIONS]
    unknown = [key for key in top if key not in known]
    installed = available_plugins() if unknown else {}
    hints = _hints_of_owners({name: plugin.loaded for name, plugin in plugins.items()}) if unknown else {}
    for key in unknown:
        message, hint = unknown_key(key, known)
        hint = hints.get(key, hint)
        if key in installed:
            message, hint = "is a plugin, not a setting of mom", "indent it, below `plugins:`"
        elif key == "plugin-path":
            message = "plugins are found among what is installed, and not in folders"
            hint = f"`{pip_install()} -e FOLDER` installs one that is being worked on"
        document.complain((key,), message, hint, at_key=True)
    own = {key: value for key, value in top.items() if key in own_names}
    return _validated(document, (), CoreSettings, own, "mom")


def _plugins(document: Document, top: Mapping[str, object], causes: list[PluginError]) -> dict[str, ConfiguredPlugin]:
    section = top.get("plugins")
    if section is None or section == {}:
        document.complain(("plugins",), *_NO_PLUGIN, at_key=True)
        return {}
    if not isinstance(section, Mapping):
        document.complain(("plugins",), "must be a mapping of plugin names to settings", "write each plugin as `name: {}`")
        return {}
    loaded, errors = load_plugins(list(section))
    hints = _hints_of_owners(loaded)
    for error in errors:
        said = error.message, error.hint
        if error.plugin in hints and error.plugin not in available_plugins():
            said = f"{printable(error.plugin)} is a setting, and no plugin", hints[error.plugin]
        document.note(document.place(("plugins", error.plugin), at_key=True), *said)
    causes += errors
    # Where its settings are wrong, what it says about guests is known: they are checked all the same.
    settings = {name: _plugin_settings(document, section[name], plugin, hints) or PluginSettings() for name, plugin in loaded.items()}
    return {name: ConfiguredPlugin(name, plugin, settings[name]) for name, plugin in loaded.items()}


def _hints_of_owners(loaded: Mapping[str, LoadedPlugin]) -> dict[str, str]:
    """Whose each setting is, for one that stands below a plugin that has no such setting."""
    owners: dict[str, list[str]] = {}
    for name, plugin in loaded.items():
        for setting in setting_names(plugin.settings_class):
            owners.setdefault(setting, []).append(printable(name))
    of_guests = {name for plugin in loaded.values() if plugin.guest_settings_class for name in setting_names(plugin.guest_settings_class)}
    return {
        **{name: f"it is a setting of mom, outside `plugins:`: write `{name}:` at the left edge" for name in setting_names(CoreSettings)},
        **{name: f'it is said of guests: below `guests:`, as in `"db-*": {{{name}: …}}`' for name in of_guests},
        **{name: f"it is a setting of {', '.join(plugins)}: write it there" for name, plugins in owners.items()},
    }


def _plugin_settings(document: Document, value: object, plugin: LoadedPlugin, hints: Mapping[str, str]) -> PluginSettings | None:
    path = ("plugins", plugin.name)
    if value is not None and not isinstance(value, Mapping):
        document.complain(path, "the settings of a plugin must be a mapping", f"write `{printable(plugin.name)}: {{}}` for the defaults")
        return None
    (made,) = _validated_by_plugin(document, plugin.settings_class, [(path, value or {})], _owner(plugin), hints)
    return made if isinstance(made, PluginSettings) else None


def _owner(plugin: LoadedPlugin) -> str:
    return f"plugin {plugin.name!r} of {plugin.distribution}"


def _guests(document: Document, section: object, plugins: Mapping[str, ConfiguredPlugin], *, complete: bool) -> tuple[GuestRule, ...]:
    """The rules for guests.

    :param complete: all enabled plugins are loaded; otherwise an unknown key may be one of a plugin that is not
    """
    if section is None:
        return ()
    if not isinstance(section, Mapping):
        hint = 'write each as `"db-*": {…}`, or by a property `"flavor=m1.*": {…}`'
        document.complain(("guests",), "must be a mapping of patterns of guests to settings", hint)
        return ()
    models = {name: plugin.loaded.guest_settings_class for name, plugin in plugins.items() if plugin.loaded.guest_settings_class}
    known = list(dict.fromkeys(key for model in models.values() for key in model.model_fields))
    rules: list[GuestRule] = []
    for pattern, value in section.items():
        path = ("guests", pattern)
        try:
            GuestPattern.of(pattern)
        except MomError as error:
            document.complain(path, error.message, error.hint, at_key=True)
        settings = {} if value is None else value
        if not isinstance(settings, Mapping):
            document.complain(path, "what is said about guests must be a mapping", f"there are: {', '.join(known)}" if known else "")
            continue
        for key in settings:
            if key not in known and complete:
                message, hint = unknown_key(key, known, "setting for guests in the enabled plugins")
                document.complain((*path, key), message, hint, at_key=True)
        rules.append(GuestRule(pattern, MappingProxyType(dict(settings))))
    for name, model in models.items():
        if given := [(("guests", rule.pattern), own) for rule in rules if (own := rule.said_to(model))]:
            _validated_by_plugin(document, model, given, _owner(plugins[name].loaded))
    return tuple(rules)
