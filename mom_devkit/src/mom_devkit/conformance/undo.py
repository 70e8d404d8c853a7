"""Check that controls are restored."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from mom_core import ControlSpec, Decision, Entity, Finding, Outcome, Scope, Snapshot, Status, Unit, Value
from mom_core.engine.judgement import STILL_STANDS, same
from mom_devkit.conformance.subject import Bench, ExaminedPlugin, Life, alive

BACK = frozenset({Status.APPLIED, Status.UNCHANGED})


def undo(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Each control is set on the test host, shows in its field, and is restored at a clean stop and after a crash."""
    controls = subject.declared_as(ControlSpec)
    if not controls:
        return
    with alive(subject) as life:
        own = life.engine.plugins.hypervisor_owner
    if own is not None and own.name == subject.name and not subject.may_touch:
        cure = "if these are guests for tests, allow their changes with may_touch"
        yield subject.remark("the plugin's controls were not tried, because its hypervisor may manage real guests", cure)
        return
    for spec in controls:
        bench = subject.new_bench()
        with alive(subject, bench) as life:
            entity, before = _present(life.cycle().snapshot, spec)
            if entity is None or before is None:
                why = "the test host has no guest for it" if entity is None else f"its field {spec.field} is unknown on the test host"
                yield subject.remark(f"{spec.name} was not set: {why}", "give a `host` with the control's files, or a `hypervisor`")
                continue
            applied = yield from _set(subject, life, spec, entity, before)
            if applied is None:
                continue
            put_back = life.engine.close()
        yield from _is_back(subject, spec, put_back, applied, before, bench, "at a clean stop")
        bench = subject.new_bench()
        with alive(subject, bench, put_back=False) as life:
            life.cycle()
            life.cycle(applied)
        with alive(subject, bench) as life:  # as in a new process: only the ledger is left
            put_back = life.engine.close()
        yield from _is_back(subject, spec, put_back, applied, before, bench, "after a crash")


def _set(
    subject: ExaminedPlugin, life: Life, spec: ControlSpec, entity: Entity, before: Value
) -> Generator[Finding, None, Decision | None]:
    refused: dict[str, None] = {}
    ignored = True
    for value in _candidates(subject, spec, before):
        decision = Decision(entity, spec.name, value, "a check of undo")
        report = life.cycle(decision)
        for problem in report.problems:
            if problem.source.name == subject.name and problem.message.startswith(("mom_read", "mom_write")):
                yield subject.fault(problem.message, "return a HypervisorError for each target that failed")
        outcome = outcome_of(report.outcomes, decision)
        if outcome is None or outcome.status is not Status.APPLIED:
            refused[f"{value}: {outcome.status} {outcome.error}".strip() if outcome else f"{value}: dropped by review"] = None
            ignored &= outcome is not None and outcome.status is Status.FAILED and outcome.error.endswith(STILL_STANDS)
            continue
        applied = outcome.decision
        present = applied.value if outcome.after is None else outcome.after
        _, shown = _present(life.cycle().snapshot, spec)
        if shown is not None and not _same(spec, shown, present):
            yield subject.fault(
                f"{spec.name} was set to {present}, and its field {spec.field} says {shown}", "collect the value that the control sets"
            )
        return applied
    why = f"{spec.name} was never set ({'; '.join(list(refused)[:3])})"
    if refused and ignored:
        yield subject.fault(why, "mom_write must write the value of each change, or raise a HypervisorError")
    else:
        yield subject.remark(why, "pass valid values: values={…}")
    return None


def _present(snapshot: Snapshot, spec: ControlSpec) -> tuple[Entity | None, Value]:
    # Prefer an entity with a known value.
    if spec.scope is Scope.HOST:
        return snapshot.host.entity, snapshot.host.fields.get(spec.field)
    free = [guest for guest in snapshot.guests.values() if not guest.why_blocked(spec.name)]
    chosen = next((guest for guest in free if guest.fields.get(spec.field) is not None), free[0] if free else None)
    return (None, None) if chosen is None else (chosen.entity, chosen.fields.get(spec.field))


def _candidates(subject: ExaminedPlugin, spec: ControlSpec, before: Value) -> list[Value]:
    # Try values near the present value first: extreme ones could harm a real host.
    values = subject.values.get(spec.name, spec.choices or None)
    if values is not None:
        return [value for value in values if value != before]
    if not isinstance(before, int | float):
        return []
    low, high = spec.minimum, spec.maximum
    numbers: list[float] = [before * 3 // 4, before // 2, before + 1, before - 1, before * 2]
    numbers += [bound for bound in (low, high) if bound is not None]
    numbers += [1_000, 100_000, 50_000]  # -1 and 0 often mean no limit; values near them are useless
    kept = [value for value in numbers if (low is None or value >= low) and (high is None or value <= high) and value != before]
    fractional = spec.unit in {Unit.RATIO, Unit.PERCENT, Unit.SECONDS}
    return list(dict.fromkeys(value if fractional else int(value) for value in kept))


def _is_back(
    subject: ExaminedPlugin, spec: ControlSpec, outcomes: Sequence[Outcome], applied: Decision, before: Value, bench: Bench, when: str
) -> Iterator[Finding]:
    with alive(subject, bench._replace(folder=subject.new_folder("look")), mode="observe") as life:
        snapshot = life.cycle().snapshot
    entity = applied.entity
    fields = snapshot.host.fields if entity.scope is Scope.HOST else snapshot.guests[entity.id].fields
    now, outcome = fields.get(spec.field), outcome_of(outcomes, applied)
    if outcome is None or outcome.status not in BACK or not _same(spec, now, before):
        result = "mom reported no outcome" if outcome is None else f"{outcome.status} {outcome.error}".strip()
        message = f"{spec.name} is not undone {when}: it was {before}, and is {now} ({result})"
        yield subject.fault(message, "mom_write must write the value of each change, and mom_read return the present value")


def _same(spec: ControlSpec, value: Value, other: Value) -> bool:
    if isinstance(value, int | float) and isinstance(other, int | float):
        return abs(value - other) <= max(spec.tolerance, 1e-6 * max(abs(value), abs(other), 1))
    return same(spec, value, other)


def outcome_of(outcomes: Sequence[Outcome], decision: Decision) -> Outcome | None:
    """Return the outcome of a decision, or of restoring its control; None if missing."""
    target = (decision.entity.id, decision.control)
    return next((outcome for outcome in outcomes if (outcome.decision.entity.id, outcome.decision.control) == target), None)
