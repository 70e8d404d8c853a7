"""All hooks, by phase.

A plugin is a class that takes `(settings, context)`, named by an entry point of the group `mom.plugins`. Its methods marked `@hookimpl`
implement hooks. All hooks are optional, and a method may omit arguments. The plugin's distribution requires the mom-core versions that it
was built for, for example `mom-core>=0.1,<1`.

- Each plugin has its own thread, which runs one call at a time. Plugins run in parallel.
- mom abandons a call that exceeds the plugin's `deadline`, and continues. It calls the plugin again after that call has returned.
- An exception is counted and reported. mom pauses a plugin that keeps failing, and retries it at growing intervals.
- mom drops and reports values of wrong types, and uses the rest.
- *File order* is the order of the plugins in the configuration file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mom_core.columns import Columns
    from mom_core.context import PluginContext
    from mom_core.errors import HypervisorError
    from mom_core.hypervisor import Hypervisor
    from mom_core.model import (
        Change,
        Condition,
        ControlSpec,
        Decision,
        Declaration,
        Finding,
        Guest,
        Problem,
        Report,
        Revision,
        Snapshot,
        Target,
        Value,
    )

PROJECT = "mom"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Decorator of a method that implements the hook of the same name."""

OF_VERBS = frozenset({"mom_doctor", "mom_status", "mom_explainer", "mom_suggest", "mom_source"})
"""Hooks in `mom_daemon.hookspecs`, which serve commands."""


# --- declare: once, after all plugins are constructed and before any is set up -------------------------------------------------


@hookspec
def mom_declare() -> Iterable[Declaration]:
    """Return `FieldSpec`, `ControlSpec`, `DefaultPolicy` and `GuestColumn` declarations.

    - Fields that the plugin may collect. `FieldSpec.reads` declares fields of other plugins that this plugin reads if they exist. Plugins
      may share a field if they agree on its unit. The first plugin in file order with a value wins.
    - Controls that the plugin reads and writes. Two plugins with the same control are a configuration error.
    - Default policies for its controls.
    - Columns for tables of guests.
    """


@hookspec
def mom_services() -> Mapping[type, Any]:
    """Return objects for other plugins, keyed by protocol: `{PolicyTexts: self._texts}`.

    Other plugins get them with `context.service(PolicyTexts)`, from any thread. Called before any plugin is set up; a service raises
    `MomError` before this plugin's `mom_setup`.
    """


@hookspec
def mom_check() -> Iterable[Finding]:
    """Return mistakes in this plugin's configuration that a single setting does not show, for example a missing declaration.

    Called by `mom config check` and `mom doctor` on any machine, without `mom_setup`. `context.declarations` is complete. Read only
    configuration and change nothing. Any ERROR makes `mom config check` fail.
    """


# --- life ----------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_setup(context: PluginContext) -> None:
    """Open connections and files, start threads. Called once, before the first cycle.

    `context.declarations` is complete. Any exception keeps the daemon from starting: do not raise for a service that may come back, for
    example a restarting hypervisor. Time limit: 10 s, or `deadline` if longer.
    """


@hookspec
def mom_reload() -> Callable[[], None] | None:
    """Read this plugin's own files again; return a function that puts them in force.

    Called at a reload that does not change this plugin's settings. If this hook raises, no plugin is reloaded. If no plugin raises, mom
    calls the returned function in the plugin's thread, within its deadline.
    """


@hookspec
def mom_teardown() -> None:
    """Close everything, within 0.4 s. Called once, after mom undid its changes; also called if `mom_setup` failed.

    Plugins with a hypervisor come last. If the plugin has hung, this call follows when the hung call returns; a new instance may already
    be running.
    """


@hookspec(firstresult=True)
def mom_hypervisor() -> Hypervisor | None:
    """Return the hypervisor to manage. Called once, after `mom_setup`; the first hypervisor in file order wins."""


# --- collect: at the start of each cycle, all plugins at once ----------------------------------------------------------------------


@hookspec
def mom_collect_host(hypervisor: Hypervisor) -> Mapping[str, Value]:
    """Return the host's current fields, keyed by name. Omit unknown fields, or set them to None."""


@hookspec
def mom_collect_guests(hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]] | Columns:
    """Return the current fields of all `guests`, keyed by guest id, then by field name.

    Omit vanished guests and unknown fields. `Columns` are faster for thousands of guests: a value per guest for each field, None where
    unknown.
    """


@hookspec
def mom_derive(snapshot: Snapshot, history: Sequence[Snapshot]) -> Snapshot.Derived:
    """Return fields computed from the collected ones, for example the suggestion of a control law.

    Called between collection and evaluation, and during replay, where the result replaces the recorded fields. All plugins get the same
    snapshot, without derived fields. Declare derived fields like collected fields.

    :param history: earlier snapshots, oldest first, up to the configured number
    """


# --- evaluate ------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_evaluate(snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | Decision.Trial | Problem]:
    """Return decisions, decisions on trial, and problems that prevented a decision.

    If several evaluators decide the same control of an entity in one cycle, mom drops all decisions but the first in file order.

    :param history: earlier snapshots, oldest first, up to the configured number
    """


@hookspec
def mom_act(snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision]:
    """Return acts: decisions that are independent of the evaluators.

    Examples: migrate a guest, restore its guarantee, set a base value for policies. An act yields only to an earlier plugin in file order
    that decides the same control in the same cycle.

    Called after all evaluators.
    """


@hookspec
def mom_problems(snapshot: Snapshot) -> Iterable[Problem | Condition]:
    """Return faults that this plugin detects in this cycle.

    A `Problem` is about single guests or this plugin's part of the host. A `Condition` is about the whole host and enters the verdict.
    Return each fault in every cycle while it lasts. While a plugin does not answer, its conditions persist.

    Called after `mom_act` and before any control is changed.
    """


@hookspec
def mom_review(snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
    """Return changes to the decisions, each with a reason. Omit unchanged decisions.

    Reviewers run in file order, each on the result of the previous reviewer. The core reviews first: it drops decisions with unknown
    entities, unknown controls or impossible values, and resolves conflicts by file order. At the end the core checks the bounds again.
    """


# --- control -------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_read(hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | ControlSpec.InTransition | HypervisorError]:
    """Return the current values of these controls. Change nothing.

    Called before and after a write, and on restore, possibly in a process that has not collected anything. Omit unknown values, or set them
    to None. A value may also be an error:

    - `GuestGone`: the guest does not exist any more.
    - `NotSupported`: this control does not exist here.
    - `Refused`: the kernel or another process has taken control; mom must not set it now.
    - any other `HypervisorError`: the value cannot be read.

    If the hook raises one of these errors, the error applies to all targets.
    """


@hookspec
def mom_write(hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError | str] | None:
    """Set these controls, in any order. Return the reason for each failed change; omit successes.

    The ledger already contains the original values. Afterwards the engine calls `mom_read` and judges the result. Not called in observe
    mode.
    Return for a target:

    - `Refused` or `NotSupported`: nothing was sent.
    - `GuestGone`: the guest does not exist any more.
    - `NoChangeNeeded`: nothing had to be sent. On restore, the message says why the present value stays.
    - any other `HypervisorError`: the change may have failed, for example without an answer.
    - a string: a remark on a successful change.

    If the hook raises one of these errors, the error applies to all changes. If `change.back` is true, mom restores the original value:
    return `NoChangeNeeded` for an act that cannot be undone, such as a finished migration.
    """


# --- after ---------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_report(report: Report) -> None:
    """Record, count or show one finished cycle. The report is frozen and safe to keep."""
