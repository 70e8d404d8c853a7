"""`mom plugin`: which plugins are installed, and what one of them is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mom_core.cli.options import config_option, json_option
from mom_core.errors import ConfigError, PluginError
from mom_core.files import DEFAULT_CONFIG
from mom_core.plugins.discovery import KNOWN_DISTRIBUTIONS, AvailablePlugin, available_plugins, load_plugins

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mom_core.model import ControlSpec, FieldSpec
    from mom_core.plugins.discovery import LoadedPlugin


@click.group("plugin")
def plugin_command() -> None:
    """List the installed plugins, or look at one."""


# --- list ----------------------------------------------------------------------------------------------------------------------


@plugin_command.command("list")
@config_option
@json_option
def list_command(config_path: str | None, as_json: bool) -> None:
    """List the installed plugins, and which of them the configuration enables. Imports none of them."""
    available = available_plugins()
    path = Path(config_path or DEFAULT_CONFIG)
    enabled, trouble = _enabled(path)
    if as_json:
        click.echo(json.dumps(_as_json(available, enabled), indent=2))
    else:
        _show_list(available, enabled)
    if trouble and (config_path is not None or not as_json):
        click.echo(f"mom: which plugins are enabled is not known: {trouble}", err=True)


def _enabled(path: Path) -> tuple[Sequence[str] | None, str]:
    """The plugins that a configuration names, in its order; None, and why, when that cannot be read. Nothing else is looked at."""
    from mom_core.config.document import read_document

    try:
        document = read_document(path)
    except ConfigError as error:
        return None, str(error.problems[0])
    section = document.value.get("plugins") if isinstance(document.value, Mapping) else None
    return (list(section), "") if isinstance(section, Mapping) else (None, f"{path} has no section `plugins`")


def _as_json(available: Mapping[str, Sequence[AvailablePlugin]], enabled: Sequence[str] | None) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, plugins in available.items():
        on = None if enabled is None else name in enabled
        rows += [
            {"name": name, "distribution": p.distribution, "version": p.version, "target": p.target, "installed": True, "enabled": on}
            for p in plugins
        ]
    for name in enabled or ():
        if name not in available:
            rows.append({"name": name, "distribution": None, "version": None, "target": None, "installed": False, "enabled": True})
    return rows


def _show_list(available: Mapping[str, Sequence[AvailablePlugin]], enabled: Sequence[str] | None) -> None:
    from mom_core.cli.tables import print_table
    from mom_core.model import printable

    rows = []
    for name, plugins in available.items():
        state = "?" if enabled is None else f"yes, number {enabled.index(name) + 1}" if name in enabled else "no"
        if len(plugins) > 1:
            state += ", but provided twice"
        rows += [(printable(name), plugin.distribution, plugin.version, state) for plugin in plugins]
    for name in enabled or ():
        if name not in available:
            rows.append((printable(name), "not installed", "", "yes"))
    if rows:
        print_table(("plugin", "distribution", "version", "enabled"), rows)
    else:
        click.echo("No plugins are installed. The usual set on a KVM host: pip install 'mom-core[kvm]'")
    absent = [name for name in ("host", "libvirt", "balloon", "ksm", "policy") if name not in available]
    if rows and absent:
        click.echo(f"of the usual set, not installed: pip install {' '.join(KNOWN_DISTRIBUTIONS[name] for name in absent)}")


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
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show one installed plugin: where it comes from, its settings, the hooks that it implements, and what it declares."""
    loaded, errors = load_plugins([name])
    if errors:
        raise errors[0]
    plugin = loaded[name]
    declared = _declared(plugin)
    settings = _settings_of(plugin.settings_class)
    guest_settings = _settings_of(plugin.guest_settings_class) if plugin.guest_settings_class else []
    summary, page = _distribution(plugin.distribution)
    if as_json:
        content = {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "class": f"{plugin.plugin_class.__module__}:{plugin.plugin_class.__qualname__}",
            "contract": plugin.plugin_class.contract,  # type: ignore[attr-defined]  # discovery has seen it
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
                {"name": c.name, "scope": c.scope, "unit": c.unit, "description": c.description, "minimum": c.minimum, "maximum": c.maximum}
                for c in declared.controls
            ],
            "policies": list(declared.policies),
            "not_known": declared.unknown or None,
        }
        click.echo(json.dumps(content, indent=2))
        return
    click.echo(f"{plugin.name}: {summary}\n{plugin.distribution} {plugin.version}" + (f", {page}" if page else ""))
    click.echo(f"hooks: {', '.join(_hooks(plugin)) or 'none'}")
    if declared.policies:
        click.echo(f"default policies: {', '.join(declared.policies)}")
    if _documentation(plugin):
        click.echo(f"\n{_documentation(plugin)}")
    _show_settings(f"settings, below plugins: {plugin.name}:", settings)
    _show_settings("settings for guests, below guests: PATTERN:", guest_settings)
    _show_declared(declared)


def _declared(plugin: LoadedPlugin) -> _Declared:
    """What the plugin declares with its default settings; constructing a plugin does nothing yet."""
    from mom_core.config import Config, ConfiguredPlugin
    from mom_core.context import PluginContext
    from mom_core.plugins.bounded import attempt
    from mom_core.plugins.registry import declared_by

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


def _settings_of(model: type[BaseModel]) -> list[dict[str, str]]:
    from mom_core.config.complaints import is_secret, type_name
    from mom_core.config.schema import default_text

    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else "" if is_secret(field.annotation) else default_text(field)
        kind = type_name(field.annotation, field.metadata)
        rows.append({"name": name, "type": kind, "default": default, "description": " ".join((field.description or "").split())})
    return rows


def _show_settings(title: str, settings: Sequence[Mapping[str, str]]) -> None:
    from mom_core.cli.tables import print_table

    if settings:
        click.echo()
        rows = [(s["name"], s["type"], s["default"], s["description"]) for s in settings]
        print_table(("setting", "type", "default", "what it is"), rows, title=title)


def _show_declared(declared: _Declared) -> None:
    from mom_core.cli.tables import print_table

    if declared.fields:
        click.echo()
        print_table(("field", "of", "unit", "what it is"), [(f.name, f.scope, f.unit, f.description) for f in declared.fields])
    if declared.controls:
        click.echo()
        print_table(("control", "of", "unit", "what it is"), [(c.name, c.scope, c.unit, c.description) for c in declared.controls])
    if declared.unknown:
        click.echo(f"\n{declared.unknown}")
