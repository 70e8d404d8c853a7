"""Checks of policies before they go live: certain failures, and suspicious code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mom_core import Declarations
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.declared import RULES, remarks_on_names
from mom_plugins_policy.checks.walk import Walk
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.policy import Policy

__all__ = ["RULES", "check", "check_policy"]


def check(texts: Mapping[str, str], declarations: Declarations | None = None) -> list[PolicyProblem]:
    """Return remarks on the policies, sorted by policy name and position.

    :param texts: policies keyed by name
    :param declarations: declarations and default policies of the enabled plugins; None accepts every field and control
    """
    beside = {} if declarations is None else declarations.policies
    try:
        policy = Policy.compile({**beside, **texts}, declarations)
    except PolicyError as error:
        return sorted(error.problems)
    return [item for item in check_policy(policy) if item.name in texts]


def check_policy(policy: Policy) -> list[PolicyProblem]:
    """Return remarks on compiled policies."""
    walk = Walk(policy.program, policy.declarations)
    walk.walk()
    return sorted([*walk.remarks.values(), *remarks_on_names(policy.program), *_remarks_on_nothing(policy)])


def _remarks_on_nothing(policy: Policy) -> Iterator[PolicyProblem]:
    defaults = {} if policy.declarations is None else policy.declarations.policies
    for name in policy.empty:
        lost = ", and the default policy of this name is not used" if name in defaults else ""
        hint = "write a policy, or `nil` for a policy that does nothing"
        yield PolicyProblem(name, 0, 0, "empty-policy", f"the policy contains only comments, so it decides nothing{lost}", "warning", hint)
