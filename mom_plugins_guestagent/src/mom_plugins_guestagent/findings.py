"""Findings of `mom doctor` about agents in guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mom_core import Finding, Guest, Severity, as_number, count_of, first_names, printable
from mom_plugins_guestagent.collector import AgentState
from mom_plugins_guestagent.fields import REPORTING_ORDER
from mom_plugins_guestagent.guestd import USUAL_ORDER

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


def examined(guests: Sequence[Guest], states: Mapping[str, AgentState], *, tells: bool = False) -> Iterable[Finding]:
    """Yield findings about agents.

    :param states: states of the agents that mom has reached and queried, keyed by guest ID
    :param tells: whether mom tells guests when the host is short of memory
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
    able = [guest for guest in guests if guest.id in states and states[guest.id].helps]
    unasked = [guest for guest in guests if guest not in able and _order(states.get(guest.id)) > USUAL_ORDER]
    if unasked:
        some = count_of(len(unasked), "guest")
        message = f"{some} could report smaller blocks of free memory while the host is short of memory: {_names(unasked)}"
        cure = "if their owners agree, run mom-guestd --reporting-order --trim there, and set tell_short: true for the guestagent plugin"
        yield Finding(Severity.OK, SUBJECT, message, cure)
    if able and not tells:
        message = f"mom does not tell {count_of(len(able), 'guest')} that could help while the host is short of memory: {_names(able)}"
        yield Finding(Severity.OK, SUBJECT, message, "set tell_short: true for the guestagent plugin")
    liars = [guest for guest in guests if guest.id in states and states[guest.id].complaint]
    if liars:
        complaint = states[liars[0].id].complaint
        yield Finding(
            Severity.WARNING, SUBJECT, f"mom rejects statistics from {count_of(len(liars), 'guest')}: {_names(liars)} ({complaint})"
        )


def _fault(state: AgentState | None) -> str:
    if state is None:
        return _WITHOUT
    if state.sample is not None and state.sample.of_memory:
        return ""
    return _DISABLED if state.disabled else _SILENT if state.sample is None else _SPEECHLESS


def _order(state: AgentState | None) -> float:
    fields = {} if state is None or state.sample is None else state.sample.fields
    return as_number(fields.get(REPORTING_ORDER)) or 0


def _names(guests: Sequence[Guest]) -> str:
    return first_names([guest.name for guest in guests])
