"""`mom doctor`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import click

from mom_core import (
    Config,
    ControlSpec,
    Finding,
    Guest,
    GuestPattern,
    MomError,
    PluginError,
    Scope,
    Severity,
    StateError,
    count_of,
    first_names,
    load_config,
)
from mom_core.engine.problems import SEE_DOCTOR
from mom_core.files import DEFAULT_CONFIG, advice_when_denied
from mom_core.ledger import FILE as LEDGER
from mom_core.ledger import Ledger
from mom_core.lock import holder
from mom_core.plugins.bounded import describe
from mom_core.plugins.registry import PluginSet, build_plugins
from mom_core.state_files import ADVICE, set_aside_below
from mom_daemon import as_caller, become_owner, brief, json_option, print_prose
from mom_daemon.cli.options import config_argument
from mom_daemon.cli.output import mark
from mom_daemon.config.draft import draft_config, fitting
from mom_daemon.look.here import how_to_act, may_exist
from mom_daemon.plugins.declared import about_enabled, findings_in
from mom_daemon.report_words import headline
from mom_daemon.status_file import read_status
from mom_kvm import Helper, root_cure

Said: TypeAlias = "tuple[str, Finding]"


@click.command("doctor")
@config_argument
@json_option
@as_caller  # until the configuration, possibly the caller's, is read
def doctor_command(config_path: str | None, as_json: bool) -> None:
    """Examine this host and print its faults with their fixes. Exit code 1 for any fault. Changes nothing."""
    findings = list(_examine(config_path))
    _show(findings, as_json)
    if any(finding.severity is Severity.ERROR for _, finding in findings):
        sys.exit(1)


def _core(severity: Severity, subject: str, message: str, cure: str = "") -> Said:
    return "core", Finding(severity, subject, message, cure)


def _examine(config_path: str | None) -> Iterator[Said]:
    config = yield from _configuration(config_path)
    owner = become_owner(config.state_directory, config.run_directory)
    if owner is not None:
        yield _core(Severity.OK, "user", f"mom's folders belong to {owner.name}: mom doctor now runs as {owner.name}")
    yield from _folders(config)
    pid = holder(config.run_directory)
    if pid:
        yield from _daemon(config, pid)
    yield from _ledger(config, running=bool(pid))
    yield from _to_add(config)
    plugins = yield from _build(config)
    if plugins is not None:
        try:
            yield from _helper(plugins)
            if os.access(config.state_directory, os.X_OK):  # otherwise unreadable, and already reported
                yield from _files_of_state(plugins)
            yield from _of_plugins(plugins, config)
        finally:
            plugins.close(2.0)


def _configuration(config_path: str | None) -> Generator[Said, None, Config]:
    if config_path is None and not DEFAULT_CONFIG.exists():
        advice = "`mom config init` writes this file; until then, mom doctor checks the configuration that this command would write"
        yield _core(Severity.WARNING, "configuration", f"there is no {DEFAULT_CONFIG}", advice)
        draft = draft_config(Path("/"))
        yield from ((name, Finding(Severity.OK, "plugin", f"left out: {reason}")) for name, reason in draft.left_out.items())
        settings = {name: suggestion.settings for name, suggestion in draft.enabled.items()}
        return load_config({"plugins": settings}) if settings else Config()
    config = load_config(config_path)
    yield _core(Severity.OK, "configuration", f"{config.file} is fine")
    if config.mode == "observe":
        yield _core(Severity.OK, "mode", f"{config.file} makes mom observe: mom decides, but changes nothing", how_to_act(config))
    return config


def _to_add(config: Config) -> Iterator[Said]:
    fits = {} if config.file is None else fitting(config)
    if fits:
        named = ", ".join(f"{name} ({reason})" for name, reason in fits.items())
        cure = "`mom config init -o -` prints lines for these plugins: add the lines below `plugins`, then: systemctl reload mom"
        yield _core(Severity.OK, "plugins", f"plugins that fit this host, but are not enabled: {named}", cure)
    yield from (("core", finding) for finding in about_enabled(config))


def _folders(config: Config) -> Iterator[Said]:
    state = config.state_directory
    if os.geteuid() != 0 and not _owns(state):
        text = "mom doctor does not run as root: checks that need root fail"
        yield _core(Severity.WARNING, "user", text, "run `mom doctor` as the user that mom runs as")
    for directory in (state, config.run_directory):
        nearest = next(path for path in (directory, *directory.parents) if may_exist(path))
        if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
            cure = f"{advice_when_denied(directory)}; or set another folder in the configuration"
            yield _core(Severity.ERROR, "files", f"{nearest} is not writable", cure)


def _owns(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _daemon(config: Config, pid: int) -> Iterator[Said]:
    try:
        status = read_status(config.run_directory)
    except MomError as error:
        yield _core(Severity.WARNING, "daemon", error.message, error.hint)
    else:
        late = status is not None and status.late
        yield _core(Severity.ERROR if late else Severity.OK, "daemon", f"mom runs as process {pid}" + (", and has hung" if late else ""))
        for condition in () if status is None else status.verdict.conditions:
            if condition.severity is not Severity.OK:
                why = f" ({condition.why})" if condition.why else ""
                cure = condition.cure.removesuffix(SEE_DOCTOR).removesuffix("; ")  # this is `mom doctor`
                yield _core(condition.severity, "verdict", f"{headline(condition)}{why}", cure)
    if not _is_watched(pid):
        text = "mom was started without a watchdog: if mom hangs or dies, nothing undoes its changes"
        yield _core(Severity.WARNING, "watchdog", text, "start mom as a service, or call `mom restore --if-unclean` when it has exited")


def _is_watched(pid: int) -> bool:
    try:
        return b"WATCHDOG_USEC=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return True


def _ledger(config: Config, *, running: bool) -> Iterator[Said]:
    by_hand = "find mom's changes in it, restore the original values by hand, then delete the file"
    for path in set_aside_below(config.state_directory):
        of_ledger = path.name.startswith(f"{LEDGER}.")
        subject, cure = ("ledger", by_hand) if of_ledger else ("state", ADVICE)
        yield _core(Severity.WARNING, subject, f"mom could not use a {subject} file, and renamed it to {path}", cure)
    try:
        ledger = Ledger.open(config.state_directory, look=True)
    except MomError as error:
        yield _core(Severity.ERROR, "ledger", error.message, error.hint)
        return
    if ledger.file.damage:
        yield _core(Severity.ERROR, "ledger", ledger.file.damage, by_hand)
    if ledger.entries and not running:
        text = f"not undone: {count_of(len(ledger.entries), 'change')} of an earlier run"
        yield _core(Severity.WARNING, "ledger", text, "`mom restore` undoes them")


def _helper(plugins: PluginSet) -> Iterator[Said]:
    if os.geteuid() == 0:
        return
    helper = Helper.reached()
    if helper is None:  # each plugin reports the effect itself; under vdsm, there is no effect
        text = "mom does not run as root, and mom-helper is not running: mom makes no changes that need root"
        yield _core(Severity.OK, "mom-helper", text, root_cure())
        return
    try:
        declared = helper.declared()
    except OSError as error:
        yield _core(Severity.ERROR, "mom-helper", f"{error.strerror}", "systemctl status mom-helper.socket mom-helper")
        return
    names = ", ".join(sorted(declared)) or "nothing"
    yield _core(Severity.OK, "mom-helper", f"it makes the changes that need root; root allows it to write {names}")
    for plugin in plugins.plugins:
        for control in plugin.controls.values():
            writes_itself = control.scope is Scope.HOST and os.access(control.file, os.W_OK)
            if control.file and control.file not in declared and not writes_itself:
                yield plugin.name, _undeclared(control)


def _undeclared(control: ControlSpec) -> Finding:
    try:
        cure = Helper.cure(Helper.declaration(control))
    except ValueError:  # the control has no bounds
        cure = root_cure(control.file)
    return Finding(Severity.WARNING, control.name, f"mom cannot set this: root has not declared {control.file} for mom-helper", cure)


def _files_of_state(plugins: PluginSet) -> Iterator[Said]:
    for plugin in plugins.plugins:
        for file in plugin.context.state_files:
            try:
                file.look()
            except StateError as error:
                cure = f"mom starts without it: {file.loss}" if file.loss else "mom starts without it"
                yield plugin.name, Finding(Severity.WARNING, "state", error.message, f"{error.hint}; {cure}")


def _build(config: Config) -> Generator[Said, None, PluginSet | None]:
    while True:
        try:
            return build_plugins(config)
        except PluginError as error:
            yield from ((each.plugin, Finding(Severity.ERROR, "plugin", each.message, each.hint)) for each in error.errors)
            config = config.with_only(config.plugins.keys() - {each.plugin for each in error.errors})
        except MomError as error:
            yield _core(Severity.ERROR, "plugins", error.message, error.hint)
            return None


def _of_plugins(plugins: PluginSet, config: Config) -> Iterator[Said]:
    owner, hypervisor = plugins.hypervisor_owner, None
    if owner is not None:
        try:
            guests = list(owner.worker.call("guests", plugins.hypervisor.guests))
        except BaseException as error:  # noqa: BLE001  # doctor reports any error of a plugin
            if "mom_doctor" not in owner.hooks:  # otherwise the plugin reports the fault, with its fix
                text = f"{plugins.hypervisor.uri} does not list its guests: {describe(error)}"
                yield owner.name, Finding(Severity.ERROR, "hypervisor", text, getattr(error, "hint", ""))
        else:
            hypervisor = plugins.hypervisor
            yield from _patterns(config, guests)
    for hook, arguments in (("mom_check", {}), ("mom_doctor", {"hypervisor": hypervisor})):
        for plugin in plugins.having(hook):
            try:
                answer = plugin.worker.call(hook, plugin.work(hook, **arguments), 30.0)
            except BaseException as error:  # noqa: BLE001  # any error is a finding
                yield plugin.name, Finding(Severity.ERROR, "plugin", f"{hook} failed: {describe(error)}")
            else:
                yield from ((plugin.name, item) for item in findings_in(hook, answer))


def _patterns(config: Config, guests: Sequence[Guest]) -> Iterator[Said]:
    # A hypervisor may not have read the properties of all guests yet: judge only patterns of names.
    patterns = [rule.pattern for rule in config.guests if "=" not in rule.pattern]
    unmatched = [pattern for pattern in patterns if not any(map(GuestPattern.of(pattern).matches, guests))]
    if guests and unmatched:
        message = f"these patterns of `guests` match no guest here: {first_names(unmatched, 10)}"
        yield _core(Severity.WARNING, "guests", message, "correct the patterns that should match guests")


def _show(findings: list[Said], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"plugin": plugin, **dataclasses.asdict(finding)} for plugin, finding in findings], indent=2))
        return
    order = [Severity.OK, Severity.WARNING, Severity.ERROR]
    for plugin, finding in sorted(findings, key=lambda pair: order.index(pair[1].severity)):
        print_prose(f"{mark(finding.severity)}  {plugin}: {brief(finding.subject, 80)}: {brief(finding.message, 400)}", 7)
        if finding.cure:
            print_prose(f"       → {brief(finding.cure, 400)}", 9)
    bad = sum(finding.severity is Severity.ERROR for _, finding in findings)
    warned = sum(finding.severity is Severity.WARNING for _, finding in findings)
    print_prose("Everything is fine." if not bad + warned else f"{bad} error{'s' * (bad != 1)}, {warned} warning{'s' * (warned != 1)}.", 2)
