"""What is wrong with a host whose memory runs out, for the verdict: numbers in, conditions out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mom_core import Condition, Severity, Snapshot, format_kib
from mom_plugins_balloon.guarantees import PromisesKept
from mom_plugins_balloon.states import MemoryState

MEMORY: Final = "memory"
PROMISES: Final = "promises"

RECLAIM_SECONDS: Final = 30.0
"""What a burst took from the host, the other guests give back within some cycles; a host that has nothing after that is full."""

_OVERSOLD: Final = "move guests away, lower their guarantees, or give the host more memory"
_FULL: Final = "move guests away or shut some down, start no more, or stop what else runs on the host"


def conditions(snapshot: Snapshot, state: MemoryState, standing: PromisesKept) -> Iterable[Condition]:
    """What an operator has to know of the host's memory as a whole; nothing where its size is unknown."""
    total, available = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None:
        return
    oversold = ""
    if standing.shrunk and standing.room is not None:
        oversold = f"guests are promised {format_kib(standing.total)} together, and this host can promise {format_kib(standing.room)}"
    if state is MemoryState.LOW:
        cure = f"{_OVERSOLD}; start no more" if oversold else _FULL
        message = f"the host is full: {format_kib(available)} of {format_kib(total)} available"
        yield Condition(MEMORY, message, oversold or _held(snapshot), cure, after=RECLAIM_SECONDS)
    elif oversold:
        yield Condition(PROMISES, oversold, "", _OVERSOLD, Severity.WARNING)


def _held(snapshot: Snapshot) -> str:
    """What the guests hold of the host's memory."""
    held, sizes = ([kib for kib in snapshot.numbers(name) if kib is not None] for name in ("rss", "balloon_cur"))
    if held:
        return f"the processes of guests hold {format_kib(sum(held))}"
    return f"{len(sizes)} guests have {format_kib(sum(sizes))} together" if sizes else "no guest holds it: something else on the host does"
