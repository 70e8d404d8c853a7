"""`mom config`."""

from __future__ import annotations

import json
import os
import shlex
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from pydantic import BaseModel

from mom_core import Config, ConfigError, Finding, MomError, Severity, format_duration, load_config, replace_file
from mom_core.config.document import KeyPath, dotted
from mom_core.config.wording import marks_of
from mom_core.files import DEFAULT_CONFIG
from mom_core.plugins.discovery import absent, available_plugins, how_to_install, load_plugins
from mom_core.settings import FileMustExist
from mom_daemon import VerbGroup, as_caller, brief, json_option, print_prose, print_text
from mom_daemon.cli.options import config_argument
from mom_daemon.cli.output import TableColumn, print_table
from mom_daemon.config.draft import SCHEMA_FILE, Draft, draft_config
from mom_daemon.config.schema import json_schema
from mom_daemon.look.here import how_to_act, how_to_start, may_exist
from mom_daemon.look.sources import ask
from mom_daemon.owner import load_as_owner
from mom_daemon.plugins.declared import about_enabled, check_plugins


@click.group("config", cls=VerbGroup)
def config_command() -> None:
    """Write, check and show the configuration."""


# --- check ---------------------------------------------------------------------------------------------------------------------


@config_command.command("check")
@config_argument
@json_option
@as_caller  # until the configuration, possibly the caller's, is read
def check_command(config_path: str | None, as_json: bool) -> None:
    """Check the configuration and its plugins, and print all errors.

    The check starts nothing and changes nothing on the host. Exit code 2 for errors, 0 for warnings only.
    """
    try:
        config, warnings = _checked(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [asdict(problem) for problem in error.problems]
        click.echo(json.dumps({"fine": False, "problems": problems, "warnings": []}, indent=2))
        sys.exit(2)
    if as_json:
        shown = [{"plugin": name, "message": warning.message, "hint": warning.cure} for name, warning in warnings]
        click.echo(json.dumps({"fine": True, "problems": [], "warnings": shown}, indent=2))
        return
    every, plugins = format_duration(config.interval), ", ".join(config.plugins)
    print_prose(f"{config.file} is fine: mode {config.mode}, a cycle every {every}, with the plugins {plugins}", 2)
    if config.mode == "observe":
        print_prose(f"in this mode, mom changes nothing; {how_to_act(config)}", 2)
    if config.guests:
        print_prose(f"and {len(config.guests)} pattern{'s' * (len(config.guests) > 1)} for guests", 2)
    for name, warning in warnings:
        print_prose(f"warning: {name}: {brief(warning.message, 500)}", 2)
        if warning.cure:
            print_prose(f"  {brief(warning.cure, 500)}", 4)


def _checked(path: str | None) -> tuple[Config, list[tuple[str, Finding]]]:
    config = load_as_owner(path)  # plugins read and trust files as the daemon's user does
    checked = check_plugins(config)
    file = config.file or "configuration"
    wrong = [(error.plugin, error.message, error.hint) for error in checked.errors]
    wrong += [(name, f"plugin {name!r}: {bad.message}", bad.cure) for name, bad in checked.findings if bad.severity is Severity.ERROR]
    problems = [ConfigError.Problem(file, *config.places.get(("plugins", name), (0, 0)), *texts) for name, *texts in wrong]
    cure = "create this file, or set the path of another file"
    problems += [
        ConfigError.Problem(file, *config.places.get(place, (0, 0)), f"{dotted(place)}: there is no file {path}", cure)
        for name, plugin in config.plugins.items()
        for place, path in _missing_files(plugin.settings, ("plugins", name))
    ]
    if problems:
        raise ConfigError(sorted(problems))
    warnings = [("core", finding) for finding in about_enabled(config)]
    return config, warnings + [(name, finding) for name, finding in checked.findings if finding.severity is Severity.WARNING]


def _missing_files(settings: BaseModel, place: KeyPath) -> Iterator[tuple[KeyPath, Path]]:
    # Yield settings that need an existing file and have none.
    for name, field in type(settings).model_fields.items():
        value: object = getattr(settings, name)
        here = (*place, field.alias or name)
        must_exist = any(isinstance(mark, FileMustExist) for mark in marks_of(field.annotation, field.metadata))
        if isinstance(value, BaseModel):
            yield from _missing_files(value, here)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _missing_files(item, (*here, number))
        elif must_exist and isinstance(value, Path) and not may_exist(value):
            yield here, value


# --- show ----------------------------------------------------------------------------------------------------------------------


@config_command.command("show")
@config_argument
@click.option("--running", "of_running", is_flag=True, help="Show the settings of the running mom, and how the file now differs from them.")
@json_option
@as_caller
def show_command(config_path: str | None, of_running: bool, as_json: bool) -> None:
    """Show every setting in force, and the file and line that set it, or `default`. Secrets are masked.

    With --running, exit code 1 if mom is not running or does not answer.
    """
    config = load_config(config_path)
    if of_running:
        _show_running(config, as_json=as_json)
        return
    rows: list[tuple[str, object, str]] = []
    for path, value in _settings(config.in_force()):
        place = config.places.get(path)
        rows.append((dotted(path), value, f"{config.file}:{place.line}" if place else "default"))
    if as_json:
        settings = [{"setting": name, "value": value, "from": origin} for name, value, origin in rows]
        click.echo(json.dumps({"file": config.file, "settings": settings}, indent=2))
        return
    print_table(("setting", TableColumn("value", prose=True), "from"), [(name, _shown(value), origin) for name, value, origin in rows])


def _show_running(config: Config, *, as_json: bool) -> None:
    settings, where = ask(config, lambda running: running.configuration())
    if as_json:
        click.echo(json.dumps({"from": where, "settings": settings}, indent=2))
        return
    in_file, running = dict(_settings(config.in_force())), dict(_settings(settings))
    rows = []
    for path in dict.fromkeys([*running, *in_file]):
        now, then = (_shown(values[path]) if path in values else "not there" for values in (running, in_file))
        rows.append((dotted(path), now, "" if path in running and path in in_file and running[path] == in_file[path] else then))
    print_table(("setting", TableColumn("value", prose=True), TableColumn("now in the file", 1)), rows)
    print_prose(f"from {where}", 2)


def _settings(in_force: Mapping[str, object]) -> Iterator[tuple[KeyPath, object]]:
    for name, value in in_force.items():
        if name not in {"plugins", "guests"}:
            yield (name,), value
        elif isinstance(value, Mapping):
            for inner, settings in value.items():
                for key, setting in settings.items() if isinstance(settings, Mapping) else ():
                    yield (name, inner, key), setting


def _shown(value: object) -> str:
    return brief(value if isinstance(value, str) else json.dumps(value, default=str), 200)


# --- schema --------------------------------------------------------------------------------------------------------------------


@config_command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the configuration file, with the settings of all installed plugins."""
    click.echo(_schema(), nl=False)


def _schema() -> str:
    loaded, errors = load_plugins(list(available_plugins()))
    for error in errors:
        print_prose(f"mom: warning: the schema lacks the settings of a plugin: {error}", 2, err=True)
    return json.dumps(json_schema(loaded.values()), indent=2) + "\n"


# --- init ----------------------------------------------------------------------------------------------------------------------

NO_PLUGIN_FITS: Final = "no installed plugin fits this host, so there is nothing to configure"


@config_command.command("init")
@click.option("-o", "--output", metavar="FILE", default=str(DEFAULT_CONFIG), show_default=True, help="File to write; - is standard output.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--observe/--enforce", "observe", default=True, help="Mode in the new file. With observe, mom changes nothing.")
@click.option("--root", metavar="DIR", default="/", show_default=True, help="Folder that contains the host's /proc and /sys.")
@as_caller
def init_command(output: str, force: bool, observe: bool, root: str) -> None:
    """Write a commented configuration for this host. An existing file stays unchanged without --force.

    mom also writes mom.schema.json beside the file, for editors.
    """
    path = Path(output)
    if output != "-" and not force and os.path.lexists(path):
        raise _exists(path)
    draft = draft_config(Path(root).absolute(), observe=observe)
    if not draft.enabled:
        for name, reason in draft.left_out.items():
            print_prose(f"mom: {name}: {reason}", 2, err=True)
        packages = absent("kvm")
        missing = f"for a KVM host: {how_to_install(*packages)}; " if packages else ""
        raise MomError(NO_PLUGIN_FITS, hint=f"{missing}to try mom without a hypervisor: mom demo")
    if output == "-":
        print_text(draft.text)
        return
    _write(path, draft.text, replace=force)
    try:
        _write(path.with_name(SCHEMA_FILE), _schema(), replace=True)
    except Exception as error:  # noqa: BLE001  # plugins' types may have no schema
        print_prose(
            f"mom: warning: cannot write {path.with_name(SCHEMA_FILE)}, which editors use to check {path.name}: {error}", 2, err=True
        )
    _tell_what_next(path, draft, observe=observe)


# --- files ---------------------------------------------------------------------------------------------------------------------


def _exists(path: Path) -> MomError:
    return MomError(f"{path} exists already, and was not changed", hint="--force replaces it, -o names another file, -o - only prints")


def _write(path: Path, text: str, *, replace: bool) -> None:
    mode, owner = 0o644, None
    if replace and path.exists():
        path = path.resolve()  # replace the target of a link, not the link
        if not path.is_file():
            raise MomError(f"{path} is not a regular file, and was not changed", hint="-o names another file")
        status = path.stat()  # keep the file's owner and mode
        mode = stat.S_IMODE(status.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH)
        owner = (0, status.st_gid) if os.geteuid() == 0 else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, text, durable=True, mode=mode, replace=replace, owner=owner)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(path):
            raise _exists(path) from None
        why = f"{path.parent} is not a folder" if isinstance(error, FileExistsError) else error.strerror or error
        raise MomError(f"{path} cannot be written: {why}", hint="-o names another file; /etc needs root") from error


def _tell_what_next(path: Path, draft: Draft, *, observe: bool) -> None:
    print_prose(f"wrote {path}, with the plugins", 2)
    width = max(map(len, draft.enabled))
    for name, suggestion in draft.enabled.items():
        print_prose(f"  {name:<{width}}  {suggestion.reason}", 4)
    for name, reason in draft.left_out.items():
        print_prose(f"without {name}: {reason}", 2)
    option = "" if path == DEFAULT_CONFIG else f" -c {shlex.quote(str(path))}"
    if observe:
        shows = f"mom status{option} shows what mom would do"
        print_prose(f"with this file, mom changes nothing until you set mode: enforce in it; {shows}", 2)
    starts = how_to_start(None if path == DEFAULT_CONFIG else str(path))
    print_prose(f"next: mom config check{option}; mom doctor{option}; {starts}", 2)
