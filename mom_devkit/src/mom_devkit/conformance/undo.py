"""Checks that what a controller sets can be seen and is put back: at a clean stop, after a crash, also where the kernel rounds it, and not
over another process's change."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mom_core import ControlSpec, Decision, Entity, Finding, Hypervisor, LedgerEntry, Outcome, Scope, Snapshot, Status, Unit, Value
from mom_core.engine.judgement import Controller, same, target_of
from mom_core.ledger import Ledger
from mom_core.plugins.bounded import describe
from mom_devkit.conformance.subject import ExaminedPlugin, Life, alive, configured, outcome_of

BACK = frozenset({Status.APPLIED, Status.UNCHANGED})


@dataclass(frozen=True, slots=True)
class ChangedControl:
    """What was decided, and what stands there since: another value, where the test host rounds."""

    decision: Decision
    stands: Value


def undo(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Each control is set on the test host, and stands as before after a clean stop and after a crash, also when the kernel has rounded
    it; what others changed stays."""
    _, controls = subject.declared()
    if not controls:
        return
    with alive(subject) as life:
        own = life.engine.plugins.hypervisor_owner
        foreign = own is not None and own.name == subject.name
    if foreign and not subject.may_touch:
        yield subject.remark(
            "its controls were not set, as the guests are those of its own hypervisor", "allow it where that is a test's own: may_touch"
        )
        return
    for spec in controls:
        yield from _control(subject, spec)
    yield from _ghost(subject, controls)


def _control(subject: ExaminedPlugin, spec: ControlSpec) -> Iterator[Finding]:
    root, hypervisor = subject.new_host(), subject.fresh_hypervisor()
    applied: list[ChangedControl] = []
    with alive(subject, root=root, hypervisor=hypervisor) as life:
        found = _entity(life.cycle().snapshot, spec)
        if found is None:
            yield subject.remark(f"{spec.name} was not set: the test host has no guest on which it can be", "give a hypervisor with one")
            return
        entity, before = found
        if before is None:
            yield subject.remark(
                f"{spec.name} was not set: its present value, the field {spec.field}, is unknown on the test host",
                "give a host that has it: `host` with its files, or `hypervisor`",
            )
            return
        reasons: dict[str, None] = {}
        for value in _candidates(subject, spec, before):
            decision = Decision(entity, spec.name, value, "a check of undo")
            outcome = yield from _try(subject, life, decision)
            if outcome is None or outcome.status is not Status.APPLIED:
                reasons[f"{value}: {outcome.status} {outcome.error}".strip() if outcome else f"{value}: dropped by review"] = None
                continue
            done = outcome.decision  # what review has made of it
            change = ChangedControl(done, done.value if outcome.after is None else outcome.after)
            if applied and _close(change.stands, (before, applied[0].stands)):
                continue
            if not applied:
                yield from _visible(subject, life, change, outcome, spec)
            applied.append(change)
            if len(applied) == 2:
                break
        if not applied:
            yield subject.remark(f"{spec.name} was never set ({'; '.join(list(reasons)[:3])})", "give values that make sense: values={…}")
            return
        put_back = life.engine.close()
        yield from _judged(subject, outcome_of(put_back, applied[0].decision), f"{spec.name} was not put back at a clean stop")
    yield from _stands(subject, root, hypervisor, spec, entity, before, "after a clean stop")
    yield from _after_a_crash(subject, spec, applied, before)
    if len(applied) == 2:
        yield from _rounded(subject, spec, applied, before)
        yield from _somebody_else(subject, spec, applied)


def _try(subject: ExaminedPlugin, life: Life, decision: Decision) -> Generator[Finding, None, Outcome | None]:
    """Decide it in a cycle; the result is what came of it."""
    report = life.cycle(decision)
    for problem in report.problems:
        if problem.source.name == subject.name and problem.message.startswith(("mom_control", "mom_read", "mom_write")):
            yield subject.fault(problem.message, "say what is wrong by a HypervisorError for the target that it is about")
    return outcome_of(report.outcomes, decision)


def _entity(snapshot: Snapshot, spec: ControlSpec) -> tuple[Entity, Value] | None:
    if spec.scope is Scope.HOST:
        return snapshot.host.entity, snapshot.host.fields.get(spec.field)
    free = [guest for guest in snapshot.guests.values() if not (guest.blocked.get(spec.name) or guest.blocked.get("*"))]
    known = [guest for guest in free if guest.fields.get(spec.field) is not None]
    chosen = known or free
    return (chosen[0].entity, chosen[0].fields.get(spec.field)) if chosen else None


def _candidates(subject: ExaminedPlugin, spec: ControlSpec, before: Value) -> list[Value]:
    """Values near what stands there first, then the bounds: far away is where a host might be hurt, were it a real one."""
    given = subject.values.get(spec.name)
    if given is not None:
        return [value for value in given if value != before]
    if not isinstance(before, int | float):
        return []
    if spec.choices:
        return [value for value in spec.choices if value != before]
    low, high = spec.minimum, spec.maximum
    wanted: list[float] = [before * 3 // 4, before // 2, before + 1, before - 1, before * 2]
    wanted += [bound for bound in (low, high) if bound is not None]
    if low is not None and high is not None:
        wanted.append((low + high) // 2)
    else:
        wanted += [1_000, 100_000, 50_000]  # -1 and 0 often mean no limit, and what is near them nothing at all
    kept = [value for value in wanted if (low is None or value >= low) and (high is None or value <= high) and value != before]
    fractional = spec.unit in {Unit.RATIO, Unit.PERCENT, Unit.SECONDS}
    return list(dict.fromkeys(value if fractional else int(value) for value in kept))


def _visible(subject: ExaminedPlugin, life: Life, change: ChangedControl, outcome: Outcome, spec: ControlSpec) -> Iterator[Finding]:
    """The field shows what was set; setting it again sends nothing."""
    if outcome.after is None:
        yield subject.remark(f"{spec.name}: the outcome does not say what stands there afterwards", "read it back where that is possible")
    found = _entity(life.cycle().snapshot, spec)
    if found is not None and found[1] is not None and not _same(spec, found[1], change.stands):
        yield subject.fault(
            f"{spec.name} was set to {change.stands}, and its field {spec.field} says {found[1]}", "collect what the control sets"
        )
    again = outcome_of(life.cycle(change.decision).outcomes, change.decision)
    if again is not None and again.status is Status.APPLIED and _same(spec, change.stands, change.decision.value):
        yield subject.remark(f"{spec.name} is sent again when it stands so already", "compare first, and say UNCHANGED")


def _after_a_crash(subject: ExaminedPlugin, spec: ControlSpec, applied: Sequence[ChangedControl], before: Value) -> Iterator[Finding]:
    """A new process knows only the ledger: what the plugin remembers must not be needed to put things back."""
    root, folder, hypervisor = subject.new_host(), subject.new_folder("crash"), subject.fresh_hypervisor()
    with alive(subject, root=root, folder=folder, hypervisor=hypervisor, put_back=False) as life:
        life.cycle()
        life.cycle(applied[0].decision)
    with alive(subject, root=root, folder=folder, hypervisor=hypervisor) as life:
        outcomes = life.engine.close()
        yield from _judged(subject, outcome_of(outcomes, applied[0].decision), f"{spec.name} was not put back after a crash")
    yield from _stands(subject, root, hypervisor, spec, applied[0].decision.entity, before, "after a crash")


def _rounded(subject: ExaminedPlugin, spec: ControlSpec, applied: Sequence[ChangedControl], before: Value) -> Iterator[Finding]:
    """The ledger says that one value was asked for, and that the kernel made another one of it: that one is put back, too.

    Files do not round, so the second value plays what the kernel made of the first.
    """
    root, folder, hypervisor = subject.new_host(), subject.new_folder("rounded"), subject.fresh_hypervisor()
    asked, made = applied
    entity = asked.decision.entity
    with alive(subject, root=root, hypervisor=hypervisor, put_back=False) as life:
        guest = life.cycle().snapshot.guests.get(entity.id)
        outcome = outcome_of(life.cycle(made.decision).outcomes, made.decision)
    if (
        outcome is None
        or outcome.status is not Status.APPLIED
        or not _same(spec, _now(subject, root, hypervisor, spec, entity), made.stands)
    ):
        return  # a hypervisor that forgets when no client is connected
    incarnation = "" if guest is None else guest.incarnation
    ledger = Ledger.open(configured(subject, [], hypervisor, root, folder).state_directory)
    ledger.record([LedgerEntry(entity, spec.name, before, asked.decision.value, subject.name, 0.0, incarnation)])
    ledger.settle([Outcome(asked.decision, before, made.stands, Status.APPLIED)])
    with alive(subject, root=root, folder=folder, hypervisor=hypervisor) as life:
        outcomes = life.engine.close()
    what = f"{spec.name} was not put back where the kernel had rounded it"
    cure = "let mom_read say what stands there, in the unit of the control"
    outcome = outcome_of(outcomes, asked.decision)
    if outcome is None or outcome.status not in BACK:
        said = "nothing was said of it" if outcome is None else f"{outcome.status} {outcome.error}".strip()
        yield subject.fault(f"{what}: {said}", cure)
    elif not _same(spec, _now(subject, root, hypervisor, spec, entity), before):
        yield subject.fault(f"{what}: it was {before}, and is {_now(subject, root, hypervisor, spec, entity)}", cure)


def _somebody_else(subject: ExaminedPlugin, spec: ControlSpec, applied: Sequence[ChangedControl]) -> Iterator[Finding]:
    """Set by mom, changed by another process, then mom ends: what the other wanted stays."""
    root, ours, theirs, hypervisor = (
        subject.new_host(),
        subject.new_folder("ours"),
        subject.new_folder("theirs"),
        subject.fresh_hypervisor(),
    )
    for folder, change in ((ours, applied[0]), (theirs, applied[1])):
        with alive(subject, root=root, folder=folder, hypervisor=hypervisor, put_back=False) as life:
            life.cycle()
            outcome = outcome_of(life.cycle(change.decision).outcomes, change.decision)
            if outcome is None or outcome.status is not Status.APPLIED:
                return
            life.cycle()  # from now on the ledger says what came of it, also on disk
    entity, wanted = applied[1].decision.entity, applied[1].stands
    if not _same(spec, _now(subject, root, hypervisor, spec, entity), wanted):
        return  # a hypervisor that forgets when no client is connected: there is nothing left to be spared
    with alive(subject, root=root, folder=ours, hypervisor=hypervisor):
        pass
    if not _same(spec, _now(subject, root, hypervisor, spec, entity), wanted):
        yield subject.fault(
            f"{spec.name} was put back over another process's change",
            "let mom_read say what stands there now, and not what mom has set",
        )


def _ghost(subject: ExaminedPlugin, controls: Sequence[ControlSpec]) -> Iterator[Finding]:
    """Decisions on a guest that ended since, or on a host without the knob, are outcomes and no exceptions."""
    for spec in controls:
        entity = Entity(Scope.HOST, "host", "host") if spec.scope is Scope.HOST else Entity(Scope.GUEST, "gone", "gone")
        value = spec.minimum if spec.minimum is not None else 1
        with alive(subject, root=subject.new_folder("nothing")) as life:
            decision = Decision(entity, spec.name, int(value), "a check of errors")
            try:
                outcomes = _asked_for(life, decision)
            except Exception as error:  # noqa: BLE001  # whatever the plugin raises is the finding
                yield subject.fault(
                    f"{spec.name} on what is not there raises {describe(error)}",
                    "say of it what is wrong: raise or return a HypervisorError, or give an Outcome",
                )
                continue
            if any(outcome.status is Status.APPLIED and outcome.after is not None for outcome in outcomes):
                yield subject.fault(f"{spec.name} on what is not there is said to be applied", "say what really came of it")


def _asked_for(life: Life, decision: Decision) -> list[Outcome]:
    """What the plugin makes of a decision that no engine would let through."""
    plugin = life.subject
    if "mom_write" in plugin.hooks:
        controller = Controller.of(plugin, life.hypervisor)
        found = {target_of(decision): None}
        answer = plugin.worker.call("mom_read", partial(controller.read, found))
        answer = plugin.worker.call("mom_write", partial(controller.apply, (decision,), found))
    else:
        answer = plugin.worker.call("mom_control", plugin.work("mom_control", hypervisor=life.hypervisor, decisions=(decision,)))
    return [item for item in answer if isinstance(item, Outcome)] if isinstance(answer, Sequence) else []


def _judged(subject: ExaminedPlugin, outcome: Outcome | None, what: str) -> Iterator[Finding]:
    if outcome is None:
        yield subject.fault(
            f"{what}: nothing was said of it", "mom_read gives what stands there now; mom_restore, one Outcome for each entry"
        )
    elif outcome.status not in BACK:
        yield subject.fault(f"{what}: {outcome.status} {outcome.error}".strip(), "put entry.before back")


def _stands(
    subject: ExaminedPlugin, root: Path, hypervisor: Hypervisor, spec: ControlSpec, entity: Entity, before: Value, when: str
) -> Iterator[Finding]:
    now = _now(subject, root, hypervisor, spec, entity)
    if not _same(spec, now, before):
        yield subject.fault(f"{spec.name} is not undone {when}: it was {before}, and is {now}", "put entry.before back, and read it back")


def _now(subject: ExaminedPlugin, root: Path, hypervisor: Hypervisor, spec: ControlSpec, entity: Entity) -> Value:
    """What a plugin that was just set up says that a control stands at."""
    with alive(subject, root=root, hypervisor=hypervisor, mode="observe") as life:
        snapshot = life.cycle().snapshot
    guest = snapshot.guests.get(entity.id)
    return (snapshot.host.fields if guest is None else guest.fields).get(spec.field)


def _close(value: Value, others: Sequence[Value]) -> bool:
    """Whether a value cannot be told from others with the tolerance that a plugin may have."""
    numbers = [one for one in others if isinstance(one, int | float)]
    if not isinstance(value, int | float) or len(numbers) < 2:
        return value in others
    least = abs(numbers[0] - numbers[1]) / 4
    return any(abs(value - one) < least for one in numbers)


def _same(spec: ControlSpec, one: Value, other: Value) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= max(spec.tolerance, 1e-6 * max(abs(one), abs(other), 1))
    return same(spec, one, other)
