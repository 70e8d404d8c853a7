"""What an operator has to know of the host's memory, of promises, and of guests that cannot be resized."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from mom_core import BalloonControl, Condition, Finding, Hypervisor, Portion, Problem, Severity, Snapshot, Source, format_kib, printable
from mom_plugins_balloon.ballooned_guests import CONTROL
from mom_plugins_balloon.holders import MOVE_GUESTS, cause
from mom_plugins_balloon.promises import Guarantees, PromisesKept
from mom_plugins_balloon.states import MemoryState
from mom_toolkit import listed_guests

MEMORY: Final = "memory"
PROMISES: Final = "promises"
GROWTH: Final = "growth"

RECLAIM_SECONDS: Final = 30.0
"""s. What a burst took from the host, the other guests give back within some cycles; a host that has nothing after that is full."""

FINDINGS_SHOWN: Final = 10
"""`mom doctor` names so many guests that cannot be resized, and counts the rest."""

_OVERSOLD: Final = "move guests away, lower their guarantees, or give the host more memory"
_START_NO_MORE: Final = "start no more guests"


def conditions(
    snapshot: Snapshot, state: MemoryState, standing: PromisesKept, why_none_gives: Callable[[], str] = str
) -> Iterable[Condition]:
    """Yield that the host is full or short of memory, that guests may take more at once than it has, or that more is promised than it has.

    Nothing is known of a host whose size is unknown.

    :param why_none_gives: gives why no guest gives memory, whatever the host lacks; empty: they do
    """
    total, available = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None:
        return
    oversold, growth = standing.oversold_by(), snapshot.host.number("mem_growth_peak")
    growing, short = growth is not None and available < growth, state in {MemoryState.LOW, MemoryState.HARD}
    held, cure = _cause(snapshot, oversold) if growing or short else ("", "")
    if short:
        why = "; ".join(filter(None, (held, why_none_gives())))
        much = f"{format_kib(available)} of {format_kib(total)} available"
        if state is MemoryState.LOW:
            yield Condition(MEMORY, f"the host is full: {much}", why, cure, after=RECLAIM_SECONDS)
        else:
            hard = snapshot.host.number("mem_watermark_hard")
            below = f", below its hard watermark of {format_kib(hard)}" if hard else ""
            yield Condition(MEMORY, f"the host is short of memory: {much}{below}", why, cure, Severity.WARNING)
    if growing:
        message = f"guests may take {format_kib(growth or 0.0)} within 3 s, as they did before, and the host has less available"
        yield Condition(GROWTH, message, "" if short else held, cure, Severity.WARNING, after=RECLAIM_SECONDS)
    if oversold:
        yield Condition(PROMISES, oversold, "", _OVERSOLD, Severity.WARNING)


def _cause(snapshot: Snapshot, oversold: str) -> tuple[str, str]:
    """Return what fills the host, and the cure: by its largest consumers, and by promises where guests are the largest."""
    found = cause(snapshot)
    if oversold and found.guests_first:
        others = [cure for cure in found.cures if cure is not MOVE_GUESTS]
        return "; ".join(filter(None, (oversold, found.text))), "; ".join((_OVERSOLD, *others, _START_NO_MORE))
    return found.text, "; ".join((*found.cures, _START_NO_MORE))


def promise_problems(standing: PromisesKept, source: Source) -> Iterable[Problem]:
    """Promises that the host or the guest cannot keep, and those that make no sense."""
    oversold = standing.oversold()
    if oversold:
        yield Problem(source, oversold, None, Severity.ERROR, f"{_OVERSOLD}; host_reserve of the plugin balloon is left out")
    for excess in standing.excessive:
        message = f"it is promised {format_kib(excess.promised)} and cannot have more than {format_kib(excess.maximum)}: it keeps all"
        yield Problem(source, message, excess.guest.entity, Severity.WARNING, "lower its guarantee, or raise its maximum memory")
    for unclear in standing.unclear:
        message = f"the guarantee in its metadata cannot be understood, so it keeps all its memory: {unclear.error.message}"
        yield Problem(source, message, unclear.guest.entity, Severity.ERROR, f"in the guest's metadata, {unclear.error.hint}")


def findings(hypervisor: Hypervisor | None, guarantees: Guarantees) -> Iterable[Finding]:
    """Say how many guests can be resized, which cannot, and how many of them keep all of their memory."""
    subject = "memory balloons"
    if hypervisor is not None and not isinstance(hypervisor, BalloonControl):
        cure = "enable a hypervisor plugin that can, such as libvirt, before this one, or take balloon out of the configuration"
        yield Finding(Severity.ERROR, subject, f"{hypervisor.uri} cannot resize guests", cure)
        return
    guests = yield from listed_guests(hypervisor, subject)
    if guests is None:
        return
    blocked = [(guest.name, reason) for guest in guests if (reason := guest.why_blocked(CONTROL))]
    for name, reason in blocked[:FINDINGS_SHOWN]:
        yield Finding(Severity.WARNING, f"guest {printable(name)}", f"it cannot be resized: {reason}", _cure(reason))
    if len(blocked) > FINDINGS_SHOWN:
        yield Finding(Severity.WARNING, subject, f"{len(blocked) - FINDINGS_SHOWN} more guests cannot be resized")
    promised = guarantees.written([guest for guest in guests if not guest.why_blocked(CONTROL)])
    whole = sum(Portion(share=1.0) in portions for portions in promised.values())
    keep = f"; all of its memory is promised to {whole} of them" if whole else ""
    yield Finding(Severity.OK, subject, f"{len(guests) - len(blocked)} of {len(guests)} guests can be resized{keep}")


def _cure(reason: str) -> str:
    if "balloon" in reason:
        return "give it <memballoon model='virtio'/> and the virtio_balloon driver, or live with its size"
    return "docs/guests.md says what mom does with each kind of guest"
