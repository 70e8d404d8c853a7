"""`mom fields`: what a policy can read and set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from mom_cli.declared import declared_by, everything_installed
from mom_cli.sources import ask_or_remark
from mom_core import Config, ControlSpec, FieldSpec, PluginError, Scope, Unit, config_argument, json_option, load_config, print_prose
from mom_core.files import DEFAULT_CONFIG


@click.command("fields")
@config_argument
@click.option("--all", "all_installed", is_flag=True, help="Of all installed plugins, not only of the enabled ones.")
@json_option
def fields_command(config_path: str | None, all_installed: bool, as_json: bool) -> None:
    """List the fields that policies can read and the controls that they can set, with units.

    Those of the running mom; of the enabled plugins when none runs; of all installed ones when there is no configuration yet.
    """
    everything = all_installed or (config_path is None and not DEFAULT_CONFIG.exists())
    config, left_out = everything_installed() if everything else (load_config(config_path), {})
    for name, error in left_out.items():
        print_prose(f"mom: without {name}: {error}", 2, err=True)
    answer = None if everything else _of_running(config)
    if answer is not None:
        fields_and_controls, where = answer
        _tell(*fields_and_controls, as_json=as_json)
        if not as_json:
            print_prose(f"\nof the running mom, from {where}", 2)
        return
    fields: list[tuple[str, FieldSpec]] = []
    controls: list[tuple[str, ControlSpec]] = []
    unusable: list[PluginError] | None = [] if everything else None
    for name, (specs, control_specs) in declared_by(config, unusable).items():
        fields.extend((name, spec) for spec in specs if spec.collected)
        controls.extend((name, spec) for spec in control_specs)
    for broken in unusable or ():
        print_prose(f"mom: without {broken.plugin}: {broken}", 2, err=True)
    _tell(fields, controls, as_json=as_json)


_Fields = Sequence[tuple[str, FieldSpec]]
_Controls = Sequence[tuple[str, ControlSpec]]


def _of_running(config: Config) -> tuple[tuple[_Fields, _Controls], str] | None:
    """What the running mom has, with the plugins that declare it, and from where; None when none can be asked."""
    answer = ask_or_remark(config, lambda running: running.declared())
    if answer is None:
        return None
    (given_fields, given_controls), where = answer
    fields = [(f["plugin"], FieldSpec(f["name"], Unit(f["unit"]), Scope(f["scope"]), f["description"], f["source"])) for f in given_fields]
    controls = [
        (
            c["plugin"],
            ControlSpec(
                c["name"], Unit(c["unit"]), Scope(c["scope"]), c["description"], c["field"], c["minimum"], c["maximum"], c["choices"]
            ),
        )
        for c in given_controls
    ]
    return (fields, controls), where


def _tell(fields: _Fields, controls: _Controls, *, as_json: bool) -> None:
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
    else:
        _show(fields, controls)


def _show(fields: _Fields, controls: _Controls) -> None:
    from mom_cli.tables import TableColumn, print_table

    rows = [
        (spec.name, str(spec.scope), str(spec.unit), plugin, spec.description)
        for plugin, spec in sorted(fields, key=lambda pair: (pair[1].scope, pair[1].name))
    ]
    print_table(("field", "of", "unit", TableColumn("plugin", 1), TableColumn("what it is", prose=True)), rows, title="Fields")
    click.echo()
    rows = [
        (spec.name, str(spec.scope), str(spec.unit), plugin, f"{spec.description}{_bounds(spec)}")
        for plugin, spec in sorted(controls, key=lambda pair: (pair[1].scope, pair[1].name))
    ]
    print_table(("control", "of", "unit", TableColumn("plugin", 1), TableColumn("what it is", prose=True)), rows, title="Controls")


def _bounds(spec: ControlSpec) -> str:
    if spec.choices:
        return f" ({', '.join(map(str, spec.choices))})"
    if spec.minimum is None and spec.maximum is None:
        return ""
    low = "" if spec.minimum is None else f"from {spec.minimum:,g}"
    high = "" if spec.maximum is None else f"to {spec.maximum:,g}"
    return f" ({' '.join(filter(None, (low, high)))})"
