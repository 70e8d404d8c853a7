"""`mom fields`: what a policy can read and set."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from mom_core.cli.options import DEFAULT_CONFIG, config_option, json_option
from mom_core.config import Config, load_config
from mom_core.errors import MomError
from mom_core.model import ControlSpec, FieldSpec
from mom_core.plugins.discovery import available_plugins
from mom_core.plugins.registry import declared_by


@click.command("fields")
@config_option
@click.option("--all", "all_installed", is_flag=True, help="Of all installed plugins, not only of the enabled ones.")
@json_option
def fields_command(config_path: str | None, all_installed: bool, as_json: bool) -> None:
    """List the fields that policies can read and the controls that they can set, with units.

    Of the enabled plugins; of all installed ones when there is no configuration yet.
    """
    if all_installed or (config_path is None and not Path(DEFAULT_CONFIG).exists()):
        config = _everything_installed()
    else:
        config = load_config(config_path)
    fields: list[tuple[str, FieldSpec]] = []
    controls: list[tuple[str, ControlSpec]] = []
    for name, (specs, control_specs) in declared_by(config).items():
        fields.extend((name, spec) for spec in specs)
        controls.extend((name, spec) for spec in control_specs)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "fields": [{"plugin": plugin, **asdict(spec)} for plugin, spec in fields],
                    "controls": [{"plugin": plugin, **asdict(spec)} for plugin, spec in controls],
                },
                indent=2,
            )
        )
        return
    _show(fields, controls)


def _everything_installed() -> Config:
    plugins: dict[str, object] = {}
    for name in available_plugins():
        try:
            load_config({"plugins": {name: {}}})
        except MomError as error:
            click.echo(f"mom: without {name}: {error}", err=True)
        else:
            plugins[name] = {}
    return load_config({"plugins": plugins})


def _show(fields: list[tuple[str, FieldSpec]], controls: list[tuple[str, ControlSpec]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=SIMPLE_HEAD, title="Fields", title_justify="left")
    for heading in ("field", "of", "unit", "plugin", "what it is"):
        table.add_column(heading, overflow="fold" if heading == "what it is" else "ellipsis", no_wrap=heading != "what it is")
    for plugin, spec in sorted(fields, key=lambda pair: (pair[1].scope, pair[1].name)):
        table.add_row(spec.name, str(spec.scope), str(spec.unit), plugin, spec.description)
    console.print(table)
    table = Table(box=SIMPLE_HEAD, title="Controls", title_justify="left")
    for heading in ("control", "of", "unit", "plugin", "bounds", "what it is"):
        table.add_column(heading, overflow="fold" if heading == "what it is" else "ellipsis", no_wrap=heading != "what it is")
    for plugin, control in sorted(controls, key=lambda pair: (pair[1].scope, pair[1].name)):
        low = "" if control.minimum is None else f"{control.minimum:,.0f}"
        high = "" if control.maximum is None else f"{control.maximum:,.0f}"
        bounds = f"{low} … {high}" if low or high else "any"
        table.add_row(control.name, str(control.scope), str(control.unit), plugin, bounds, control.description)
    console.print(table)
