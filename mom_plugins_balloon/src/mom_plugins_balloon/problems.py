"""What an operator has to know of the host's memory, of promises, and of guests that cannot be resized."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from mom_core import BalloonControl, Condition, Finding, Hypervisor, Problem, Severity, Snapshot, Source, format_kib, printable
from mom_plugins_balloon.ballooned_guests import CONTROL
from mom_plugins_balloon.guarantees import PromisesKept
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
_FULL: Final = "move guests away or shut some down, start no more, or stop what else runs on the host"


def conditions(
    snapshot: Snapshot, state: MemoryState, standing: PromisesKept, why_none_gives: Callable[[], str] = str
) -> Iterable[Condition]:
    """That the host is full or short of memory, that guests may take more at once than it has, or that more is promised than there is;
    nothing where the host's size is unknown.

    :param why_none_gives: gives why no guest gives memory, whatever the host lacks; empty: they do
    """
    total, available = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None:
        return
    oversold, growth = standing.oversold_by(), snapshot.host.number("mem_growth_peak")
    if state is MemoryState.LOW:
        cure = f"{_OVERSOLD}; start no more" if oversold else _FULL
        message, why = f"the host is full: {format_kib(available)} of {format_kib(total)} available", oversold or _held(snapshot)
        yield Condition(MEMORY, message, "; ".join(filter(None, (why, why_none_gives()))), cure, after=RECLAIM_SECONDS)
    elif state is MemoryState.HARD:
        message = f"the host is short of memory: {format_kib(available)} of {format_kib(total)} available"
        why = f"its hard watermark is {format_kib(snapshot.host.number('mem_watermark_hard') or 0.0)}: guests give what they may miss"
        yield Condition(MEMORY, message, why_none_gives() or why, _FULL, Severity.WARNING)
    if growth is not None and available < growth:
        message = f"guests may take more at once than the host has: {format_kib(growth)} within 3 s were seen"
        yield Condition(GROWTH, message, f"{format_kib(available)} are available", _FULL, Severity.WARNING, after=RECLAIM_SECONDS)
    if oversold:
        yield Condition(PROMISES, oversold, "", _OVERSOLD, Severity.WARNING)


def _held(snapshot: Snapshot) -> str:
    """The part of the host's memory that guests hold."""
    held, sizes = ([kib for kib in snapshot.numbers(name) if kib is not None] for name in ("rss", "balloon_cur"))
    if held:
        return f"the processes of guests hold {format_kib(sum(held))}"
    return f"{len(sizes)} guests have {format_kib(sum(sizes))} together" if sizes else "no guest holds it: something else on the host does"


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


def findings(hypervisor: Hypervisor | None) -> Iterable[Finding]:
    """Whether guests can be resized, and which cannot."""
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
    yield Finding(Severity.OK, subject, f"{len(guests) - len(blocked)} of {len(guests)} guests can be resized")


def _cure(reason: str) -> str:
    if "balloon" in reason:
        return "give it <memballoon model='virtio'/> and the virtio_balloon driver, or live with its size"
    return "docs/guests.md says what mom does with each kind of guest"
