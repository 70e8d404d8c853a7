"""All hooks, by phase. This is the page that a plugin author reads first.

A plugin is a class, named by an entry point of the group `mom.plugins`, that takes `(settings, context)` and marks the methods that
implement hooks with `@hookimpl`. Every method is optional, and may leave out arguments that it does not need. Its distribution requires
the versions of mom-core that it was built for, such as `mom-core>=0.1,<1`.

Each plugin's hooks run in a thread of its own, one call at a time; different plugins run at the same time. A call that exceeds the
plugin's `deadline` is left behind: the cycle goes on without its result, and the plugin is not called again before it has come back. An
exception is counted and reported, and the other plugins' results stand. A plugin that keeps failing is set aside and tried again
later, at growing intervals. What a hook returns is checked: what is not of the declared type is dropped and reported, the rest is used.
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
        Decision,
        Declaration,
        Derived,
        Finding,
        Guest,
        InTransition,
        Problem,
        Report,
        Revision,
        ShadowDecisions,
        Snapshot,
        Target,
        Value,
    )

PROJECT = "mom"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's method as the implementation of the hook of that name. Arguments that it does not need may be left out."""

OF_VERBS = frozenset({"mom_doctor", "mom_status", "mom_explainer", "mom_suggest", "mom_importers", "mom_source"})
"""Hooks that `mom_daemon.hookspecs` specifies, with types of its own: verbs call them, the engine calls none."""


# --- declare: once, after all plugins are constructed and before any is set up -------------------------------------------------


@hookspec
def mom_declare() -> Iterable[Declaration]:  # type: ignore[empty-body]  # a specification has no body
    """The plugin's declarations, in any order: see `FieldSpec`, `ControlSpec`, `DefaultPolicy`, `GuestColumn`.

    - The fields that it may collect, and by `FieldSpec.reads` those of others that it can do without. Two plugins may declare one field,
      with the same unit: the first in the YAML order that has a value wins.
    - The controls that it applies and puts back. Two plugins that declare one control are a configuration error.
    - Default policies that drive its controls.
    - Figures of guests, made of its fields.
    """


@hookspec
def mom_services() -> Mapping[type, Any]:  # type: ignore[empty-body]  # a specification has no body
    """The plugin's offers to others: objects, by the protocol that each implements, such as `{PolicyTexts: self._texts}`.

    All plugins find them with `context.service(PolicyTexts)`; an object that can do more stands under each protocol that says so.
    Called before any plugin is set up. Others may call an object from any thread, also before this plugin's own
    `mom_setup`: it raises `MomError` then. An object that lacks something of its protocol is an error at the start.
    """


@hookspec
def mom_check() -> Iterable[Finding]:  # type: ignore[empty-body]  # a specification has no body
    """Mistakes in this plugin's part of the configuration though each of its settings is right, such as something that is missing in
    what the other plugins declare. Called by `mom config check` and `mom doctor`, not by the daemon, and without `mom_setup`.

    It is apart from `mom_doctor`, as a configuration is checked on any machine, and before anything is set up. `context.declarations` is
    complete. Touch nothing, and read no more than configuration. What is fine needs no finding; with one that
    is an ERROR, `mom config check` refuses the configuration.
    """


# --- life ----------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_setup(context: PluginContext) -> None:
    """Called once, before the first cycle, after all plugins have declared; `context.declarations` is complete now.

    Open what is needed: connections, files, threads. What it raises keeps the daemon from starting, so something that may come back
    later (a hypervisor that restarts) is not raised here but by the calls that need it. 10 seconds, or the deadline if that is longer.
    """


@hookspec
def mom_reload() -> Callable[[], None] | None:
    """Called when the configuration is reloaded and this plugin's own settings are unchanged.

    Read again what the plugin keeps in files of its own, without using it yet, and return a function that puts it in force: it is
    called only if the reload of all plugins succeeded, in the plugin's thread and within its deadline. Raising refuses the whole reload,
    and everything stays as it was; that is why it is apart from `mom_setup`.
    """


@hookspec
def mom_teardown() -> None:
    """Called once at the end, after everything was put back, also when `mom_setup` failed. Close what was opened, within 0.4 s.

    Plugins with a hypervisor are called when the others have ended, or have had three quarters of the time. A plugin that hangs is called
    when its call has come back, if it does: after a reload, another instance of it may be at work by then.
    """


@hookspec(firstresult=True)
def mom_hypervisor() -> Hypervisor | None:
    """The hypervisor whose guests are managed; called once, after `mom_setup`. The first plugin in the YAML order that has one wins."""


# --- collect: at the start of each cycle, all plugins at once ----------------------------------------------------------------------


@hookspec
def mom_collect_host(hypervisor: Hypervisor) -> Mapping[str, Value]:  # type: ignore[empty-body]  # a specification has no body
    """The host's fields now, by name. Leave out, or set to None, what is not known."""


@hookspec
def mom_collect_guests(hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]] | Columns:  # type: ignore[empty-body]  # a specification has no body
    """The fields of all these guests now: by guest id, then by field name. One call for all of them.

    Leave out a guest that has vanished, and any field that is not known. For thousands of guests, `Columns` take a part of the time: by
    field name, a value for each of `guests`, in their order; None where it is not known.
    """


@hookspec
def mom_derive(snapshot: Snapshot, history: Sequence[Snapshot]) -> Derived:  # type: ignore[empty-body]  # a specification has no body
    """Fields that follow from what all plugins have collected, such as what a control law suggests. Called after collecting and before
    evaluating, and in a replay, too: they take the place of recorded ones.

    All plugins are given the same snapshot, without what the others derive. The fields are declared as all others are.

    :param history: older snapshots, oldest first, without this one; as many as the configuration keeps
    """


# --- evaluate ------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_evaluate(snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | ShadowDecisions | Problem]:  # type: ignore[empty-body]  # a specification has no body
    """Decisions, what would be decided on trial, and what could not be decided and why.

    A control of an entity belongs to the first evaluator, in the YAML order, that has decided it since the configuration was read: what
    others decide about it is dropped, also while the first is silent. A plugin that only acts now and then has
    `mom_act` instead; one that only reports faults, `mom_problems`.

    :param history: older snapshots, oldest first, without this one; as many as the configuration keeps
    """


@hookspec
def mom_act(snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision]:  # type: ignore[empty-body]  # a specification has no body
    """Decide on acts of this plugin, whatever evaluators decide.

    An act moves a guest away, ends an act, gives a guest back its guarantee, or sets a value of the configuration that policies start
    from. Unlike a decision of `mom_evaluate`, an act claims no control, and no claim stops it. Only a plugin that comes earlier in the
    YAML order and decides the same control in the same cycle goes before it.

    Called after all evaluators, all plugins at once.
    """


@hookspec
def mom_problems(snapshot: Snapshot) -> Iterable[Problem | Condition]:  # type: ignore[empty-body]  # a specification has no body
    """Report faults that this plugin sees in this cycle.

    A `Problem` is about single guests, or this plugin's part of the host. A `Condition` is about the host as a whole: the verdict of
    `mom status`, the API and the page. Report each in every cycle for as long as it lasts; the core keeps its start. While a plugin does
    not answer, its conditions stand.

    Called after `mom_act` and before any control is changed, all plugins at once.
    """


@hookspec
def mom_review(snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:  # type: ignore[empty-body]  # a specification has no body
    """Changes to what the evaluators decided, each with its reason; what is not mentioned stands.

    Reviewers are called one after the other in the YAML order, each with what the ones before it left. The core's own review comes
    first (unknown entities and controls, impossible values, two decisions on one control: the first plugin in the YAML order wins; of
    an evaluator's list and one of `mom_act`, whose items stand for themselves, those items that both name) and checks the bounds
    again at the end.
    """


# --- control -------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_read(hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | InTransition | HypervisorError]:  # type: ignore[empty-body]  # a specification has no body
    """The present values of these controls, all of them this plugin's own. One call for all entities; touch nothing.

    Called before anything is written, after it, and when things are put back: then a process may call it that has collected nothing yet.
    Leave out, or set to None, what is unknown: whether the guest is still listed, the engine finds out. A `GuestGone` as value says that
    what was to be read is surely not there any more, a `NotSupported` that there is no such thing here, a `Refused` that it is not mom's
    to set now, as the kernel or another process has taken charge of it; any other `HypervisorError`, why it cannot be read. Raised, it is
    said of all targets.
    """


@hookspec
def mom_write(hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError | str] | None:
    """Set these controls, in whatever order is right, and say which were not set and why; of the others, nothing need be said.

    What stood there is on disk already, and what stands then is read by `mom_read`: the engine judges what came of it. A `Refused` (or
    `NotSupported`) says that nothing was sent, and why; a `GuestGone`, that the guest is not there any more; any other `HypervisorError`,
    that it did not succeed, or may not have: a lost answer is no refusal. Raised, it is said of all changes. A `NoChangeNeeded` says why
    nothing had to be sent, or, when it was to be put back, why what stands stays. A text is something to say of a change that was made.
    Not called when mom only observes.

    Where something is to be put back (`change.back`), it is the end of what mom began. Of an act that has no end, such as moving a guest
    away, say so with a `NoChangeNeeded`.
    """


# --- after ---------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_report(report: Report) -> None:
    """One finished cycle, to be recorded, counted or shown. Frozen, and safe to keep."""
