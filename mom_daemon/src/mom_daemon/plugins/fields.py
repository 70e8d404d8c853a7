"""`mom fields`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from mom_core import ControlSpec, FieldSpec, PluginError, load_config
from mom_core.files import DEFAULT_CONFIG
from mom_daemon import json_option, print_prose
from mom_daemon.cli.options import config_argument
from mom_daemon.cli.tables import TableColumn, print_table
from mom_daemon.plugins.declared import declared_by, everything_installed


@click.command("fields")
@config_argument
@click.option("--all", "all_installed", is_flag=True, help="Include all installed plugins, not only the enabled ones.")
@json_option
def fields_command(config_path: str | None, all_installed: bool, as_json: bool) -> None:
    """List the fields that policies can read and the controls that they can set, with units.

    The list covers the enabled plugins. Without a configuration, it covers all installed plugins.
    """
    everything = all_installed or (config_path is None and not DEFAULT_CONFIG.exists())
    config, left_out = everything_installed() if everything else (load_config(config_path), {})
    unusable: list[PluginError] | None = [] if everything else None
    declared = declared_by(config, unusable)
    for name, error in [*left_out.items(), *((broken.plugin, broken) for broken in unusable or ())]:
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
