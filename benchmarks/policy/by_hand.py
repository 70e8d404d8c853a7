"""The default balloon and KSM policies as one would write them in Python: the measure for how fast a policy can be.

The constants and names are those of `balloon.policy` and `ksm.policy`; the benchmark checks that both ask for the same.
"""

from __future__ import annotations

from typing import Any

from mom_core import Decision, Snapshot, Source

Targets = dict[tuple[str, str], float]
"""What is asked for, by entity id and control."""


def by_hand(snapshot: Snapshot) -> Targets:
    """What both policies ask for."""
    targets: Targets = {}
    ksm(snapshot, targets)
    balloon(snapshot, targets)
    return targets


def decisions_by_hand(snapshot: Snapshot) -> list[Decision]:
    """The same as decisions, as an evaluator returns them."""
    host = snapshot.host.entity
    guests = snapshot.guests
    source = Source("by_hand")
    return [
        Decision(host if identity == "host" else guests[identity].entity, control, int(value), "by hand", source)
        for (identity, control), value in by_hand(snapshot).items()
    ]


def balloon(snapshot: Snapshot, targets: Targets) -> None:  # noqa: PLR0912, PLR0915  # one function, as the policy is one text
    """`balloon.policy`."""
    host = snapshot.host.fields
    interval: Any = snapshot.host.properties["interval"]
    total: Any = host.get("mem_available")
    available: Any = host.get("mem_really_available")
    if total is None or available is None:
        return
    target = min(33554432, 0.20 * total)
    margin_share, margin_kib, comfort, runs_out, grows_to, grows_share = 0.25, 81920, 2.0, 0.5, 1.5, 0.5
    swap_in_limit, fault_limit, oldest = 1024, 200, max(2, 1.6 * interval)
    shrink_share, shrink_most, step_least, return_share = 0.5, 900000 * interval, 16384, 0.10
    keeps = 1.0 if available < 0.50 * target else comfort
    out_total = suffer_total = give_total = back_total = 0.0
    givers = 0
    outs: dict[str, float] = {}
    sufferers: dict[str, float] = {}
    gives: dict[str, float] = {}
    backs: dict[str, float] = {}
    guests = snapshot.guests.values()
    for guest in guests:
        fields: Any = guest.fields
        size = fields.get("balloon_cur")
        most = fields.get("balloon_max")
        usable = fields.get("mem_usable")
        age = fields.get("stats_age")
        if size is None or most is None or usable is None or age is None or age > oldest:
            continue
        taken = most - size
        need = max(0, size - usable)
        margin = margin_kib + margin_share * need
        least = fields.get("balloon_min")
        promised = min(least, most) if least is not None else 0
        swap_in = fields.get("swap_in")
        faults = fields.get("major_fault")
        if usable < runs_out * margin or size < promised:
            if taken > 0:
                want = min(max(grows_to * margin - usable, grows_share * taken, promised - size), taken)
                outs[guest.id] = want
                out_total += want
            continue
        if (swap_in or 0) > swap_in_limit or (faults or 0) > fault_limit:
            want = min(taken, keeps * margin - usable)
            if want >= step_least:
                sufferers[guest.id] = want
                suffer_total += want
        else:
            spare = min(usable - keeps * margin, size - promised)
            give = min(shrink_most, shrink_share * spare)
            if give >= step_least:
                gives[guest.id] = give
                give_total += give
                givers += 1
        if taken > 0:
            back = min(taken, return_share * most)
            backs[guest.id] = back
            back_total += back

    want_total = out_total + suffer_total
    deficit = target + want_total - available
    for_out = max(0, available - 0.25 * target)
    for_suffering = max(0, available - (out_total + 0.75 * target))
    room = max(0, available - (want_total + 1.25 * target))
    out_ratio = min(1, for_out / out_total) if out_total > 0 else 0
    suffer_ratio = min(1, for_suffering / suffer_total) if suffer_total > 0 else 0
    give_ratio = min(1, deficit / give_total) if deficit >= step_least and give_total > 0 else 0
    back_ratio = min(1, room / back_total) if back_total > 0 else 0
    left = deficit
    give_mean = 0.99 * (give_total / givers) if givers > 0 else 0
    if not (out_ratio > 0 or suffer_ratio > 0 or give_ratio > 0 or back_ratio > 0):
        return
    for guest in guests:
        identity = guest.id
        change = 0.0
        if identity in outs:
            change = out_ratio * outs[identity]
        elif suffer_ratio > 0 and identity in sufferers:
            change = suffer_ratio * sufferers[identity]
        elif give_ratio > 0 and left > 0 and identity in gives:
            give = gives[identity]
            share = give_ratio * give
            if share >= step_least:
                change = -share
            elif give >= give_mean:
                change = -step_least
            left += change
        elif back_ratio > 0 and identity in backs:
            share = back_ratio * backs[identity]
            fields = guest.fields
            if share >= step_least or fields["balloon_cur"] + share >= fields["balloon_max"]:
                change = share
        if change != 0:
            fields = guest.fields
            targets[identity, "balloon_target"] = fields["balloon_cur"] + change


def ksm(snapshot: Snapshot, targets: Targets) -> None:
    """`ksm.policy`."""
    host: Any = snapshot.host.fields
    available = host.get("mem_really_available")
    if available is None:
        available = host.get("mem_free")
    total = host.get("mem_available")
    run = host.get("ksm_run")
    if run is None or total is None or available is None:
        return
    gib = 1048576
    start = max(min(2 * gib, 0.25 * total), min(0.20 * total, 32 * gib + 0.05 * total))
    stop = 1.5 * start
    profit, sharing, scans = host.get("ksm_general_profit"), host.get("ksm_pages_sharing"), host.get("ksm_full_scans")
    saved = max(0, profit / 1024) if profit is not None else 4 * sharing if sharing is not None else None
    futile = saved is not None and scans is not None and scans >= 2 and saved < 0.001 * total
    full = total * (20 / 1000) / (100 * 4)
    ceiling = max(64, min(30000, full) * (0.125 if futile else 1))
    pages = host.get("ksm_pages_to_scan")
    sleep = host.get("ksm_sleep_millisecs")
    advisor = host.get("ksm_advisor_mode") not in (None, "none")
    if available < start:
        if run != 1:
            targets["host", "ksm_run"] = 1
        if advisor:
            return
        if sleep is not None and sleep != 20:
            targets["host", "ksm_sleep_millisecs"] = 20
        if pages is not None:
            limit = min(70, 100 * (0.0625 * (host.get("cpu_count") or 2)))
            usage = host.get("ksmd_cpu_usage") or 0
            wanted = pages * limit / usage if usage > limit else pages if usage > 0.8 * limit else pages + 0.24 * ceiling
            wanted = max(64, min(ceiling, wanted))
            if abs(wanted - pages) >= 1:
                targets["host", "ksm_pages_to_scan"] = wanted
    elif run == 1:
        if saved is not None and available - saved > stop:
            targets["host", "ksm_run"] = 0
        elif not advisor:
            if available > stop and sleep is not None and sleep != 100:
                targets["host", "ksm_sleep_millisecs"] = 100
            if pages is not None:
                wanted = max(64, min(ceiling, pages - 0.04 * ceiling))
                if abs(wanted - pages) >= 1:
                    targets["host", "ksm_pages_to_scan"] = wanted
