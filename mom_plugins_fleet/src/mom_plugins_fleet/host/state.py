"""This host's state as reported to the fleet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from mom_core import Guest, Problem, Report, Severity, Snapshot, Value, as_number, printable
from mom_kvm import GuestDescription, GuestMoves, HealthLimits, Promises
from mom_plugins_fleet.records import LARGEST_KIB, HostedGuest, HostState, MoverState, listed

GRAIN_KIB: Final = 16 << 10
"""Sizes are rounded to this unit, so that small changes are not reported."""


def host_state(report: Report, promises: Promises, mover: GuestMoves | None, stays: Mapping[str, str], **more: Any) -> HostState:
    """Return the host's state.

    :param stays: why guests cannot leave, keyed by guest id
    :param more: further fields of the state
    """
    host, all_guests = report.snapshot.host.fields, report.snapshot.guests
    swapped = _kib(host.get("swap_usage"), 1)
    guests = listed(_guest(guest, promises, stays.get(guest.id, ""), swapped) for guest in all_guests.values())
    named = {guest.id for guest in guests}
    unlisted = [guest for identity, guest in all_guests.items() if identity not in named]
    return HostState(
        mode=report.mode,
        total=_kib(host.get("mem_available"), 1),
        available=_kib(host.get("mem_really_available"), GRAIN_KIB),
        promisable=_kib(host.get("mem_promisable"), 1),
        reserved=_kib(host.get("mem_reserved"), GRAIN_KIB) or 0,
        holds_promises=type(promises) is not Promises,
        memory_state=(report.snapshot.host.text("host_memory_state") or "")[:64],
        problems=len(report.problems),
        problem=_worst(report.problems),
        unhealthy=_unhealthy(report.snapshot),
        guests=guests,
        others=len(unlisted),
        others_promised=min(LARGEST_KIB, sum(_promised(guest, promises) for guest in unlisted)),
        mover=_mover(mover),
        **more,
    )


def _worst(problems: Sequence[Problem]) -> str:
    worst = min(problems, key=lambda problem: problem.severity is not Severity.ERROR, default=None)
    return "" if worst is None else printable(worst.message, 200)


def _guest(guest: Guest, promises: Promises, stays: str, host_swapped: int | None) -> HostedGuest:
    fields = guest.fields
    return HostedGuest(
        id=guest.id,
        name=printable(guest.name, 200),
        size=_kib(fields.get("balloon_cur"), GRAIN_KIB),
        maximum=_kib(fields.get("balloon_max"), 1),
        held=_held(fields, host_swapped),
        working=_kib(fields.get("working_set"), GRAIN_KIB),
        guarantee=_promised(guest, promises),
        stays=stays[:200],
    )


def _held(fields: Mapping[str, Value], host_swapped: int | None) -> int | None:
    # Unknown swap (shared memory) counts as the host's swap, up to the guest's maximum.
    held, swapped, most = (_kib(fields.get(name), 1) for name in ("rss", "host_swap", "balloon_max"))
    if held is not None and swapped is None and host_swapped is not None:
        swapped = host_swapped if most is None else min(host_swapped, max(0, most - held))
    return None if held is None or swapped is None else _kib(held + swapped + GRAIN_KIB - 1, GRAIN_KIB)


def _mover(moves: GuestMoves | None) -> MoverState | None:
    mover = None if moves is None else moves.mover()
    return None if mover is None else MoverState(name=printable(mover[0], 100), **asdict(mover[1]))


def _unhealthy(snapshot: Snapshot) -> int | None:
    reasons = HealthLimits.reasons(snapshot)
    judged = [reason for reason in reasons if reason is not None]
    return sum(map(bool, judged)) if judged or not reasons else None


def _promised(guest: Guest, promises: Promises) -> int:
    # While the promise is unknown, all of the guest's memory counts.
    promised = _kib(promises.promised_kib(guest), 1) or 0
    if guest.blocked.get("*") != GuestDescription.UNREAD:
        return promised
    most = (_kib(guest.fields.get(name), 1) for name in ("balloon_max", "balloon_cur"))
    return max(promised, next(filter(None, most), 0))


def _kib(value: Value, grain: int) -> int | None:
    number = as_number(value)
    return int(number) // grain * grain if number is not None and 0 <= number <= LARGEST_KIB else None
