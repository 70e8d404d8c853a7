"""`mom plugin`: which plugins are installed, and what one of them is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mom_core import ConfigError, PluginError, VerbGroup, brief, config_argument, config_option, json_option, print_prose, printable
from mom_core.files import DEFAULT_CONFIG
from mom_core.plugins.discovery import absent, available_plugins, how_to_install, load_plugins, on_core

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mom_core.plugins.discovery import LoadedPlugin
    from mom_daemon import PluginModel


@click.group("plugin", cls=VerbGroup)
def plugin_command() -> None:
    """List the installed plugins, and look at one."""


@plugin_command.command("list")
@config_argument
@json_option
def list_command(config_path: str | None, as_json: bool) -> None:
    """List the installed plugins, and which of them the configuration enables; and how those of the running mom are.

    Imports none of them unless mom runs.
    """
    enabled, trouble = _enabled(Path(config_path or DEFAULT_CONFIG))
    running = {plugin["name"]: plugin for plugin in _running_plugins(config_path)} if enabled else {}
    rows: list[dict[str, Any]] = []
    for name, plugins in available_plugins().items():
        for plugin in plugins:
            on = None if enabled is None else name in enabled
            summary = _distribution(plugin.distribution)[0]
            rows.append({**dataclasses.asdict(plugin), "installed": True, "summary": summary, "enabled": on, "times": len(plugins)})
    missing = [name for name in enabled or () if name not in {row["name"] for row in rows}]
    nothing = {"distribution": None, "version": None, "target": None, "installed": False, "summary": "", "enabled": True, "times": 0}
    rows += [{"name": name, **nothing} for name in missing]
    for row in rows:
        row["state"] = _state(running[row["name"]]) if row["name"] in running else None
    if as_json:
        click.echo(json.dumps([{key: value for key, value in row.items() if key != "times"} for row in rows], indent=2))
    else:
        _show_list(rows, enabled)
    if trouble and (config_path is not None or not as_json):
        print_prose(f"mom: which plugins are enabled is not known: {trouble}", 2, err=True)


def _enabled(path: Path) -> tuple[Sequence[str] | None, str]:
    """The plugins that a configuration names, in its order; None, and why, when it cannot be read."""
    from mom_core.config.document import read_document

    try:
        document = read_document(path)
    except ConfigError as error:
        return None, str(error.problems[0])
    section = document.value.get("plugins") if isinstance(document.value, Mapping) else None
    return (list(section), "") if isinstance(section, Mapping) else (None, f"{path} has no section `plugins`")


def _show_list(rows: Sequence[Mapping[str, Any]], enabled: Sequence[str] | None) -> None:
    from mom_cli.tables import TableColumn, print_table

    cells = []
    for row in rows:
        on = "?" if enabled is None else f"yes, number {enabled.index(row['name']) + 1}" if row["enabled"] else "no"
        on += ", but provided twice" if row["times"] > 1 else ""
        distribution = row["distribution"] or "not installed"
        cells.append((printable(row["name"]), distribution, row["version"] or "", on, row["state"] or "", row["summary"]))
    if cells:
        headings = ("plugin", TableColumn("distribution", 3), TableColumn("version", 2), "enabled")
        shown = 4 + any(row["state"] for row in rows)
        about = TableColumn("what it is", 1, prose=True)
        print_table((*headings, "running", about) if shown > 4 else (*headings, about), [(*row[:shown], row[-1]) for row in cells])
    else:
        print_prose("No plugins are installed.", 2)
    for what, names in (("To have all of the usual set on a KVM host", absent("kvm")), ("To have all of mom's own", absent())):
        if names:
            print_prose(f"{what}: {how_to_install(*names)}", 2)
            break


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


def _state(running: PluginModel) -> str:
    failed = f", {running['failures']} of {running['calls']} calls failed" if running["failures"] else ""
    return f"{running['state']}{failed}"


# --- info ----------------------------------------------------------------------------------------------------------------------


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
    about = _about(plugin)
    about["running"] = next((one for one in _running_plugins(config_path) if one["name"] == name), None)
    if as_json:
        click.echo(json.dumps(about, indent=2))
        return
    page = f", {about['home_page']}" if about["home_page"] else ""
    print_prose(f"{plugin.name}: {about['summary']}\n{plugin.distribution} {plugin.version}{page}", 2)
    print_prose(f"from {about['folder']}, for {about['requires'] or 'any mom-core'}", 2)
    print_prose(f"hooks: {', '.join(about['hooks']) or 'none'}", 2)
    if about["policies"]:
        print_prose(f"default policies: {', '.join(about['policies'])}", 2)
    if about["documentation"]:
        click.echo()
        for paragraph in about["documentation"].split("\n\n"):
            print_prose(paragraph if "\n " in paragraph or "\n-" in paragraph else paragraph.replace("\n", " "))
    _show_settings(f"settings, below plugins: {plugin.name}:", about["settings"])
    _show_settings("settings for guests, below guests: PATTERN:", about["guest_settings"])
    for heading in ("field", "control"):
        _show_specs(heading, about[f"{heading}s"])
    if about["not_known"]:
        print_prose(f"\n{about['not_known']}", 2)
    if running := about["running"]:
        last = f", last: {running['last_error']}" if running["last_error"] else ""
        print_prose(f"\nrunning: {running['state']}, {running['calls']} calls, {running['failures']} failed{last}", 2)
        if times := ", ".join(f"{hook} {seconds * 1e3:.1f} ms" for hook, seconds in running["durations_seconds"].items()):
            print_prose(f"in the last cycle: {times}", 2)


def _about(plugin: LoadedPlugin) -> dict[str, Any]:
    """What is known of a plugin that does not run, for programs."""
    import inspect
    import sys

    module = sys.modules.get(plugin.plugin_class.__module__.partition(".")[0])
    file = Path(getattr(module, "__file__", None) or "")
    summary, page = _distribution(plugin.distribution)
    try:
        requires = ", ".join(on_core(metadata.requires(plugin.distribution) or []))
    except metadata.PackageNotFoundError:
        requires = ""
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "folder": str(file.parent if file.name == "__init__.py" else file),
        "class": f"{plugin.plugin_class.__module__}:{plugin.plugin_class.__qualname__}",
        "requires": requires,
        "summary": summary,
        "home_page": page,
        "documentation": inspect.cleandoc(plugin.plugin_class.__doc__ or ""),
        "settings": _settings_of(plugin.settings_class),
        "guest_settings": _settings_of(plugin.guest_settings_class) if plugin.guest_settings_class else [],
        "hooks": [name for name in dir(plugin.plugin_class) if name.startswith("mom_")],
        **_declared(plugin),
    }


def _declared(plugin: LoadedPlugin) -> dict[str, Any]:
    """What the plugin declares with its default settings; constructing a plugin does nothing yet."""
    from mom_cli.declared import declared_by
    from mom_core import Config, ControlSpec, DefaultPolicy, FieldSpec
    from mom_core.config import ConfiguredPlugin

    nothing: dict[str, Any] = {"fields": (), "controls": (), "policies": []}
    required = [name for name, field in plugin.settings_class.model_fields.items() if field.is_required()]
    if required:
        return {**nothing, "not_known": f"its fields and controls are not known without the settings {', '.join(required)}"}
    settings = plugin.settings_class()
    try:
        declared = declared_by(Config(plugins={plugin.name: ConfiguredPlugin(plugin.name, plugin, settings)}))[plugin.name]
    except PluginError as error:
        return {**nothing, "not_known": str(error)}
    return {
        "fields": [dataclasses.asdict(one) for one in declared if isinstance(one, FieldSpec) and one.collected],
        "controls": [dataclasses.asdict(one) for one in declared if isinstance(one, ControlSpec)],
        "policies": sorted(one.name for one in declared if isinstance(one, DefaultPolicy)),
        "not_known": None,
    }


def _distribution(name: str) -> tuple[str, str]:
    """The summary and the home page that a distribution states, if it does."""
    try:
        stated = metadata.metadata(name)
    except Exception:  # noqa: BLE001  # broken metadata is no reason to show nothing of the plugin
        return "", ""
    pages = [url.partition(",")[2].strip() for url in stated.get_all("Project-URL") or []]
    return (stated.get_all("Summary") or [""])[0], (stated.get_all("Home-page") or pages or [""])[0]


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


def _show_specs(heading: str, specs: Sequence[Mapping[str, Any]]) -> None:
    from mom_cli.tables import TableColumn, print_table

    if specs:
        click.echo()
        rows = [(one["name"], one["scope"], one["unit"], one["description"]) for one in specs]
        print_table((heading, "of", "unit", TableColumn("what it is", prose=True)), rows)
