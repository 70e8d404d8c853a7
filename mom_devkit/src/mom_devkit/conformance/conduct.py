"""Checks of how a plugin behaves at work: construction, results, times, an empty host, guests that come and go, reload."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from mom_core import (
    Condition,
    Decision,
    Finding,
    Guest,
    HypervisorError,
    MomError,
    PluginContext,
    Problem,
    Report,
    Revision,
    Severity,
    Snapshot,
    attempt,
)
from mom_core.cli.verbs import GROUP as COMMANDS
from mom_core.engine.collect import Collector, host_properties
from mom_core.engine.verdict import accepted
from mom_core.plugins.bounded import describe
from mom_devkit.conformance.subject import ExaminedPlugin, Life, alive, configured
from mom_devkit.hypervisors import FakeGuest, FakeHypervisor

CONSTRUCTION_SECONDS: Final = 2.0
"""A constructor only keeps what it is given; two seconds are for a machine that swaps."""

DECLARATION_SECONDS: Final = 10.0
"""How long a constructor is waited for at all, as the daemon does."""

CYCLES: Final = 3
"""Enough for a plugin that computes rates to have one, and for a failure of `mom_report` to show."""


def construction(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Constructing it does nothing yet: no host is needed, nothing is opened or started, and it takes no time."""
    empty, state = subject.new_folder("empty"), subject.new_folder("state")
    context = PluginContext(name=subject.name, root=empty, state_directory=state / "state", run_directory=state / "run")
    settings = subject.read_settings()
    began = time.monotonic()
    made = attempt(lambda: subject.plugin_class(settings, context), seconds=DECLARATION_SECONDS, what="its constructor")
    seconds = time.monotonic() - began
    if made.error is not None:
        what = "open things in mom_setup: plugins are also constructed to check a configuration, where there is no host"
        yield subject.fault(f"it cannot be constructed on an empty host: {describe(made.error)}", what)
    elif seconds > CONSTRUCTION_SECONDS:
        yield subject.fault(f"its constructor takes {seconds:.1f} s", "do what takes time in mom_setup")
    if any(state.rglob("*")) or any(empty.rglob("*")):
        yield subject.fault("its constructor writes files", "do that in mom_setup")


def results(subject: ExaminedPlugin) -> Iterator[Finding]:
    """What its hooks return is of the declared types, nothing fails, and every call is done well within the deadline."""
    with alive(subject) as life:
        report = life.cycle()
        yield from _collected(subject, life)
        yield from _decided(subject, life, report.snapshot)
        for _ in range(CYCLES - 1):
            report = life.cycle()
        yield from _fared(subject, report)
        yield from _said_to_doctor(subject, life)
    yield from _commands(subject)


def _collected(subject: ExaminedPlugin, life: Life) -> Iterator[Finding]:
    plugins = life.engine.plugins
    if plugins.hypervisor_owner is not None and plugins.hypervisor_owner.name == subject.name:
        try:
            list(plugins.hypervisor.guests())
        except HypervisorError as error:
            yield subject.remark(
                f"its hypervisor cannot be reached here, so what needs guests was not checked: {error}", "give settings that reach one"
            )
            return
    _, problems = Collector(plugins).snapshot(0, 0.0, 0.0, host_properties(5.0))
    for problem in problems:
        if problem.source.name == subject.name:
            yield subject.fault(problem.message, "return what was declared; leave out, or set to None, what is unknown")


def _decided(subject: ExaminedPlugin, life: Life, snapshot: Snapshot) -> Iterator[Finding]:
    plugin = life.subject
    declared = plugin.controls
    decisions: list[Decision] = []
    for hook in [one for one in ("mom_evaluate", "mom_act") if one in plugin.hooks]:
        answer = plugin.worker.call(hook, plugin.work(hook, snapshot=snapshot, history=()))
        for item in answer if isinstance(answer, Iterable) else [answer]:
            if isinstance(item, Problem):
                continue
            if isinstance(item, Condition) and hook == "mom_act":
                said: list[Problem] = []
                accepted(plugin.name, [item], said)
                for problem in said:
                    yield subject.fault(problem.message, "each has a name that stays and a message")
                continue
            if not isinstance(item, Decision):
                yield subject.fault(f"{hook} gave a {type(item).__name__}", "yield Decision or Problem objects")
                continue
            decisions.append(item)
            if item.entity.id not in {snapshot.host.entity.id, *snapshot.guests}:
                yield subject.fault(f"{hook} decides about {item.entity}, which is not in the snapshot", "take entities from the snapshot")
            if item.control in declared and item.entity.scope is not declared[item.control].scope:
                yield subject.fault(
                    f"{hook} sets {item.control} on a {item.entity.scope}", f"it is a control of the {declared[item.control].scope}"
                )
            if not item.reason:
                yield subject.remark(f"a decision on {item.control} has no reason", "operators ask why: give `reason`")
    if "mom_review" in plugin.hooks:
        given = tuple(decisions)
        answer = plugin.worker.call("mom_review", plugin.work("mom_review", snapshot=snapshot, decisions=given))
        for revision in answer if isinstance(answer, Iterable) else [answer]:
            if not isinstance(revision, Revision):
                yield subject.fault(f"mom_review gave a {type(revision).__name__}", "yield Revision objects")
            elif not revision.reason:
                yield subject.fault("mom_review changed a decision without a reason", "say why")


def _fared(subject: ExaminedPlugin, report: Report) -> Iterator[Finding]:
    own = next(plugin for plugin in report.plugins if plugin.name == subject.name)
    unreachable = hasattr(subject.plugin_class, "mom_hypervisor") and own.last_error.startswith(HypervisorError.__name__)
    if own.failures and not unreachable:
        yield subject.fault(
            f"{own.failures} of {own.calls} calls failed: {own.last_error}", "a hook raises only when something is really wrong"
        )
    deadline = subject.read_settings().deadline
    for hook, seconds in own.durations.items():
        if seconds > deadline / 2:
            yield subject.remark(f"{hook} took {seconds:.2f} s of a deadline of {deadline:g} s", "recipes: a slow source")


def _said_to_doctor(subject: ExaminedPlugin, life: Life) -> Iterator[Finding]:
    plugin = life.subject
    if "mom_doctor" not in plugin.hooks:
        return
    for hypervisor in (life.engine.hypervisor, None):
        answer = plugin.worker.call("mom_doctor", plugin.work("mom_doctor", hypervisor=hypervisor))
        for finding in answer if isinstance(answer, Iterable) else [answer]:
            if not isinstance(finding, Finding):
                yield subject.fault(f"mom_doctor gave a {type(finding).__name__}", "yield Finding objects")
            elif finding.severity is Severity.ERROR and not finding.cure:
                yield subject.remark(f"mom_doctor says {finding.message!r:.80} and no cure", "say what to do")


def _commands(subject: ExaminedPlugin) -> Iterator[Finding]:
    package = subject.plugin_class.__module__.partition(".")[0]
    for point in entry_points(group=COMMANDS):
        if re.split("[.:]", point.value)[0] != package:
            continue
        try:
            command = point.load()
        except Exception as error:  # noqa: BLE001  # whatever its import raises is the finding
            yield subject.fault(f"the command {point.name} cannot be imported: {describe(error)}", "an entry names module:command")
            continue
        if not isinstance(command, click.Command):
            yield subject.fault(f"the command {point.name} is a {type(command).__name__}", "an entry names a click command")
        elif not (command.help or "").strip():
            yield subject.fault(f"the command {point.name} has no help", "write its docstring")


def empty_host(subject: ExaminedPlugin) -> Iterator[Finding]:
    """On a host that has nothing of what it looks for, it is set up all the same, and fails at most with an error that is reported."""
    root = subject.new_folder("nothing")
    try:
        with alive(subject, root=root, hypervisor=FakeHypervisor([])) as life:
            report = life.cycle()
    except MomError as error:
        what = "raise in the calls that need it: what mom_setup raises keeps the daemon from starting"
        yield subject.remark(f"it keeps mom from starting on a host without what it looks for: {error.message}", what)
        return
    for outcome in report.outcomes:
        if outcome.error:
            yield subject.remark(
                f"on an empty host, it tried to set {outcome.decision.control}: {outcome.error}", "decide nothing about what is unknown"
            )


def guests_that_come_and_go(subject: ExaminedPlugin) -> Iterator[Finding]:
    """A guest that vanishes, even within a cycle, and one that is new, are no error."""
    hypervisor = subject.fresh_hypervisor()
    if not isinstance(hypervisor, FakeHypervisor):
        return
    with alive(subject, hypervisor=hypervisor) as life:
        plugins = life.engine.plugins
        if plugins.hypervisor_owner is not None and plugins.hypervisor_owner.name == subject.name:
            return
        life.cycle()
        before = tuple(hypervisor.guests())
        name = next(iter(hypervisor.known), None)
        gone = hypervisor.known.pop(name) if name else None
        hypervisor.known["new"] = FakeGuest("new")
        yield from _asked_about_the_gone(subject, life, before)
        life.cycle()
        if gone is not None:
            gone.incarnation = "2"
            hypervisor.known[gone.name] = gone
        report = life.cycle()
        yield from _fared(subject, report)


def _asked_about_the_gone(subject: ExaminedPlugin, life: Life, listed: tuple[Guest, ...]) -> Iterator[Finding]:
    """The list of guests is older than what the hypervisor knows: that is what a guest that ends in a cycle looks like."""
    plugin = life.subject
    if "mom_collect_guests" not in plugin.hooks:
        return
    try:
        answer = plugin.worker.call("mom_collect_guests", plugin.work("mom_collect_guests", hypervisor=life.hypervisor, guests=listed))
    except Exception as error:  # noqa: BLE001  # whatever the plugin raises is the finding
        yield subject.fault(
            f"a guest that ends within a cycle costs the fields of all: {describe(error)}", "leave out a guest that has vanished"
        )
        return
    if not isinstance(answer, Mapping):
        yield subject.fault(f"mom_collect_guests gave a {type(answer).__name__}", "return a mapping by guest id")


def observing(subject: ExaminedPlugin) -> Iterator[Finding]:
    """While mom only observes, nothing on the host or its guests changes."""
    root, hypervisor = subject.new_host(), subject.fresh_hypervisor()
    before = _content(root), _guests_of(hypervisor)
    with alive(subject, root=root, hypervisor=hypervisor, mode="observe") as life:
        for _ in range(2):
            life.cycle()
    after = _content(root)
    changed = [name for name in before[0].keys() | after.keys() if before[0].get(name) != after.get(name)]
    if changed:
        yield subject.fault(f"in observe mode it wrote to {', '.join(sorted(changed)[:5])}", "change things in mom_write only")
    if _guests_of(hypervisor) != before[1]:
        yield subject.fault("in observe mode it changed guests", "change things in mom_write only")


def _content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _guests_of(hypervisor: object) -> str:
    return repr(hypervisor.known) if isinstance(hypervisor, FakeHypervisor) else ""


def reload(subject: ExaminedPlugin) -> Iterator[Finding]:
    """It takes new settings while mom runs, and a reload without any."""
    root, folder, hypervisor = subject.new_host(), subject.new_folder("life"), subject.fresh_hypervisor()
    with alive(subject, root=root, folder=folder, hypervisor=hypervisor) as life:
        life.cycle()
        first = life.subject.instance
        changed = {**subject.settings, "deadline": "7s"}
        for settings, what in ((changed, "with other settings"), (changed, "with the same settings")):
            config = configured(subject, life.wanted, hypervisor, root, folder, settings=settings)
            try:
                life.engine.reload(config)
            except MomError as error:
                yield subject.fault(
                    f"a reload {what} fails: {error.message}", "the new one is set up before the old one is torn down: share nothing"
                )
                return
        if life.subject.instance is first:
            yield subject.fault("a reload with other settings kept the old ones", "compare settings by value")
        for _ in range(2):
            report = life.cycle()
        fared = [replace(finding, message=f"after a reload, {finding.message}") for finding in _fared(subject, report)]
        yield from fared
