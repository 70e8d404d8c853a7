"""What virtio-mem may take from a guest: the second way, beside its balloon, to size it. Pure: a snapshot in, revisions out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from mom_core import Decision, Guest, Revision, Snapshot, format_kib
from mom_plugins_qemu.fields import PLUGGED, PLUGGED_MAXIMUM
from mom_toolkit import Promises

CONTROL: Final = "plugged_target"
_BALLOON: Final = "balloon_target"

KEPT_SHARE: Final = 0.1
"""Of its size, so much stays usable in a guest from which memory is unplugged: the kernel needs room to move what is in use there."""


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], promises: Promises) -> Iterable[Revision]:
    """What decisions on virtio-mem become.

    A guest of which one way takes memory in this cycle is left to that one: both would take what is usable only once.
    """
    by_balloon = {one.entity.id for one in decisions if one.control == _BALLOON}
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        if decision.control == CONTROL and guest is not None:
            revision = _reviewed(guest, decision, promises, by_balloon=guest.id in by_balloon)
            if revision is not None:
                yield revision


def _reviewed(guest: Guest, decision: Decision, promises: Promises, *, by_balloon: bool) -> Revision | None:
    wanted, plugged, maximum = decision.value, guest.whole(PLUGGED), guest.whole(PLUGGED_MAXIMUM)
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or plugged is None or maximum is None:
        return Revision(decision, None, "what virtio-mem has plugged in is unknown")
    if wanted > maximum:
        return Revision(decision, replace(decision, value=maximum), f"virtio-mem can have {format_kib(maximum)} plugged in")
    if wanted >= plugged:
        return None
    if by_balloon:
        return Revision(decision, None, "its balloon is set in this cycle")
    size, usable = guest.number("balloon_cur"), guest.number("mem_usable")
    if size is None or usable is None:
        return Revision(decision, None, "what the guest could spare is unknown")
    spared = plugged - max(0.0, usable - KEPT_SHARE * size)
    promised = (promises.guaranteed_kib(guest) or 0.0) - (size - plugged)
    least = min(plugged, max(0, int(max(spared, promised))))
    if wanted >= least:
        return None
    why = "it is guaranteed more" if promised > spared else "it can spare no more"
    return Revision(decision, replace(decision, value=least), f"{why}: {format_kib(least)} stay plugged in")
