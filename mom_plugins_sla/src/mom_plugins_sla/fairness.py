"""From what is known of all guests to their fair shares: what each claims, and what there is for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mom_core import Guest, MomError, Portion, Snapshot, as_number, printable
from mom_kvm import Promises
from mom_plugins_sla.fair_share import Claim, fair_shares

AT_HAND_SHARE, AT_HAND_KIB = 0.25, 80 << 10
"""A guest wants this at hand above what it holds: the margin of the default balloon policy. Without it, every burst hurts."""

KEPT_SHARE, KEPT_KIB = 0.05, 32 << 10
"""A guest that is shrunk keeps this above what it holds, the larger of the two: the reserve of the balloon plugin."""


_SIZE, _OBSTACLE = "balloon_target", "balloon_obstacle"
"""The control of a guest's size, and the field by which its plugin says why the guest cannot be counted on to give memory."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Fair shares in KiB by guest id, and how much the host lacks of what it is to have available; None: unknown."""

    shares: Mapping[str, float] = field(default_factory=dict)
    lack: float | None = None


KEEPS_SHARE = 0.05
"""Ratio of the host's memory it is to have available, unless a setting says more: below that, a Linux host begins to swap out guests."""


def fairness_of(snapshot: Snapshot, host_keeps: Portion | None, idle_tax: float, promises: Promises) -> Fairness:
    """Return the fair share of each guest. Guests whose size or maximum is unknown, or that cannot give memory, have none: what they hold
    is not for others, who would give nothing for that while the host goes short.

    :param host_keeps: what the host is to have available; None: as much as a host that is hard up has, as the balloon plugin says
    :raises MomError: who holds promises does not tell those of a guest; without them, the shares of all would be wrong
    """
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    if total is None or available is None:
        return Fairness()
    keeps = host.number("mem_watermark_hard") if host_keeps is None else host_keeps.kib_of(total)
    lack = (KEEPS_SHARE * total if keeps is None else keeps) - available
    claims: dict[str, Claim] = {}
    together = 0.0
    for identity, guest in snapshot.guests.items():
        size, maximum = guest.number("balloon_cur"), guest.number("balloon_max")
        if size is None or maximum is None or guest.why_blocked(_SIZE) or guest.text(_OBSTACLE):
            continue
        together += size
        # What nobody takes of a guest is not shared out: others would keep theirs for a share to which it cannot be brought.
        least, cost = max(_guaranteed_kib(promises, guest), _kept_kib(guest, size)), guest.number("reclaim_cost") or 1.0
        claims[identity] = Claim(least, used_kib(guest, size), maximum, cost)
    shares = fair_shares(list(claims.values()), max(0.0, together - lack), idle_tax)
    return Fairness(dict(zip(claims, shares, strict=True)), max(0.0, lack))


def _guaranteed_kib(promises: Promises, guest: Guest) -> float:
    try:
        given = promises.guaranteed_kib(guest)
        number = 0.0 if given is None else as_number(given)
        if number is None:
            raise TypeError(f"a guarantee is {given!r:.80}")
    except BaseException as error:  # containment: it is another plugin's code, which may raise anything
        why = printable(f"{type(error).__name__}: {error}", 300)
        raise MomError(f"the promises of {type(promises).__module__} fail: {why}", hint="tell the authors of that plugin") from error
    return number


def used_kib(guest: Guest, size: float) -> float:
    """Return the memory that the guest holds and wants at hand, in KiB: all that it has, as long as it does not tell."""
    held = _held_kib(guest, size)
    return size if held is None else held * (1 + AT_HAND_SHARE) + AT_HAND_KIB


def _kept_kib(guest: Guest, size: float) -> float:
    """Return the memory that nobody takes of the guest, in KiB: all that it has, as long as it does not tell."""
    held = _held_kib(guest, size)
    return size if held is None else min(size, held + max(KEPT_SHARE * held, KEPT_KIB))


def _held_kib(guest: Guest, size: float) -> float | None:
    usable = guest.number("mem_usable")
    return None if usable is None else max(0.0, size - usable)
