"""Findings on patterns that match no guest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mom_core import Config, Finding, Guest, GuestPattern, GuestPatterns, Hypervisor, Severity, printable
from mom_core.plugins.discovery import suggestion
from mom_core.plugins.registry import Plugin

DESCRIBED_IN_A_LOOK: Final = 100
MOST_LOOKS: Final = 30

PATTERNS_SHOWN: Final = 10


def guests_of(owner: Plugin, hypervisor: Hypervisor, config: Config) -> Sequence[Guest]:
    """Return the hypervisor's guests. Raise errors of the plugin `owner`."""
    by_property = {number for number, rule in enumerate(config.guests) if "=" in rule.pattern}
    looks = 0
    while True:
        answer = owner.worker.call("guests", hypervisor.guests)
        guests = [guest for guest in answer if isinstance(guest, Guest)] if isinstance(answer, Iterable) else []
        looks += 1
        if by_property <= _matched(config, guests) or looks >= min(MOST_LOOKS, len(guests) / DESCRIBED_IN_A_LOOK):
            return guests


def _matched(config: Config, guests: Sequence[Guest]) -> set[int]:
    patterns = GuestPatterns([rule.pattern for rule in config.guests])
    return {number for guest in guests for number in patterns.matching(guest)}


def pattern_findings(config: Config, guests: Sequence[Guest]) -> Iterable[Finding]:
    """Report patterns that match no guest, if any guest is running."""
    matched = _matched(config, guests)
    unmatched = [rule.pattern for number, rule in enumerate(config.guests) if number not in matched] if guests else []
    for pattern in unmatched[:PATTERNS_SHOWN]:
        place = config.places.get(("guests", pattern))
        line = f"line {place.line}: " if place is not None else ""
        cure = _cure_of_pattern(GuestPattern.of(pattern), guests)
        yield Finding(Severity.WARNING, "guests", f"{line}{printable(pattern, 60)} matches no guest here", cure)
    if len(unmatched) > PATTERNS_SHOWN:
        yield Finding(Severity.WARNING, "guests", f"{len(unmatched) - PATTERNS_SHOWN} more patterns match no guest here")


def _cure_of_pattern(pattern: GuestPattern, guests: Sequence[Guest]) -> str:
    if any(pattern.texts(guest) for guest in guests):
        return "correct the pattern if it should match guests"
    names = sorted({name for guest in guests for name, value in guest.properties.items() if isinstance(value, str | list | tuple)})
    meant = suggestion(pattern.property, names)
    instead = f"did you mean {meant}?" if meant else f"known properties: {', '.join(names)}"
    return f"no guest here has the property {pattern.property} ({instead}); properties come from a plugin of the platform, such as nova"
