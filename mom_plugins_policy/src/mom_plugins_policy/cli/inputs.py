"""Inputs of most subcommands: policies, declarations and a snapshot."""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mom_core import Declarations, FieldSpec, MomError, Snapshot, Unit, printable
from mom_daemon import become_owner, brief, print_prose
from mom_plugins_policy.cli.output import with_excerpt
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.policy import Policy, fields_in
from mom_plugins_policy.snapshots import EXAMPLE, did_you_mean, read_snapshot
from mom_plugins_policy.sources import Texts, read_paths, read_policies

if TYPE_CHECKING:
    from mom_core import Config
    from mom_kvm import PolicyState

EXIT_NO: Final = 1
EXIT_MISUSE: Final = 2

USUAL_CONFIG: Final = Path("/etc/mom/mom.yaml")


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
            for fault in error.faults[:100]:
                click.echo(self.excerpt(fault), err=True)
            if len(error.faults) > 100:
                click.echo(f"mom: and {len(error.faults) - 100:,} more", err=True)
            sys.exit(EXIT_MISUSE)

    def excerpt(self, fault: Fault) -> str:
        """Return the text of a mistake, with its position and the policy's line."""
        return with_excerpt(fault.source, fault.text, self.texts, self.files)


def policies_for(
    paths: Sequence[Path], config_path: str | None, *, defaults: bool = False, needed: bool = True, live: bool = False
) -> PolicyInputs:
    """Return the policies in `paths`. Without paths, return the configured policies; without a configuration, the default policies.

    :param defaults: add the default policies to those in `paths`
    :param needed: False to return no policies if `paths` is empty
    :param live: if `paths` is empty, use the policies in force in a running mom
    :raises MomError: unreadable files, or a configuration without policies
    """
    from mom_daemon import declarations_of

    config = configured(config_path)
    declarations = declarations_of(config)
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
    from mom_daemon import ask

    answer = ask(config, lambda running: running.policies())
    if answer is None:
        return None
    policies, where = answer
    click.echo(f"using the policies in force, from {printable(where, 400)}", err=True)
    return policies


def configured(path: str | None) -> Config | None:
    """Load the configuration at `path`. Without a path, load the usual configuration; return None if it does not exist."""
    from mom_core import load_config

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
    from mom_core import Engine, load_config

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
