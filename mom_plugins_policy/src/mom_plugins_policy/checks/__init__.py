"""Checks of policies before they go live: certain failures, and suspicious code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from mom_core import Declarations
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.names import remarks_on_names
from mom_plugins_policy.checks.remarks import RULES
from mom_plugins_policy.checks.walk import Walk
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.policy import Code, Policy

__all__ = ["RULES", "check", "check_policy"]

_last: WeakKeyDictionary[Code, tuple[Declarations | None, list[PolicyProblem]]] = WeakKeyDictionary()
"""Cached remarks, with the declarations on which they depend."""


def check(texts: Mapping[str, str], declarations: Declarations | None = None, limits: PolicyLimits = DEFAULT_LIMITS) -> list[PolicyProblem]:
    """Return remarks on the policies, sorted by policy name and position.

    :param texts: policies keyed by name
    :param declarations: declarations and default policies of the enabled plugins; None accepts every field and control
    """
    beside = {} if declarations is None else declarations.policies
    try:
        policy = Policy.compile({**beside, **texts}, declarations, limits)
    except PolicyError as error:
        return sorted(error.problems)
    return [item for item in check_policy(policy) if item.name in texts]


def check_policy(policy: Policy) -> list[PolicyProblem]:
    """Return remarks on compiled policies."""
    declarations, result = _last.get(policy.code, (None, None))
    if result is None or declarations is not policy.declarations:
        program = policy.program
        walk = Walk(program, policy.declarations)
        walk.walk()
        if program.set_notes.all_known:
            walk.declared.unset_notes(program.set_notes.names)
        result = sorted([*walk.remarks.values(), *remarks_on_names(program), *_remarks_on_nothing(policy)])
        _last[policy.code] = (policy.declarations, result)
    return list(result)


def _remarks_on_nothing(policy: Policy) -> Iterator[PolicyProblem]:
    defaults = {} if policy.declarations is None else policy.declarations.policies
    for name in policy.code.empty:
        lost = ", and the default policy of this name is not used" if name in defaults else ""
        hint = "write a policy, or `nil` for a policy that does nothing"
        yield PolicyProblem(name, 0, 0, "empty-policy", f"the policy contains only comments, so it decides nothing{lost}", "warning", hint)
