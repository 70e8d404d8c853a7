"""`mom plugin` and `mom fields`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mom_core import ConfigError, ControlSpec, FieldSpec, printable
from mom_core.files import DEFAULT_CONFIG
from mom_core.plugins.discovery import absent, available_plugins, catalog, how_to_install, load_plugins
from mom_daemon import VerbGroup, brief, json_option, print_prose
from mom_daemon.cli.options import config_argument
from mom_daemon.cli.output import TableColumn, print_table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mom_core.plugins.discovery import LoadedPlugin


@click.group("plugin", cls=VerbGroup)
def plugin_command() -> None:
    """List the installed plugins, or show one."""


@plugin_command.command("list")
@click.option("--all", "with_others", is_flag=True, help="Also list mom's own plugins that are not installed.")
@config_argument
@json_option
def list_command(config_path: str | None, with_others: bool, as_json: bool) -> None:
    """List the installed plugins, and whether the configuration enables them.

    This command imports no plugin. `mom status` shows plugins' state.
    """
    enabled, trouble = _enabled(Path(config_path or DEFAULT_CONFIG))
    own, installed = catalog(), available_plugins()
    rows: list[dict[str, Any]] = []
    for name in sorted({*installed, *(enabled or ()), *(own if with_others else ())}):
        listed, plugins = own.get(name), installed.get(name, ())
        absent_plugin = {"distribution": listed.distribution if listed else None, "version": None, "target": None}
        for plugin in plugins or (None,):
            about = absent_plugin if plugin is None else {key: getattr(plugin, key) for key in absent_plugin}
            is_own = listed is not None and listed.distribution == about["distribution"]
            summary = listed.summary if listed and is_own else "" if plugin is None else _summary(plugin.distribution)
            on = None if enabled is None else name in enabled
            rows.append({"name": name, **about, "installed": plugin is not None, "summary": summary, "enabled": on})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _show_list(rows, enabled)
    if trouble and (config_path is not None or not as_json):
        print_prose(f"mom: cannot determine the enabled plugins: {trouble}", 2, err=True)


def _enabled(path: Path) -> tuple[Sequence[str] | None, str]:
    from mom_core.config.document import read_document

    try:
        document = read_document(path)
    except ConfigError as error:
        return None, str(error.problems[0])
    section = document.value.get("plugins") if isinstance(document.value, Mapping) else None
    return (list(section), "") if isinstance(section, Mapping) else (None, f"{path} has no section `plugins`")


def _show_list(rows: Sequence[Mapping[str, Any]], enabled: Sequence[str] | None) -> None:
    cells = []
    for row in rows:
        on = "?" if enabled is None else f"yes, number {enabled.index(row['name']) + 1}" if row["enabled"] else "no"
        version = row["version"] if row["installed"] else "not installed"
        cells.append((printable(row["name"]), row["distribution"] or "", version, on, row["summary"]))
    if cells:
        about = TableColumn("what it is", 1, prose=True)
        print_table(("plugin", TableColumn("package", 3), TableColumn("version", 2), "enabled", about), cells)
    else:
        print_prose("No plugins are installed.", 2)
    if missing := absent("kvm"):
        print_prose(f"To install the other packages for KVM hosts: {how_to_install(*missing)}", 2)


# --- info ----------------------------------------------------------------------------------------------------------------------


@plugin_command.command("info")
@click.argument("name")
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show one installed plugin: its package, settings and hooks.

    `mom fields --all` lists its declarations.
    """
    loaded, errors = load_plugins([name])
    if errors:
        raise errors[0]
    plugin = loaded[name]
    about = _about(plugin)
    if as_json:
        click.echo(json.dumps(about, indent=2))
        return
    print_prose(f"{plugin.name}: {about['summary']}\n{plugin.distribution} {plugin.version}, from {about['folder']}", 2)
    print_prose(f"hooks: {', '.join(about['hooks']) or 'none'}", 2)
    if about["documentation"]:
        click.echo()
        for paragraph in about["documentation"].split("\n\n"):
            print_prose(paragraph if "\n " in paragraph or "\n-" in paragraph else paragraph.replace("\n", " "))
    _show_settings(f"settings, under plugins: {plugin.name}:", about["settings"])
    _show_settings("settings for guests, under guests: PATTERN:", about["guest_settings"])


def _about(plugin: LoadedPlugin) -> dict[str, Any]:
    import inspect
    import sys

    module = sys.modules.get(plugin.plugin_class.__module__.partition(".")[0])
    file = Path(getattr(module, "__file__", None) or "")
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "folder": str(file.parent if file.name == "__init__.py" else file),
        "class": f"{plugin.plugin_class.__module__}:{plugin.plugin_class.__qualname__}",
        "summary": _summary(plugin.distribution),
        "documentation": inspect.cleandoc(plugin.plugin_class.__doc__ or ""),
        "settings": _settings_of(plugin.settings_class),
        "guest_settings": _settings_of(plugin.guest_settings_class) if plugin.guest_settings_class else [],
        "hooks": [name for name in dir(plugin.plugin_class) if name.startswith("mom_")],
    }


def _summary(distribution: str) -> str:
    try:
        return metadata.metadata(distribution)["Summary"] or ""
    except Exception:  # noqa: BLE001  # show the plugin even if its metadata is broken
        return ""


def _settings_of(model: type[BaseModel]) -> list[dict[str, str]]:
    from mom_core.config.wording import is_secret
    from mom_core.settings import descriptions
    from mom_daemon.config.setting_texts import default_texts, type_name

    rows, defaults, texts = [], default_texts(model), descriptions(model)
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else "" if is_secret(field.annotation) else defaults[name]
        kind = type_name(field.annotation, field.metadata)
        rows.append({"name": name, "type": kind, "default": default, "description": " ".join(texts[name].split())})
    return rows


def _show_settings(title: str, settings: Sequence[Mapping[str, str]]) -> None:
    if settings:
        click.echo()
        rows = [(s["name"], s["type"], brief(s["default"], 24), s["description"]) for s in settings]
        print_table(("setting", TableColumn("type", 1), "default", TableColumn("what it is", prose=True)), rows, title=title)


# --- mom fields ----------------------------------------------------------------------------------------------------------------


@click.command("fields")
@config_argument
@click.option("--all", "all_installed", is_flag=True, help="Include all installed plugins, not only the enabled ones.")
@json_option
def fields_command(config_path: str | None, all_installed: bool, as_json: bool) -> None:
    """List the fields that policies can read and the controls that they can set, with units.

    The list covers the enabled plugins. Without a configuration, it covers all installed plugins.
    """
    from mom_core import load_config  # slow to import, as below
    from mom_core.plugins.registry import raise_all
    from mom_daemon.plugins.declared import declared_by, everything_installed

    everything = all_installed or (config_path is None and not DEFAULT_CONFIG.exists())
    config, left_out = everything_installed() if everything else (load_config(config_path), {})
    declared, unusable = declared_by(config)
    if not everything:
        raise_all(unusable)
    for name, error in [*left_out.items(), *((broken.plugin, broken) for broken in unusable)]:
        print_prose(f"mom: warning: the list lacks the plugin {name}: {error}", 2, err=True)
    fields = [(name, spec) for name, specs in declared.items() for spec in specs if isinstance(spec, FieldSpec) and spec.collected]
    controls = [(name, spec) for name, specs in declared.items() for spec in specs if isinstance(spec, ControlSpec)]
    if as_json:
        click.echo(json.dumps({"fields": _as_json(fields), "controls": _as_json(controls)}, indent=2))
        return
    _show("field", fields)
    click.echo()
    _show("control", controls)


def _as_json(specs: Sequence[tuple[str, FieldSpec | ControlSpec]]) -> list[dict[str, object]]:
    return [{"plugin": plugin, **asdict(spec)} for plugin, spec in specs]


def _show(kind: str, specs: Sequence[tuple[str, FieldSpec | ControlSpec]]) -> None:
    rows = [
        (spec.name, str(spec.scope), str(spec.unit), plugin, f"{spec.description}{_bounds(spec)}")
        for plugin, spec in sorted(specs, key=lambda pair: (pair[1].scope, pair[1].name))
    ]
    print_table((kind, "of", "unit", TableColumn("plugin", 1), TableColumn("what it is", prose=True)), rows, title=f"{kind.capitalize()}s")


def _bounds(spec: FieldSpec | ControlSpec) -> str:
    if isinstance(spec, FieldSpec):
        return ""
    if spec.choices:
        return f" ({', '.join(map(str, spec.choices))})"
    low = "" if spec.minimum is None else f"from {spec.minimum:,.15g}"
    high = "" if spec.maximum is None else f"to {spec.maximum:,.15g}"
    return f" ({' '.join(filter(None, (low, high)))})" if low or high else ""
