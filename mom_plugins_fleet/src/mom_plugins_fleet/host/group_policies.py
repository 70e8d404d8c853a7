"""Policies of this host's group: those in force here, and the changes that a newer record needs."""

from __future__ import annotations

from collections.abc import Mapping

from mom_kvm import PolicyTexts
from mom_plugins_fleet.records import CLASSES, FLEET_POLICY, Group


def fleet_texts(policies: PolicyTexts) -> Mapping[str, str]:
    """Return the fleet's policies that are in force here."""
    return {name: text.text for name, text in policies.state().texts.items() if FLEET_POLICY.match(name)}


def changes_to(record: Group, current: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return the changes that turn the current policies into those of a record, as `PolicyTexts.change` takes them."""
    wanted = {name: text for name, text in record.policies.items() if name != CLASSES}
    changed = {name: text for name, text in wanted.items() if current.get(name) != text}
    return {**changed, **dict.fromkeys(current.keys() - wanted.keys() - {CLASSES})}
