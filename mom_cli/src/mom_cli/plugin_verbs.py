"""`mom plugin`: which plugins are installed, and what one of them is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mom_core import ConfigError, PluginError, VerbGroup, brief, config_argument, config_option, json_option, print_prose
from mom_core.files import DEFAULT_CONFIG
from mom_core.plugins.discovery import AvailablePlugin, absent, available_plugins, how_to_install, load_plugins, on_core

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mom_core import ControlSpec, FieldSpec
    from mom_core.plugins.discovery import LoadedPlugin
    from mom_toolkit import PluginModel


@click.group("plugin", cls=VerbGroup)
def plugin_command() -> None:
    """List the installed plugins, and look at one."""


# --- list ----------------------------------------------------------------------------------------------------------------------


@plugin_command.command("list")
@config_argument
@click.option("--available", "only_available", is_flag=True, help="Only those that are installed and not enabled, with what they are for.")
@json_option
def list_command(config_path: str | None, only_available: bool, as_json: bool) -> None:
    """List the installed plugins, and which of them the configuration enables; and how those of the running mom are.

    Imports none of them unless mom runs.
    """
    path = Path(config_path or DEFAULT_CONFIG)
    enabled, trouble = _enabled(path)
    available = available_plugins()
    if only_available:
        available = {name: plugins for name, plugins in available.items() if name not in (enabled or ())}
        enabled = [name for name in enabled or () if name in available] if enabled is not None else None
    states = {} if only_available or not enabled else _states(config_path)
    if as_json:
        click.echo(json.dumps([{**row, "state": states.get(str(row["name"]))} for row in _as_json(available, enabled)], indent=2))
    elif only_available:
        _show_available(available)
    else:
        _show_list(available, enabled, states)
    if trouble and (config_path is not None or not as_json):
        print_prose(f"mom: which plugins are enabled is not known: {trouble}", 2, err=True)


def _enabled(path: Path) -> tuple[Sequence[str] | None, str]:
    """The plugins that a configuration names, in its order; None, and why, when it cannot be read."""
    from mom_core.config.document import read_document

    try:
        document = read_document(path)
    except ConfigError as error:
        return None, str(error.problems[0])
    top = document.value if isinstance(document.value, Mapping) else {}
    section = top.get("plugins")
    if not isinstance(section, Mapping):
        return None, f"{path} has no section `plugins`"
    return list(section), ""


def _as_json(available: Mapping[str, Sequence[AvailablePlugin]], enabled: Sequence[str] | None) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, plugins in available.items():
        on = None if enabled is None else name in enabled
        rows += [
            {
                "name": name,
                "distribution": p.distribution,
                "version": p.version,
                "target": p.target,
                "installed": True,
                "summary": _distribution(p.distribution)[0],
                "enabled": on,
            }
            for p in plugins
        ]
    for name in enabled or ():
        if name not in available:
            rows.append(
                {
                    "name": name,
                    "distribution": None,
                    "version": None,
                    "target": None,
                    "installed": False,
                    "summary": "",
                    "enabled": True,
                }
            )
    return rows


def _show_list(available: Mapping[str, Sequence[AvailablePlugin]], enabled: Sequence[str] | None, states: Mapping[str, str]) -> None:
    from mom_cli.tables import TableColumn, print_table
    from mom_core import printable

    rows = []
    for name, plugins in available.items():
        state = "?" if enabled is None else f"yes, number {enabled.index(name) + 1}" if name in enabled else "no"
        if len(plugins) > 1:
            state += ", but provided twice"
        rows += [
            (
                printable(name),
                plugin.distribution,
                plugin.version,
                state,
                states.get(name, ""),
            )
            for plugin in plugins
        ]
    for name in enabled or ():
        if name not in available:
            rows.append((printable(name), "not installed", "", "yes", ""))
    if rows and states:
        print_table(("plugin", TableColumn("distribution", 2), TableColumn("version", 1), "enabled", "running"), rows)
    elif rows:
        print_table(("plugin", TableColumn("distribution", 2), TableColumn("version", 1), "enabled"), [row[:-1] for row in rows])
    else:
        print_prose("No plugins are installed.", 2)
    if missing := absent("kvm"):
        print_prose(f"To have all of the usual set on a KVM host: {how_to_install(*missing)}", 2)


def _show_available(available: Mapping[str, Sequence[AvailablePlugin]]) -> None:
    from mom_cli.tables import TableColumn, print_table
    from mom_core import printable

    rows = [
        (printable(name), f"{p.distribution} {p.version}", _distribution(p.distribution)[0])
        for name, plugins in available.items()
        for p in plugins
    ]
    if rows:
        print_table(("plugin", "distribution", TableColumn("what it is", prose=True)), rows)
        print_prose("To enable one, add `NAME: {}` below `plugins:`; `mom plugin info NAME` shows what it can be told.", 2)
    else:
        print_prose("All installed plugins are enabled.", 2)
    if missing := absent():
        print_prose(f"To have all of mom's own: {how_to_install(*missing)}", 2)


# --- info ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Declared:
    """What a plugin declares, or why that is not known."""

    fields: Sequence[FieldSpec] = ()
    controls: Sequence[ControlSpec] = ()
    policies: Sequence[str] = ()
    unknown: str = ""


@plugin_command.command("info")
@click.argument("name")
@config_option
@json_option
def info_command(name: str, config_path: str | None, as_json: bool) -> None:
    """Show one installed plugin: where it comes from, its settings, the hooks that it implements, what it declares, and how it fares.

    How it fares is what the mom says that runs with this configuration, if one runs.
    """
    loaded, errors = load_plugins([name])
    if errors:
        raise errors[0]
    plugin = loaded[name]
    declared = _declared(plugin)
    running = _running(name, config_path)
    settings = _settings_of(plugin.settings_class)
    guest_settings = _settings_of(plugin.guest_settings_class) if plugin.guest_settings_class else []
    summary, page = _distribution(plugin.distribution)
    if as_json:
        content = {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "folder": str(_place(plugin)),
            "running": running,
            "class": f"{plugin.plugin_class.__module__}:{plugin.plugin_class.__qualname__}",
            "requires": _core_of(plugin.distribution),
            "summary": summary,
            "home_page": page,
            "documentation": _documentation(plugin),
            "settings": settings,
            "guest_settings": guest_settings,
            "hooks": _hooks(plugin),
            "fields": [
                {"name": f.name, "scope": f.scope, "unit": f.unit, "description": f.description, "source": f.source}
                for f in declared.fields
            ],
            "controls": [
                {
                    "name": c.name,
                    "scope": c.scope,
                    "unit": c.unit,
                    "description": c.description,
                    "minimum": c.minimum,
                    "maximum": c.maximum,
                    "choices": list(c.choices),
                }
                for c in declared.controls
            ],
            "policies": list(declared.policies),
            "not_known": declared.unknown or None,
        }
        click.echo(json.dumps(content, indent=2))
        return
    print_prose(f"{plugin.name}: {summary}\n{plugin.distribution} {plugin.version}" + (f", {page}" if page else ""), 2)
    print_prose(f"from {_place(plugin)}, for {_core_of(plugin.distribution) or 'any mom-core'}", 2)
    print_prose(f"hooks: {', '.join(_hooks(plugin)) or 'none'}", 2)
    if declared.policies:
        print_prose(f"default policies: {', '.join(declared.policies)}", 2)
    if _documentation(plugin):
        click.echo()
        for paragraph in _documentation(plugin).split("\n\n"):
            print_prose(paragraph if "\n " in paragraph or "\n-" in paragraph else paragraph.replace("\n", " "))
    _show_settings(f"settings, below plugins: {plugin.name}:", settings)
    _show_settings("settings for guests, below guests: PATTERN:", guest_settings)
    _show_declared(declared)
    _show_running(running)


def _place(plugin: LoadedPlugin) -> Path:
    """The folder or file from which its code was imported."""
    import sys

    module = sys.modules.get(plugin.plugin_class.__module__.partition(".")[0])
    file = Path(getattr(module, "__file__", None) or "")
    return file.parent if file.name == "__init__.py" else file


def _running(name: str, config_path: str | None) -> PluginModel | None:
    """What the running mom says of a plugin; None when none runs, or it does not use it, or none can be asked."""
    return next((plugin for plugin in _running_plugins(config_path) if plugin["name"] == name), None)


def _running_plugins(config_path: str | None) -> Sequence[PluginModel]:
    """What the running mom says of its plugins: through what they serve; from its status file where the configuration cannot be loaded."""
    from mom_cli.sources import told
    from mom_cli.status_file import read_status
    from mom_core import MomError, load_config
    from mom_core.config.document import read_document
    from mom_core.config.schema import CoreSettings
    from mom_core.lock import holder

    try:
        value = read_document(Path(config_path or DEFAULT_CONFIG)).value
        named = value.get("run_directory") if isinstance(value, Mapping) else None
        directory = Path(named) if isinstance(named, str) else CoreSettings().run_directory
        if not holder(directory):
            return ()  # and nothing is imported
        try:
            found = told(load_config(config_path))
            status = found.status if found else None
        except ConfigError:
            status = read_status(directory)
    except (MomError, OSError):
        return ()
    return status.content["plugins"] if status else ()


def _states(config_path: str | None) -> dict[str, str]:
    """How the running mom's plugins are, by name."""
    return {
        str(plugin["name"]): str(plugin["state"])
        + (f", {plugin['failures']} of {plugin['calls']} calls failed" if plugin["failures"] else "")
        for plugin in _running_plugins(config_path)
    }


def _show_running(running: PluginModel | None) -> None:
    if running is None:
        return
    last = f", last: {running['last_error']}" if running["last_error"] else ""
    print_prose(f"\nrunning: {running['state']}, {running['calls']} calls, {running['failures']} failed{last}", 2)
    durations = running["durations_seconds"]
    if durations:
        times = ", ".join(f"{hook} {seconds * 1e3:.1f} ms" for hook, seconds in durations.items())
        print_prose(f"in the last cycle: {times}", 2)


def _declared(plugin: LoadedPlugin) -> _Declared:
    """What the plugin declares with its default settings; constructing a plugin does nothing yet."""
    from mom_cli.declared import declared_by
    from mom_core import Config, PluginContext, attempt
    from mom_core.config import ConfiguredPlugin

    required = [name for name, field in plugin.settings_class.model_fields.items() if field.is_required()]
    if required:
        return _Declared(unknown=f"its fields and controls are not known without the settings {', '.join(required)}")
    settings = plugin.settings_class()
    try:
        fields, controls = declared_by(Config(plugins={plugin.name: ConfiguredPlugin(plugin.name, plugin, settings)}))[plugin.name]
    except PluginError as error:
        return _Declared(unknown=str(error))
    policies: list[str] = []
    if "mom_policies" in _hooks(plugin):
        make = plugin.plugin_class
        made = attempt(lambda: sorted(make(settings, PluginContext(name=plugin.name)).mom_policies()), seconds=10, what="mom_policies")
        policies = made.value or []
    return _Declared(fields, controls, policies)


def _hooks(plugin: LoadedPlugin) -> list[str]:
    return [name for name in dir(plugin.plugin_class) if name.startswith("mom_")]


def _documentation(plugin: LoadedPlugin) -> str:
    import inspect

    return inspect.cleandoc(plugin.plugin_class.__doc__ or "")


def _distribution(name: str) -> tuple[str, str]:
    """The summary and the home page that a distribution states, if it does."""
    try:
        stated = metadata.metadata(name)
    except Exception:  # noqa: BLE001  # broken metadata is no reason to show nothing of the plugin
        return "", ""
    pages = [url.partition(",")[2].strip() for url in stated.get_all("Project-URL") or []]
    return (stated.get_all("Summary") or [""])[0], (stated.get_all("Home-page") or pages or [""])[0]


def _core_of(name: str) -> str:
    """The versions of mom-core that a distribution says it was built for; empty: it does not say."""
    try:
        stated = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return ""
    return ", ".join(on_core(stated))


def _settings_of(model: type[BaseModel]) -> list[dict[str, str]]:
    from mom_cli.type_names import type_name
    from mom_cli.yaml_values import default_texts
    from mom_core.config.complaints import is_secret

    rows, defaults = [], default_texts(model)
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else "" if is_secret(field.annotation) else defaults[name]
        kind = type_name(field.annotation, field.metadata)
        rows.append({"name": name, "type": kind, "default": default, "description": " ".join((field.description or "").split())})
    return rows


def _show_settings(title: str, settings: Sequence[Mapping[str, str]]) -> None:
    from mom_cli.tables import TableColumn, print_table

    if settings:
        click.echo()
        rows = [(s["name"], s["type"], brief(s["default"], 24), s["description"]) for s in settings]
        print_table(("setting", TableColumn("type", 1), "default", TableColumn("what it is", prose=True)), rows, title=title)


def _show_declared(declared: _Declared) -> None:
    from mom_cli.tables import TableColumn, print_table

    if declared.fields:
        click.echo()
        rows = [(f.name, f.scope, f.unit, f.description) for f in declared.fields]
        print_table(("field", "of", "unit", TableColumn("what it is", prose=True)), rows)
    if declared.controls:
        click.echo()
        rows = [(c.name, c.scope, c.unit, c.description) for c in declared.controls]
        print_table(("control", "of", "unit", TableColumn("what it is", prose=True)), rows)
    if declared.unknown:
        print_prose(f"\n{declared.unknown}", 2)
