"""Findings of `mom doctor` about agents in guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mom_core import Finding, Guest, Severity, printable
from mom_plugins_guestagent.collector import AgentState, AgentTarget

_MOST_NAMES = 5
"""So many guests are named; a host may have hundreds."""

SUBJECT = "guest agents"

NO_ACCESS = Finding(Severity.WARNING, SUBJECT, "no hypervisor gives access to guests' agents", "give guests a guestd_address under guests:")

_CHANNEL_CURE = "add a channel to the guests, as mom-plugins-guestagent's README shows, and run an agent in them; or set guestd_address"
_FILES_CURE = "allow guest-file-open, guest-file-read and guest-file-close in the guest's qemu-ga configuration, or run mom-guestd there"


def examined(guests: Sequence[Guest], targets: Sequence[AgentTarget], states: Mapping[str, AgentState]) -> Iterable[Finding]:
    """Findings after each target was asked once."""
    named = {guest.id: guest for guest in guests}
    reachable = [named[target.guest.id] for target in targets if target.guest.id in named]
    without = [guest for guest in guests if guest not in reachable]
    if without:
        yield Finding(Severity.WARNING, SUBJECT, f"{_count(without)} without a channel or address: {_names(without)}", _CHANNEL_CURE)
    samples = {guest.id: states[guest.id].sample for guest in reachable if guest.id in states}
    well = [guest for guest in reachable if (sample := samples.get(guest.id)) is not None and sample.of_memory]
    if well:
        by: dict[str, int] = {}
        for guest in well:
            by[str(states[guest.id].by)] = by.get(str(states[guest.id].by), 0) + 1
        how = ", ".join(f"{count} by {kind}" for kind, count in sorted(by.items()))
        yield Finding(Severity.OK, SUBJECT, f"{_count(well)} gave figures: {how}")
    disabled = [guest for guest in reachable if guest not in well and guest.id in states and states[guest.id].disabled]
    if disabled:
        commands = ", ".join(sorted({name for guest in disabled for name in states[guest.id].disabled}))
        yield Finding(Severity.WARNING, SUBJECT, f"{_count(disabled)} whose agent may not run {commands}: {_names(disabled)}", _FILES_CURE)
    speechless = [guest for guest in reachable if guest not in (*well, *disabled) and samples.get(guest.id) is not None]
    if speechless:
        text = f"{_count(speechless)} whose agent says nothing of memory: {_names(speechless)}"
        yield Finding(Severity.WARNING, SUBJECT, text, "run mom-guestd in those that are Linux; of others the balloon driver tells, if any")
    silent = [guest for guest in reachable if guest not in (*well, *disabled, *speechless)]
    if silent:
        why = next((states[guest.id].silence for guest in silent if guest.id in states and states[guest.id].silence), "no answer yet")
        text = f"{_count(silent)} whose agent does not answer: {_names(silent)} ({printable(why, 200)})"
        yield Finding(Severity.WARNING, SUBJECT, text, "start qemu-guest-agent or mom-guestd in them, unless they are booting or paused")
    liars = [guest for guest in reachable if guest.id in states and states[guest.id].complaint]
    if liars:
        yield Finding(Severity.WARNING, SUBJECT, f"{_count(liars)} not believed: {_names(liars)} ({states[liars[0].id].complaint})")


def _count(guests: Sequence[Guest]) -> str:
    return f"{len(guests)} guest" + ("" if len(guests) == 1 else "s")


def _names(guests: Sequence[Guest]) -> str:
    names = [printable(guest.name) for guest in guests[:_MOST_NAMES]]
    more = len(guests) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
