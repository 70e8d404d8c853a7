"""What the host lacks, and which guests' cold memory makes up for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import Host, format_kib
from mom_plugins_host.offload.law import ColdOffer

_SHARE: Final = 0.10
_MOST_KIB: Final = 32 << 20
"""What a host is to have available where no plugin says it (`mem_watermark_high`): a tenth of its memory, and no more than 32 GiB."""

AHEAD: Final = "mem_rise_ahead"
"""The host field with what is made available before guests take it, as the balloon law sees it."""

_ENOUGH: Final = 1.1
"""Times that: when so much is available, taking ends. It begins below that itself, where sweeps do: what costs more begins further down."""

_PATIENT: Final = 0.85
"""Times that: with more, what hurts is far off, as the host is not half the way down to where margins are taken."""

_TIGHT: Final = 0.7
"""Times that: below it the policy of the balloon begins to take margins."""

_MOST_URGENT: Final = 4.0
"""With a sixth of it available the balloon takes what guests may die of; one that waits 8 % of its time for cold memory works on."""


@dataclass(frozen=True, slots=True)
class HostNeed:
    """Memory that cold memory is to make available, in KiB (0: none), and what there is beyond what the host is to have.

    `urgency` is how much more a guest may feel than usual (1 to 4), as what hurts it more is taken otherwise; `patient` whether that is far
    off. `words` say how the host is; empty: that is unknown.
    """

    lack_kib: float
    beyond_kib: float
    words: str
    urgency: float = 1.0
    patient: bool = False


def need_of(host: Host, *, working: bool) -> HostNeed:
    """The need of the host.

    :param working: whether memory was taken in the last cycle: it goes on until there is a little more than begins it
    """
    available, total = host.number("mem_really_available"), host.number("mem_available")
    target = host.number("mem_watermark_high")
    if target is None and total is not None:
        target = min(_SHARE * total, _MOST_KIB)
    if available is None or target is None:
        return HostNeed(0.0, 0.0, "")
    free = available - (host.number("mem_reserved") or 0.0)
    words = f"the host has {format_kib(available)} available, and is to have {format_kib(target)}"
    ahead = host.number(AHEAD) or 0.0
    if ahead:
        words += f" and the {format_kib(ahead)} that guests are expected to take before long"
    lack = _ENOUGH * target + ahead - free if free < target + ahead or working else 0.0
    urgency = min(_MOST_URGENT, max(1.0, _TIGHT * target / max(free, 1.0)))
    return HostNeed(max(0.0, lack), max(0.0, free - ahead - _ENOUGH * target), words, urgency, free >= _PATIENT * target)


def chosen(offers: Mapping[str, ColdOffer], most_kib: float, seconds: float, spared: Collection[str] = ()) -> dict[str, int]:
    """Which guests give, by their ids, in KiB per second: the cheapest first, each at its own pace, until there is enough.

    :param most_kib: what is to go in this cycle
    :param seconds: how long a cycle is
    :param spared: the ids of those that give only what others cannot
    """
    found: dict[str, int] = {}
    left = most_kib
    for identity, offer in sorted(offers.items(), key=lambda one: (one[0] in spared, one[1].price, -one[1].pace_kib, one[0])):
        pace = int(min(offer.pace_kib, left / seconds))
        if pace <= 0:
            continue
        found[identity] = pace
        left -= pace * seconds
    return found
