"""Between any evaluator and any controller: decisions that make no sense, clash or cannot be applied go no further, with the reason. So
do those of an evaluator on a control that belongs to another one: two that want different things would take turns whenever one is silent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeGuard

from mom_core.context import Declarations
from mom_core.engine.answers import contained, wrong_part
from mom_core.model import ControlSpec, Decision, Problem, Revision, Scope, Severity, Snapshot, Source, Value, shown
from mom_core.units import Unit
from mom_core.values import NUMBER_LIMIT, as_items, number_wanted

REVIEWER = "core"

_ROOM: Final = 1000
"""Claims on guests that are gone are forgotten when there are so many more of all claims than twice what the guests here can have."""

_LARGEST = sys.float_info.max
"""Integers may be larger: of those, `math.isfinite` raises."""


class Claims:
    """A control of an entity belongs to the first evaluator, in the YAML order, that has decided it since the configuration was read.

    What others decide about it is dropped, also in cycles in which its owner is silent. An act (`mom_act`) claims nothing, and is kept
    away by no claim, only by what others decide in the same cycle.

    :param order: the evaluators' names in the YAML order
    """

    def __init__(self, order: Sequence[str] = ()) -> None:
        self._rank = {name: rank for rank, name in enumerate(order)}
        self._may_clash = len(self._rank) > 1
        """One evaluator alone has all controls: nothing is noted then."""
        self._owners: dict[tuple[str, str], str] = {}
        self._contested: set[tuple[str, str, str]] = set()

    def owner_before(self, plugin: str, decision: Decision) -> str:
        """The evaluator that comes before this one and has the control; empty when there is none, and this one may decide."""
        if not self._may_clash:
            return ""
        owner = self._owners.get((decision.entity.id, decision.control), "")
        return owner if owner and self._rank.get(owner, 0) < self._rank.get(plugin, 0) else ""

    def claim(self, plugin: str, decision: Decision) -> None:
        """This evaluator decides."""
        if self._may_clash:
            self._owners[decision.entity.id, decision.control] = plugin

    def contest(self, winner: str, loser: str, decision: Decision) -> None:
        """Note that this evaluator's decision was dropped in favour of the other one's."""
        self._contested.add((decision.control, winner, loser))

    def problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """The contested controls of this cycle, a line for each control and pair of evaluators; called once at its end."""
        contested, self._contested = sorted(self._contested), set()
        self._forget_gone(snapshot)
        for control, winner, loser in contested:
            both = f"{winner} and {loser} both decide {control}"
            text = f"{both}: {winner} has it, as it comes first below `plugins`; take it out of one of them"
            yield Problem(Source("core"), text, severity=Severity.WARNING)

    def _forget_gone(self, snapshot: Snapshot) -> None:
        controls = len({control for _, control in self._owners})
        if len(self._owners) > 2 * controls * (len(snapshot.guests) + 1) + _ROOM:
            there = {*snapshot.guests, snapshot.host.entity.id}
            self._owners = {key: owner for key, owner in self._owners.items() if key[0] in there}


class Proposal(NamedTuple):
    """The answer of a plugin. `acts`: by `mom_act`, which claims nothing."""

    plugin: str
    items: Iterable[object]
    acts: bool = False

    @property
    def hook(self) -> str:
        """The hook that gave it."""
        return "mom_act" if self.acts else "mom_evaluate"


def review(
    snapshot: Snapshot, proposals: Iterable[Proposal], declarations: Declarations, claims: Claims | None = None
) -> tuple[list[Decision], list[Revision], list[Problem]]:
    """The core's own review, the first of all.

    :param proposals: in the YAML order of the plugins: the first decision on a control wins
    :param claims: which evaluator has which control, by earlier cycles
    :return: the decisions that are left (at most one for each entity and control), what was changed or dropped and why (unless it is the
        same that another plugin has decided), and the problems that evaluators reported or that their answers are
    """
    claims = claims or Claims()
    kept: dict[tuple[str, str], tuple[Proposal, Decision]] = {}
    revisions: list[Revision] = []
    problems: list[Problem] = []

    def take(proposal: Proposal, item: object) -> None:
        plugin = proposal.plugin
        if isinstance(item, Problem) and not proposal.acts:
            problems.append(item)
            return
        if not isinstance(item, Decision):
            problems.append(Problem(Source(plugin), f"{proposal.hook} returned a {type(item).__name__} where a Decision belongs"))
            return
        decision = item.signed(plugin)
        checked = check(snapshot, decision, declarations)
        if checked is not decision:
            revisions.append(checked if isinstance(checked, Revision) else Revision(decision, checked, "", REVIEWER))
            if revisions[-1].after is None:
                return
            decision = revisions[-1].after
        key = (decision.entity.id, decision.control)
        winner = kept.get(key)
        owner = claims.owner_before(plugin, decision) if winner is None and not proposal.acts else ""
        if owner:
            revisions.append(Revision(decision, None, f"the plugin {owner} comes before {plugin} and has decided it earlier", REVIEWER))
            claims.contest(owner, plugin, decision)
        elif winner is None:
            kept[key] = (proposal, decision)
            if not proposal.acts:
                claims.claim(plugin, decision)
        elif winner[0].plugin == plugin:
            kept[key] = (proposal, decision)
            revisions.append(Revision(winner[1], None, f"{plugin} decided again, at {decision.source}", REVIEWER))
        elif winner[1].value != decision.value:  # where they agree, none has lost
            first = winner[0]
            acts = first.acts or proposal.acts
            more, is_lost = _beside(declarations.controls[decision.control], winner[1].value, decision.value) if acts else ([], True)
            if more:
                both = replace(winner[1], value=[*(as_items(winner[1].value) or ()), *more])
                kept[key] = first, both
                revisions.append(Revision(winner[1], both, f"with what {plugin} decided of others", REVIEWER))
            if not is_lost:
                return
            if not first.acts:
                claims.contest(first.plugin, plugin, decision)
            rest = replace(decision, value=more) if more else None
            which = "the others" if more else "it too"
            revisions.append(Revision(decision, rest, f"the plugin {first.plugin} comes before {plugin} and decided {which}", REVIEWER))

    for proposal in proposals:
        for item in proposal.items:
            with contained(proposal.plugin, proposal.hook, problems):
                take(proposal, item)
    problems.extend(claims.problems(snapshot))
    return [decision for _, decision in kept.values()], revisions, problems


def _beside(spec: ControlSpec, first: Value, second: Value) -> tuple[list[Mapping[str, Value]], bool]:
    """Of two lists whose items stand for themselves, those items of the second that the first does not name; and whether any is lost, as
    the first has another one of that name."""
    if not spec.key or spec.absent is not None:
        return [], True
    there = {str(item.get(spec.key)): item for item in as_items(first) or ()}
    theirs = as_items(second) or ()
    more = [item for item in theirs if spec.key in item and str(item[spec.key]) not in there]
    return more, any(item not in more and there.get(str(item.get(spec.key))) != item for item in theirs)


def check(snapshot: Snapshot, decision: Decision, declarations: Declarations) -> Decision | Revision:
    """The decision itself if there is nothing to change, or the revision that it needs."""
    spec = declarations.controls.get(decision.control)
    if spec is None:
        return _dropped(decision, "no enabled plugin has this control")
    reason = _not_now(snapshot, decision, spec)
    if reason:
        return _dropped(decision, reason)
    value, reason = bounded(decision.value, spec)
    if value is None:
        return _dropped(decision, reason)
    if reason:
        return Revision(decision, replace(decision, value=value), reason, REVIEWER)
    if value == decision.value and type(value) is type(decision.value):
        return decision
    return Revision(decision, replace(decision, value=value), "cut to a whole number", REVIEWER)


def _not_now(snapshot: Snapshot, decision: Decision, spec: ControlSpec) -> str:
    if decision.entity.scope is not spec.scope:
        return f"it is a control of the {spec.scope}"
    if spec.scope is Scope.HOST:
        return ""
    guest = snapshot.guests.get(decision.entity.id)
    if guest is None:
        return "there is no such guest"
    return guest.why_blocked(decision.control)


def bounded(value: Value, spec: ControlSpec) -> tuple[Value, str]:
    """The value as the control takes it, and what had to be changed; None as value when it makes no sense at all."""
    if spec.unit is Unit.TEXT:
        if isinstance(value, int) and not isinstance(value, bool):  # policies write "0" and mean the text: there, it is the number
            return str(value), "a number, written as the text that the control takes"
        return (value, "") if isinstance(value, str) else (None, f"{shown(value)} is no text")
    if spec.unit is Unit.LIST:
        return (value, "") if _is_list(value) else (None, f"{shown(value)} is no list of mappings")
    if not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:  # in half the time that `int | float` takes
        what = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else shown(value)
        return None, f"{what} is no finite number"
    number = int(value) if type(value) is not int and spec.unit.is_whole else value
    if spec.choices and value not in spec.choices:
        return None, f"{shown(value, 40)} is none of the values that it has: {', '.join(map(str, spec.choices))}"
    if spec.minimum is not None and number < spec.minimum:
        return _as(number, spec.minimum), f"below the control's minimum of {spec.minimum:g} {spec.unit}"
    if spec.maximum is not None and number > spec.maximum:
        return _as(number, spec.maximum), f"above the control's maximum of {spec.maximum:g} {spec.unit}"
    return number, ""


def why_impossible(value: Value, spec: ControlSpec) -> str:
    """Why a control cannot stand at this value; empty if it can."""
    if spec.unit is Unit.TEXT:
        fits, wanted = isinstance(value, str), "a text"
    elif spec.unit is Unit.LIST:
        fits, wanted = _is_list(value), "a list of mappings"
    else:
        fits, wanted = isinstance(value, int | float) and -NUMBER_LIMIT < value < NUMBER_LIMIT, number_wanted(value)
    return "" if fits else f"should be {wanted} and is {type(value).__name__} {shown(value)}"


def _is_list(value: Value) -> bool:
    """True if a control of unit `list` takes it: a sequence of mappings, such as one for each disk."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(isinstance(item, Mapping) for item in value)


def _as(number: float, bound: float) -> float:
    """The bound in the type of the number."""
    return int(bound) if isinstance(number, int) else float(bound)


def apply_revisions(
    decisions: Sequence[Decision], revisions: Iterable[object], plugin: str, snapshot: Snapshot, declarations: Declarations
) -> tuple[list[Decision], list[Revision], list[Problem]]:
    """The decisions after a plugin's reviewer, with only the revisions that make sense: on a decision that stands, and within bounds."""
    given = [*revisions]
    if not given:
        return [*decisions], [], []
    standing = {(decision.entity.id, decision.control): decision for decision in decisions}
    stood = dict(standing)
    accepted: list[Revision] = []
    problems: list[Problem] = []
    for given_item in given:
        item = given_item
        if _is_drop(item, stood) and (now := standing.get(_about(item.before))):
            item = replace(item, before=now)  # of two revisions of one decision, the drop wins
        why = wrong_part(item) or _why_senseless(item, standing)
        if why or not isinstance(item, Revision):
            problems.append(Problem(Source(plugin), f"mom_review: {why}"))
            if (dropped := _in_doubt(item, standing, plugin, declarations)) is not None:
                # A reviewer protects guests: what it has against a decision on its own control is not clear, so that it is not applied.
                accepted.append(Revision(dropped, None, f"the review by {plugin} makes no sense: {why}", REVIEWER))
                del standing[_about(dropped)]
            continue
        revision = replace(item, reviewer=plugin)
        key = _about(revision.before)
        after = revision.after
        if after is not None:
            checked = check(snapshot, after, declarations)
            after = checked.after if isinstance(checked, Revision) else checked
        accepted.append(replace(revision, after=after))
        if after is None:
            del standing[key]
        else:
            standing[key] = after
    return list(standing.values()), accepted, problems


def _about(decision: Decision) -> tuple[str, str]:
    return decision.entity.id, decision.control


def _is_drop(item: object, stood: Mapping[tuple[str, str], Decision]) -> TypeGuard[Revision]:
    """True if this is a drop, with a reason, of a decision that the reviewer was given."""
    return (
        isinstance(item, Revision)
        and item.after is None
        and isinstance(item.before, Decision)
        and bool(item.reason)
        and stood.get(_about(item.before)) == item.before
    )


def _in_doubt(item: object, standing: Mapping[tuple[str, str], Decision], plugin: str, declarations: Declarations) -> Decision | None:
    """The decision that a revision without sense is about, if the reviewer owns the control."""
    if not isinstance(item, Revision) or not isinstance(item.before, Decision):
        return None
    return standing.get(_about(item.before)) if declarations.control_owners.get(item.before.control) == plugin else None


def _why_senseless(item: object, standing: Mapping[tuple[str, str], Decision]) -> str:
    if not isinstance(item, Revision) or not isinstance(item.before, Decision):
        return f"it returned a {type(item).__name__} where a Revision belongs"
    key = (item.before.entity.id, item.before.control)
    if standing.get(key) != item.before:
        return f"it revises a decision on {item.before.control} of {item.before.entity} that does not stand"
    if item.after is not None and (item.after.entity.id, item.after.control) != key:
        return "a revision may change a decision's value, not what it is about"
    return "" if item.reason else f"its revision of {item.before.control} of {item.before.entity} gives no reason"


def _dropped(decision: Decision, reason: str) -> Revision:
    return Revision(decision, None, reason, REVIEWER)
