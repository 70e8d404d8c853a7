"""Inputs of subcommands: policies, declarations and a snapshot; and output of values, decisions and errors."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

import mom_daemon
from mom_core import (
    Config,
    Decision,
    Declarations,
    Engine,
    FieldSpec,
    Guest,
    Host,
    MomError,
    Snapshot,
    Source,
    Unit,
    load_config,
    printable,
)
from mom_daemon import become_owner, brief, print_prose
from mom_kvm import PolicyState
from mom_plugins_policy.language.errors import Fault, PolicyError, did_you_mean
from mom_plugins_policy.language.policy import Policy, fields_in
from mom_plugins_policy.language.values import Disk, Guests, show, written_string
from mom_plugins_policy.snapshots import EXAMPLE, read_snapshot
from mom_plugins_policy.sources import Texts, read_paths, read_policies

USUAL_CONFIG: Final = Path("/etc/mom/mom.yaml")

_LONGEST_EXCERPT: Final = 200  # characters of a line

files_argument = click.argument("paths", metavar="[FILE|DIRECTORY]...", nargs=-1, type=click.Path(path_type=Path))

defaults_option = click.option(
    "--defaults", "with_default_policies", is_flag=True, help="Also use the plugins' default policies, as a running mom does."
)


def snapshot_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--snapshot FILE` and `--live`."""
    about = "Use data that the configured plugins collect from this host within a second. Nothing on the host is changed."
    live = click.option("--live", is_flag=True, help=about)
    about = "A snapshot as JSON; - is standard input.  [default: a small example]"
    file = click.option("--snapshot", "snapshot_path", metavar="FILE", default=None, type=click.Path(path_type=Path), help=about)
    return file(live(function))


@dataclass(slots=True)
class PolicyInputs:
    """Policies for a subcommand, with declarations. `texts` and `files` are keyed by policy name."""

    texts: dict[str, str]
    files: dict[str, str]
    declarations: Declarations

    def compiled(self, sample: Snapshot) -> Policy:
        """Compile the policies to one program. If there are mistakes, print them and exit with 2.

        :param sample: snapshot; all its fields count as declared
        """
        try:
            return Policy.compile(self.texts, with_fields_of(sample, self.declarations))
        except PolicyError as error:
            for problem in error.problems:
                click.echo(self.with_excerpt(problem.source, f"{problem.kind}: {problem.message}"), err=True)
            sys.exit(2)

    def located(self, source: Source) -> str:
        """Return a position as `file:line:column`."""
        where = printable(self.files.get(source.name) or source.name, 400)
        return f"{where}:{source.line}:{source.column}" if source.line else where

    def with_excerpt(self, source: Source, message: str) -> str:
        """Add position and, unless it is very long, the policy's line to a message, with a caret below the column."""
        head = printable(f"{self.located(source)}: {message}", 2000)
        lines = self.texts.get(source.name, "").removeprefix("\ufeff").split("\n")
        if not 0 < source.line <= len(lines) or len(lines[source.line - 1]) > _LONGEST_EXCERPT:
            return head
        shown = "".join(c if c.isprintable() or c == "\t" else "\u00b7" for c in lines[source.line - 1].rstrip())
        blank = re.sub(r"[^\t]", " ", shown.ljust(source.column)[: source.column - 1])
        return f"{head}\n    {shown}\n    {blank}^"

    def plain(self, value: Any) -> Any:
        """Convert a value or record for JSON."""
        if isinstance(value, Host):
            return {"host": value.name}
        if isinstance(value, Guest):
            return {"guest": value.name, "id": value.id}
        if isinstance(value, Disk):
            return {"disk": self.plain(value.attributes)}
        if isinstance(value, Source):
            return {"policy": value.name, "file": self.files.get(value.name), "line": value.line, "column": value.column}
        if isinstance(value, Decision):
            scope, identity, name = value.entity
            of = {"scope": scope, "entity": name, "id": identity, "control": value.control, "value": value.value, "reason": value.reason}
            return {**self.plain(value.source), **self.plain(of)}
        if isinstance(value, Fault):
            of = {"kind": value.kind, "message": value.message, "guest": value.guest, "values": list(value.values)}
            return {**self.plain(value.source), **of}
        if isinstance(value, list | tuple | Guests):
            return [self.plain(inner) for inner in value]
        if isinstance(value, Mapping):
            return {str(key): self.plain(inner) for key, inner in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value if value is None or isinstance(value, bool | int | float | str) else show(value)


def written_value(value: Any) -> str:
    """Return a value in policy syntax."""
    if isinstance(value, list | tuple | Guests):
        return f"[{' '.join(map(written_value, value))}]"
    if isinstance(value, str):
        return printable(written_string(value), len(value) * 12 + 2)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return show(value)


def amount(value: Any) -> str:
    """Return a decided value as text, with digits in groups of three."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return mom_daemon.amount(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"


def policies_for(
    paths: Sequence[Path], config_path: str | None, *, defaults: bool = False, needed: bool = True, live: bool = False
) -> PolicyInputs:
    """Return the policies in `paths`. Without paths, return the configured policies; without a configuration, the default policies.

    :param defaults: add the default policies to those in `paths`
    :param needed: False to return no policies if `paths` is empty
    :param live: if `paths` is empty, use the policies in force in a running mom
    :raises MomError: unreadable files, or a configuration without policies
    """
    config = configured(config_path)
    declarations = mom_daemon.declarations_of(config)
    settings: Any = config.plugins["policy"].settings if config is not None and "policy" in config.plugins else None
    policies, beside = Texts(), defaults
    if paths:
        policies = read_paths(paths)
    elif needed and live and config is not None and (running := _in_force(config)) is not None:
        texts = {name: policy.text for name, policy in running.items()}
        files = {name: policy.origin for name, policy in running.items() if policy.origin.startswith("/")}
        policies, beside = Texts(texts, files), False
    elif needed and settings is not None:
        become_owner(*(path for path in (settings.directory, settings.file) if path is not None))
        policies, beside = read_policies(settings.directory, settings.file), settings.wants_defaults
    elif needed and config is not None and not defaults:
        message = f"{config.file} does not enable the policy plugin, so mom uses no policies"
        raise MomError(message, hint="give the path of a policy file, or use --defaults for the plugins' default policies")
    elif needed:
        beside = True
    return PolicyInputs({**(declarations.policies if beside else {}), **policies.usable().texts}, policies.files, declarations)


def _in_force(config: Config) -> Mapping[str, PolicyState.Text] | None:
    try:
        policies, where = mom_daemon.ask(config, lambda running: running.policies())
    except mom_daemon.NotRunning:
        return None
    click.echo(f"using the policies in force, from {printable(where, 400)}", err=True)
    return policies


def configured(path: str | None) -> Config | None:
    """Load the configuration at `path`. Without a path, load the usual configuration; return None if it does not exist."""
    return None if path is None and not USUAL_CONFIG.exists() else load_config(path)


def with_fields_of(sample: Snapshot, declarations: Declarations) -> Declarations:
    """Return the declarations, with all fields of a snapshot and its history added."""
    occurring = fields_in((sample, *sample.history))
    fields = {(scope, name): FieldSpec(name, Unit.TEXT, scope, "in the snapshot") for scope, name in occurring}
    return dataclasses.replace(declarations, fields={**fields, **declarations.fields})


def snapshot_for(path: Path | None, config_path: str | None, declarations: Declarations, *, live: bool) -> Snapshot:
    """Return a snapshot: from the file `path`, of this host if `live`, otherwise the example.

    :raises ConfigError: with all mistakes in the file
    """
    if path is not None and live:
        raise click.UsageError("--snapshot and --live exclude each other")
    if live:
        return live_snapshot(config_path)
    sample = read_snapshot(path or EXAMPLE)
    for (scope, name), entity in fields_in((sample,)).items() if path is not None else ():
        if (scope, name) not in declarations.fields:
            hint = did_you_mean(name, [each for of, each in declarations.fields if of == scope])
            advice = f" ({hint})" if hint else ""
            field = f"the field {name} of {brief(entity.name, 80)}"
            print_prose(f"mom: warning: {brief(str(path), 200)}: no plugin declares {field}{advice}", 2, err=True)
    return declarations.derived(sample)


def live_snapshot(config_path: str | None) -> Snapshot:
    """Return a snapshot of this host, from two samples."""
    config = load_config(config_path)
    logging.getLogger("mom.engine").addHandler(logging.NullHandler())  # problems are printed below
    with tempfile.TemporaryDirectory(prefix="mom-policy-") as folder:
        plugins = {name: plugin for name, plugin in config.plugins.items() if name != "policy"}
        state, run = Path(folder) / "state", Path(folder) / "run"
        observing = dataclasses.replace(config, mode="observe", plugins=plugins, state_directory=state, run_directory=run)
        with Engine(observing, serve=False) as engine:
            first = engine.cycle().snapshot
            time.sleep(1.0)
            report = engine.cycle()
    for problem in report.problems:
        advice = f" ({brief(problem.hint, 300)})" if problem.hint else ""
        print_prose(f"mom: warning: {problem.source}: {brief(problem.message, 300)}{advice}", 2, err=True)
    return dataclasses.replace(report.snapshot, history=(first,))
