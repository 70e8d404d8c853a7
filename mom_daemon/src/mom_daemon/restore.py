"""`mom restore`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Collection, Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import click

from mom_core import (
    Config,
    Declarations,
    EngineState,
    Entity,
    LedgerEntry,
    MomError,
    Outcome,
    PluginContext,
    PluginError,
    Status,
    count_of,
    is_there,
    load_config,
)
from mom_core.engine.restore import restore
from mom_core.ledger import FILE, Ledger, changes_left
from mom_core.lock import RESTORE_SECONDS, RunLock, holder
from mom_core.plugins.registry import PluginSet, build_plugins, constructed, joined
from mom_daemon import amount, as_caller, become_owner, brief, json_option, print_prose
from mom_daemon.cli.options import config_argument
from mom_daemon.supervision import IN_FORCE, config_as_left, take_keep

NOTHING: Final = "Nothing to restore."


@click.command("restore")
@config_argument
@click.option("--dry-run", is_flag=True, help="Only show the changes to undo; works also while mom is running.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=60.0, show_default=True, help="Time limit in seconds.")
@click.option("--if-unclean", is_flag=True, help="Restore only if no mom is running, and none is about to take over.")
@click.option(
    "--as-left",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Use the last configuration that was in force, if this run directory contains a copy.",
)
@json_option
@as_caller  # until the owner of the changes is known
def restore_command(config_path: str | None, dry_run: bool, timeout: float, if_unclean: bool, as_left: Path | None, as_json: bool) -> None:
    """Restore the values that an earlier run of mom changed and did not restore, such as after a crash or power failure.

    --if-unclean is for a supervisor that runs this command whenever mom has exited. If mom had completed a cycle, or was told to keep its
    changes, the changes stay for the next start of mom. If the next run exits before it completes a cycle, the command restores all values.

    Exit code 1 if a value could not be restored; the value stays in the ledger for the next attempt.
    """
    if as_left is not None:
        become_owner(as_left)  # the owner of the run directory wrote the files
    left = as_left is not None and (as_left / IN_FORCE).exists()
    if if_unclean and as_left is not None and config_path is None and not left:
        _tell_nothing(NOTHING, as_json=as_json)  # if mom leaves changes, it also leaves the copy
        return
    try:
        config = _config(config_path, as_left if left else None)
    except MomError:
        if as_left is None or not _holds_nothing(Config().state_directory):
            raise
        _tell_nothing(NOTHING, as_json=as_json)  # for example, the configuration was removed before the package
        return
    become_owner(config.state_directory, config.run_directory, made=None if dry_run else config.run_directory)
    reason = _why_not(config, look=dry_run) if if_unclean else ""
    if reason:
        _tell_nothing(reason, as_json=as_json)
        return
    with nullcontext() if dry_run else RunLock(config.run_directory, RESTORE_SECONDS):
        ledger = Ledger.open(config.state_directory, look=dry_run)
        if ledger.file.damage:
            raise MomError(ledger.file.damage, hint="the changes of an earlier run of mom are unknown")
        entries = list(ledger.entries.values())
        if dry_run or not entries:
            _show_entries(config, entries, as_json)
            return
        changes = EngineState(changes=entries)
        plugins = set_up(config, entries, PluginContext(serves=False, engine_state=lambda: changes))
        try:
            outcomes = restore(plugins, ledger, timeout)
        finally:
            plugins.close(2.0)
    _show_outcomes(outcomes, plugins.declarations, as_json)
    if any(outcome.status in {Status.FAILED, Status.REFUSED} for outcome in outcomes):
        sys.exit(1)


def _config(config_path: str | None, as_left: Path | None) -> Config:
    if as_left is not None:
        try:
            return config_as_left(as_left)
        except MomError as error:
            print_prose(f"mom: {error}", 2, err=True)
    return load_config(config_path)


def _holds_nothing(state: Path) -> bool:
    become_owner(state)
    if not is_there(state / FILE):
        return False
    ledger = Ledger.open(state, look=True)
    return not ledger.entries and not ledger.file.damage


def _why_not(config: Config, *, look: bool) -> str:
    pid = holder(config.run_directory)
    if pid:
        return f"mom runs as process {pid}, and restores the values itself."
    kept = not look and take_keep(config.run_directory)
    left = changes_left(config.state_directory)
    if not left:
        return NOTHING
    return f"mom keeps {count_of(left, 'change')} for its next start; `mom restore` restores the original values now." if kept else ""


def set_up(config: Config, entries: Collection[LedgerEntry], template: PluginContext) -> PluginSet:
    """Set up the plugins (configured or not) that own changed controls, with their hypervisors and collectors.

    Omit a plugin whose setup fails.

    :raises MomError: nothing can be restored, or a hypervisor's setup fails
    """
    config = _with_those_left_out(config, entries)
    controls = {entry.control for entry in entries}
    owners = {entry.plugin for entry in entries}
    knowing = config.having("mom_hypervisor")
    needed_names = owners | knowing | (config.having("mom_services") & config.having("mom_declare"))
    with constructed(config.with_only(config.having("mom_declare") - needed_names), []) as looked_at:
        declared = joined((plugin for plugin in looked_at if plugin.declared), [])
    owners |= {name for control, name in declared.control_owners.items() if control in controls}
    needed = config.with_only(needed_names | owners)
    while True:
        try:
            return build_plugins(needed, template, declared=Declarations(declared.fields))
        except PluginError as error:
            broken = {failure.plugin for failure in error.errors}
            if broken & knowing or not needed.plugins.keys() & owners - broken:
                raise
            print_prose(f"mom: {error}", 2, err=True)
            needed = needed.with_only(needed.plugins.keys() - broken)


def _with_those_left_out(config: Config, entries: Collection[LedgerEntry]) -> Config:
    # Add unconfigured plugins with changes, unless another plugin now has their control.
    lost = [entry for entry in entries if entry.plugin not in config.plugins]
    if not lost:
        return config
    with constructed(config.with_only(config.having("mom_declare")), []) as plugins:
        present = {control for plugin in plugins for control in plugin.controls}
    added = dict(config.plugins)
    for name in sorted({entry.plugin for entry in lost if entry.control not in present}):
        with suppress(MomError):  # not installed, or requires settings
            defaults = load_config({"plugins": {name: {}}})
            if not defaults.having("mom_hypervisor"):  # a configuration has only one hypervisor
                added |= defaults.plugins
    return dataclasses.replace(config, plugins=added)


def _print_json(rows: Iterable[tuple[Entity, dict[str, object]]]) -> None:
    click.echo(json.dumps([{"entity": entity.name, "id": entity.id, **row} for entity, row in rows], indent=2))


def _tell_nothing(why: str, *, as_json: bool) -> None:
    print_prose(why, 2, err=as_json)
    if as_json:
        _print_json([])


def _show_entries(config: Config, entries: list[LedgerEntry], as_json: bool) -> None:
    if as_json:
        names = ("control", "before", "applied", "found", "in_doubt")
        _print_json((entry.entity, {name: getattr(entry, name) for name in names}) for entry in entries)
        return
    if not entries:
        print_prose(NOTHING, 2)
        return
    config = _with_those_left_out(config, entries)
    with constructed(config.with_only(config.having("mom_declare")), []) as plugins:
        declared = joined((plugin for plugin in plugins if plugin.declared), [])
    for entry in entries:
        unit = _unit(declared, entry.control)
        doubt = " (mom exited before it recorded the result)" if entry.in_doubt else ""
        applied, before = amount(entry.applied, unit), amount(entry.before, unit)
        print_prose(f"{entry.entity}: {entry.control} was set to {applied} by mom, and would be restored to {before}{doubt}", 2)


def _row(outcome: Outcome) -> dict[str, object]:
    decision, ended = outcome.decision, {"after": outcome.after, "status": outcome.status, "error": outcome.error}
    return {"control": decision.control, "value": decision.value, "found": outcome.before, **ended}


def _show_outcomes(outcomes: list[Outcome], declared: Declarations, as_json: bool) -> None:
    if as_json:
        _print_json((one.decision.entity, _row(one)) for one in outcomes)
        return
    words = {
        Status.APPLIED: "restored to",
        Status.UNCHANGED: "already has its original value",
        Status.GONE: "no longer exists; its original value was",
        Status.LEFT_ALONE: "not restored, because another process has changed it since; its original value was",
    }
    for outcome in outcomes:
        decision = outcome.decision
        word = words.get(outcome.status, "NOT restored to")
        error = f" ({brief(outcome.error, 200)})" if outcome.error else ""
        value = amount(decision.value, _unit(declared, decision.control))
        print_prose(f"{decision.entity}: {decision.control} {word} {value}{error}", 2)


def _unit(declared: Declarations, control: str) -> str:
    return declared.controls[control].unit if control in declared.controls else ""
