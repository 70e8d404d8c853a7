"""Findings of `mom doctor` about agents in guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from mom_core import Finding, Guest, Severity, as_number, first_names, printable
from mom_plugins_guestagent.collector import AgentState, AgentTarget
from mom_plugins_guestagent.fields import REPORTING_ORDER, SHORT_LEFT
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


_COULD_HELP = "{} could report smaller blocks of free memory while the host is short of memory: {}"
_MAY_BE_TOLD = "{} would help while the host is short of memory, but {} not told: {}"


def examined(
    guests: Sequence[Guest], targets: Sequence[AgentTarget], states: Mapping[str, AgentState], *, tells: bool = False
) -> Iterable[Finding]:
    """Yield findings about agents. mom must have queried each target once before.

    :param tells: mom tells guests when the host is short of memory
    """
    reachable = {target.guest.id for target in targets}
    wrong: dict[str, list[Guest]] = {text: [] for text in _WRONG}
    by: list[str] = []
    for guest in guests:
        state = states.get(guest.id, AgentState())
        if guest.id not in reachable:
            wrong[_WITHOUT].append(guest)
        elif state.sample is not None and state.sample.of_memory:
            by.append(str(state.by))
        else:
            wrong[_DISABLED if state.disabled else _SILENT if state.sample is None else _SPEECHLESS].append(guest)
    if by:
        how = ", ".join(f"{count} by {kind}" for kind, count in sorted(Counter(by).items()))
        yield Finding(Severity.OK, SUBJECT, f"{_count(by)} reported statistics: {how}")
    for text, named in wrong.items():
        if named:
            silence = next((states[guest.id].silence for guest in named if text == _SILENT and guest.id in states), "")
            why = f" ({printable(silence, 200)})" if silence else ""
            yield Finding(Severity.WARNING, SUBJECT, text.format(_count(named), _names(named)) + why, _WRONG[text])
    yield from _helpers(guests, states, tells=tells)
    liars = [guest for guest in guests if guest.id in reachable and guest.id in states and states[guest.id].complaint]
    if liars:
        yield Finding(
            Severity.WARNING, SUBJECT, f"mom rejects statistics from {_count(liars)}: {_names(liars)} ({states[liars[0].id].complaint})"
        )


def _helpers(guests: Sequence[Guest], states: Mapping[str, AgentState], *, tells: bool) -> Iterable[Finding]:
    fields = {guest.id: state.sample.fields for guest in guests if (state := states.get(guest.id)) is not None and state.sample is not None}
    able = [guest for guest in guests if SHORT_LEFT in fields.get(guest.id, {})]
    orders = {guest.id: as_number(fields.get(guest.id, {}).get(REPORTING_ORDER)) or 0 for guest in guests}
    unasked = [guest for guest in guests if guest not in able and orders[guest.id] > USUAL_ORDER]
    if unasked:
        cure = "if their owners agree: mom-guestd --reporting-order --trim there, and tell_short: true for the guestagent plugin"
        yield Finding(Severity.OK, SUBJECT, _COULD_HELP.format(_count(unasked), _names(unasked)), cure)
    if able and not tells:
        message = _MAY_BE_TOLD.format(_count(able), "is" if len(able) == 1 else "are", _names(able))
        yield Finding(Severity.OK, SUBJECT, message, "set tell_short: true for the guestagent plugin")


def _count(guests: Sequence[object]) -> str:
    return f"{len(guests)} guest" + ("" if len(guests) == 1 else "s")


def _names(guests: Sequence[Guest]) -> str:
    return first_names([guest.name for guest in guests])
