"""The core's review: drops impossible, conflicting and blocked decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mom_core.context import Declarations
from mom_core.engine.problems import contained
from mom_core.model import ControlSpec, Decision, Problem, Revision, Scope, Severity, Snapshot, Source, Value
from mom_core.texts import shown
from mom_core.units import Unit
from mom_core.values import why_unfit

REVIEWER: Final = "core"


class Proposal(NamedTuple):
    """Decisions of an evaluator, or acts if `acts` is true."""

    plugin: str
    decisions: list[Decision]
    acts: bool = False


def review(
    snapshot: Snapshot, proposals: Iterable[Proposal], declarations: Declarations
) -> tuple[list[Decision], list[Revision], list[Problem]]:
    """Return the remaining decisions, the core's revisions, and problems. For each control of an entity, the first decision remains."""
    core = _CoreReview(snapshot, declarations)
    for proposal in proposals:
        for decision in proposal.decisions:
            with contained(proposal.plugin, "its decision", core.problems):
                core.take(proposal, decision)
    for control, winner, loser in sorted(core.contested):
        summary = f"{winner} and {loser} both decide {control}"
        text = f"{summary}: mom follows {winner}, which is listed first under `plugins`; remove the decisions from one of them"
        core.problems.append(Problem(Source(REVIEWER), text, severity=Severity.WARNING))
    return [decision for _, decision in core.kept.values()], core.revisions, core.problems


@dataclass(slots=True)
class _CoreReview:
    snapshot: Snapshot
    declarations: Declarations
    kept: dict[tuple[str, str], tuple[Proposal, Decision]] = field(default_factory=dict)
    revisions: list[Revision] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    contested: set[tuple[str, str, str]] = field(default_factory=set)

    def take(self, proposal: Proposal, proposed: Decision) -> None:
        checked = check(self.snapshot, proposed, self.declarations)
        if isinstance(checked, Revision):
            self.revisions.append(checked)
        decision = checked.after if isinstance(checked, Revision) else checked
        if decision is None:
            return
        key = (decision.entity.id, decision.control)
        winner = self.kept.get(key)
        if winner is None:
            self.kept[key] = (proposal, decision)
        else:
            self._resolve(key, winner, proposal, decision)

    def _resolve(self, key: tuple[str, str], winner: tuple[Proposal, Decision], proposal: Proposal, decision: Decision) -> None:
        first, earlier = winner
        plugin = proposal.plugin
        if first.plugin == plugin:
            self.kept[key] = (proposal, decision)
            self.revisions.append(_dropped(earlier, f"{plugin} decided again, at {decision.source}"))
            return
        if earlier.value == decision.value:
            return
        if not first.acts:
            self.contested.add((decision.control, first.plugin, plugin))
        self.revisions.append(_dropped(decision, f"the {first.plugin} plugin is listed before {plugin} and decided this control as well"))


def check(snapshot: Snapshot, decision: Decision, declarations: Declarations) -> Decision | Revision:
    """Return the decision if it is possible, else a revision that changes or drops it."""
    spec = declarations.controls.get(decision.control)
    if spec is None:
        return _dropped(decision, "no enabled plugin has this control")
    reason = _why_not_now(snapshot, decision, spec)
    if reason:
        return _dropped(decision, reason)
    value, reason = bounded(decision.value, spec)
    if value is None:
        return _dropped(decision, reason)
    if reason:
        return Revision(decision, replace(decision, value=value), reason, REVIEWER)
    if value == decision.value and type(value) is type(decision.value):
        return decision
    return Revision(decision, replace(decision, value=value), "rounded down to a whole number", REVIEWER)


def _why_not_now(snapshot: Snapshot, decision: Decision, spec: ControlSpec) -> str:
    if decision.entity.scope is not spec.scope:
        return f"this is a control of the {spec.scope}"
    if spec.scope is Scope.HOST:
        return ""
    guest = snapshot.guests.get(decision.entity.id)
    if guest is None:
        return "there is no such guest"
    return guest.why_blocked(decision.control)


def bounded(value: Value, spec: ControlSpec) -> tuple[Value, str]:
    """Return the value within the control's bounds (None if impossible), and why it changed."""
    if spec.unit is Unit.TEXT and isinstance(value, int) and not isinstance(value, bool):  # in a policy, "0" becomes a number
        return str(value), "number written as a string, because the control needs a string"
    if why := why_unfit(value, spec.unit):
        return None, f"the value {why}"
    if not isinstance(value, (int, float)):  # a tuple: twice as fast as `int | float`
        return value, ""
    number = int(value) if type(value) is not int and spec.unit.is_whole else value
    if spec.choices and value not in spec.choices:
        return None, f"{shown(value, 40)} is not one of the control's values: {', '.join(map(str, spec.choices))}"
    if spec.minimum is not None and number < spec.minimum:
        return _as(number, spec.minimum), f"below the control's minimum of {spec.minimum:g} {spec.unit}"
    if spec.maximum is not None and number > spec.maximum:
        return _as(number, spec.maximum), f"above the control's maximum of {spec.maximum:g} {spec.unit}"
    return number, ""


def _as(number: float, bound: float) -> float:
    return int(bound) if isinstance(number, int) else float(bound)


def apply_revisions(
    decisions: Sequence[Decision], revisions: Iterable[Revision], plugin: str, snapshot: Snapshot, declarations: Declarations
) -> tuple[list[Decision], list[Revision]]:
    """Apply revisions in order; return decisions and revisions. Raise `ValueError` if a revision is invalid."""
    original = {_target_key(decision): decision for decision in decisions}
    standing = dict(original)
    accepted: list[Revision] = []
    for revision in revisions:
        key, after = _target_key(revision.before), revision.after
        before = standing.get(key)
        drops = after is None and original.get(key) == revision.before  # a drop wins over another revision
        about = f"{revision.before.control} of {revision.before.entity}"
        if before != revision.before and not drops:
            raise ValueError(f"it revises a decision about {about} that does not exist")
        if after is not None and _target_key(after) != key:
            raise ValueError("a revision may change only the value of a decision, not its control or entity")
        if not revision.reason:
            raise ValueError(f"it revises the decision about {about} without giving a reason")
        if before is None:
            continue
        if after is not None:
            checked = check(snapshot, after, declarations)
            after = checked.after if isinstance(checked, Revision) else checked
        accepted.append(replace(revision, before=before, after=after, reviewer=plugin))
        if after is None:
            del standing[key]
        else:
            standing[key] = after
    return list(standing.values()), accepted


def _target_key(decision: Decision) -> tuple[str, str]:
    return decision.entity.id, decision.control


def _dropped(decision: Decision, reason: str) -> Revision:
    return Revision(decision, None, reason, REVIEWER)
