"""Findings of `mom doctor` about agents in guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mom_core import Finding, Guest, Severity, count_of, first_names, printable
from mom_plugins_guestagent.collector import AgentState

SUBJECT = "guest agents"

NO_ACCESS = Finding(
    Severity.WARNING, SUBJECT, "no hypervisor gives access to guests' agents", "set guestd_address for the guests, under guests:"
)

_WRONG = {
    "{} without a channel or address: {}": (
        "add a channel to the guests, as mom-plugins-guestagent's README shows, and run an agent in the guests; or set guestd_address"
    ),
    "{} whose agent is not allowed to read files (guest-file-open, -read, -close): {}": (
        "allow these commands in the guest's qemu-ga configuration, or run mom-guestd there"
    ),
    "{} whose agent reports no memory statistics: {}": "run mom-guestd in Linux guests; elsewhere, only a balloon driver reports memory",
    "{} whose agent does not answer: {}": "start qemu-guest-agent or mom-guestd in these guests, unless they are booting or paused",
}

_WITHOUT, _DISABLED, _SPEECHLESS, _SILENT = _WRONG


def examined(guests: Sequence[Guest], states: Mapping[str, AgentState]) -> Iterable[Finding]:
    """Yield findings about agents.

    :param states: states of the agents that mom has reached and queried, keyed by guest ID
    """
    faults = [(guest, _fault(states.get(guest.id))) for guest in guests]  # once: states change meanwhile
    wrong = {text: [guest for guest, fault in faults if fault == text] for text in _WRONG}
    kinds = Counter(str(states[guest.id].by) for guest, fault in faults if not fault)
    if kinds:
        how = ", ".join(f"{count} by {kind}" for kind, count in sorted(kinds.items()))
        yield Finding(Severity.OK, SUBJECT, f"{count_of(kinds.total(), 'guest')} reported statistics: {how}")
    for text, named in wrong.items():
        if named:
            silence = states[named[0].id].silence if text == _SILENT else ""
            why = f" ({printable(silence, 200)})" if silence else ""
            yield Finding(Severity.WARNING, SUBJECT, text.format(count_of(len(named), "guest"), _names(named)) + why, _WRONG[text])
    liars = [guest for guest in guests if guest.id in states and states[guest.id].complaint]
    if liars:
        complaint = states[liars[0].id].complaint
        yield Finding(
            Severity.WARNING, SUBJECT, f"mom rejects statistics from {count_of(len(liars), 'guest')}: {_names(liars)} ({complaint})"
        )


def _fault(state: AgentState | None) -> str:
    if state is None:
        return _WITHOUT
    if state.sample is not None:
        return ""
    return _DISABLED if state.disabled else _SILENT if state.silence else _SPEECHLESS


def _names(guests: Sequence[Guest]) -> str:
    return first_names([guest.name for guest in guests])
