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
    target: Any = host.get("mem_free_wanted")
    hard: Any = host.get("mem_free_hard")
    low: Any = host.get("mem_free_low")
    available: Any = host.get("mem_really_available")
    total: Any = host.get("mem_available")
    if target is None and total is not None:
        target = min(33554432, 0.10 * total)
    if target is None or available is None:
        return
    if hard is None:
        hard = 0.2 * target
    if low is None:
        low = 0.1 * target
    reserved: Any = host.get("mem_reserved") or 0
    cold: Any = host.get("offload_net") or 0
    hard = min(target, hard)
    low = min(hard, low)
    tight = target if reserved > 0 else max(hard, 0.7 * target)
    free = available - reserved
    oldest, step_least, most_in_a_cycle = max(2, 1.6 * interval), 16384, 900000 * interval
    out_total = suffer_total = fill_total = empty_total = backed_total = sweep_total = sweep_most = 0.0
    cache_total = lean_total = most_total = back_total = untouched = 0.0
    givers = 0
    uneven = False
    costs: dict[str, float] = {}
    rooms: dict[str, float] = {}
    outs: dict[str, float] = {}
    sufferers: dict[str, float] = {}
    fills: dict[str, float] = {}
    sweeps: dict[str, float] = {}
    gives: dict[str, tuple[float, float, float, float]] = {}
    backs: dict[str, float] = {}
    guests = snapshot.guests.values()
    for guest in guests:
        fields: Any = guest.fields
        size = fields.get("balloon_cur")
        maximum = fields.get("balloon_max")
        said = fields.get("mem_usable")
        stats_age = fields.get("stats_age")
        if size is None or maximum is None or said is None or stats_age is None or stats_age > oldest:
            continue
        taken = maximum - size
        peak, inside, hidden = fields.get("mem_used_peak"), fields.get("mem_available"), fields.get("mem_hidden")
        watched = peak is not None and inside is not None
        used = inside - said if watched else 0
        to_peak = max(0, peak - used) if watched else 0
        soon = fields.get("mem_usable_soon")
        usable = said
        if soon is not None:
            usable = max(soon, said - to_peak) if to_peak > step_least else soon
        burst = max(0, to_peak - (said - usable))
        told = hidden is not None and inside is not None
        age = fields.get("balloon_target_age")
        if age is None:
            age = 1000000
        settled = stats_age <= age
        need = max(0, (hidden + inside if told and not settled else size) - usable)
        margin = 81920 + 0.25 * need
        least = max(fields.get("balloon_min") or 0, fields.get("guest_guarantee") or 0)
        promised = min(least, maximum)
        hurts = fields.get("mem_usable_hurts") or 0
        swap_in = fields.get("swap_in") or 0
        faults = fields.get("major_fault") or 0
        most_margin = margin + 0.25 * burst
        comfort = max(2.0 * margin, burst + most_margin, hurts)
        lean = max(burst + 0.6 * most_margin, hurts) if watched else max(margin, hurts)
        cache_share = fields.get("mem_cache_share")
        roomy = told and (1 if cache_share is None else cache_share) <= 0.25 and host.get("balloon_goal") != "safe"
        room = maximum if roomy else min(maximum, need + lean)
        before, rss, rss_before = fields.get("mem_used_before"), fields.get("rss"), fields.get("rss_before")
        growing = (
            usable + step_least < said
            or (before is not None and used > before + step_least)
            or (rss is not None and rss_before is not None and rss > rss_before + step_least)
        )
        asked = fields.get("balloon_target")
        owes = max(0, size - asked) if asked is not None else 0
        under_way = owes >= step_least and age < 3 + owes / 450000
        short = room - (size - owes) >= step_least
        if told and short and under_way and not growing:
            continue
        if short and roomy and available >= 1.25 * hard:
            rooms[guest.id] = room
            continue
        if not settled:
            continue
        if usable < 0.2 * margin or size < promised:
            if taken > 0:
                new = not watched or used > peak + step_least or usable < 0.1 * margin
                wants = (1.5 * margin - usable, burst + margin - usable, 0.5 * taken if new else 0, promised - size)
                outs[guest.id] = min(max(wants), taken)
                out_total += outs[guest.id]
            continue
        if swap_in > 1024 or faults > 200 or usable < hurts:
            want = min(taken, (hurts if usable < hurts else comfort) - usable)
            if want >= step_least:
                sufferers[guest.id] = want
                suffer_total += want
        elif short and not roomy:
            fills[guest.id] = room - size
            fill_total += max(0, room - size)
        spare = max(0, size - promised) if not fields.get("balloon_obstacle") and swap_in <= 1024 else 0
        calm = spare if faults <= 200 else 0
        cost = fields.get("reclaim_cost") or 1
        if cost != 1 and cost > 0:
            costs[guest.id] = cost
            uneven = True
        unused = fields.get("mem_unused")
        if unused is None:
            unused = usable
        held = hidden + inside - unused if told else size
        beside = fields.get("rss_beside")
        there = max(0, held - (fields.get("host_swap") or 0))
        idle = max(0, rss - (beside + there)) if told and rss is not None and beside is not None else 0
        swept = 0 if growing else min(calm, idle, most_in_a_cycle, size - (max(need, held) + 32768))
        worth = max(49152, 0.03 * size)
        unneeded = min(most_in_a_cycle, calm, usable - comfort, unused - 32768)
        empty = unneeded if unneeded >= worth else 0
        beyond = min(calm, usable - comfort)
        cache = max(empty, min(most_in_a_cycle, 0.5 * beyond) if beyond >= worth else 0)
        above = min(calm, usable - (min(lean, margin) if reserved > 0 else lean))
        thin = max(cache, min(most_in_a_cycle, 0.5 * above) if above >= worth else 0)
        most = max(thin, min(most_in_a_cycle, 0.5 * max(0, min(spare, usable - 0.25 * margin))))
        if swept >= worth and age >= 5:
            sweeps[guest.id] = swept
            sweep_total += swept
            sweep_most = max(sweep_most, swept)
        if not (roomy and available >= hard) and most >= step_least:
            gives[guest.id] = (empty, cache, thin, most)
            empty_total += empty
            backed_total += min(empty, idle) if told else empty
            cache_total += cache
            lean_total += thin
            most_total += most
            givers += 1
        if taken > 0:
            backs[guest.id] = min(taken, 0.10 * maximum)
            back_total += backs[guest.id]
            if rss is not None:
                untouched += 0.5 * max(0, size - rss)

    want_total = out_total + suffer_total
    slack = max(step_least, 0.02 * target)
    lacks = target + want_total - free
    gives_free = backed_total + sweep_total
    lacks_cache = lacks - gives_free
    lacks_much = tight + want_total - (free + (gives_free + (cache_total - empty_total + cold)))
    lacks_all = hard + out_total - (available + (gives_free + (cold + lean_total - empty_total)))
    danger = available < low
    for_suffering = max(0, free - (untouched + out_total + hard))
    for_filling = max(0, free - (want_total + target))
    fill_ratio = min(1, for_filling / fill_total) if fill_total > 0 else 0
    out_ratio = min(1, max(0, available - low) / out_total) if out_total > 0 else 0
    suffer_ratio = min(1, for_suffering / suffer_total) if suffer_total > 0 else 0
    caches, beyond, rest = cache_total - empty_total, lean_total - cache_total, most_total - lean_total
    empty_ratio = min(1, lacks / empty_total) if lacks >= step_least and empty_total > 0 else 0
    cache_ratio = (1 if danger else min(1, lacks_cache / caches)) if lacks_cache >= slack and caches > 0 else 0
    lean_ratio = (1 if danger else min(1, lacks_much / beyond)) if lacks_much >= slack and beyond > 0 else 0
    most_ratio = (1 if danger else min(1, lacks_all / rest)) if lacks_all >= slack and rest > 0 else 0
    back_room = max(0, free - (want_total + min(for_filling, fill_total) + 1.5 * target))
    back_ratio = min(1, back_room / back_total) if back_total > 0 else 0
    for_growth = available
    left = empty_ratio * empty_total + cache_ratio * caches + (lean_ratio * beyond + most_ratio * rest)
    to_sweep = lacks - backed_total
    layer = 3 if most_ratio > 0 else 2 if lean_ratio > 0 else 1 if cache_ratio > 0 else 0
    give_mean = 0.99 * ((empty_total, cache_total, lean_total, most_total)[layer] / givers) if givers > 0 else 0
    whole_ratios = (cache_ratio if layer > 1 else 0, lean_ratio if layer > 2 else 0)  # the means that are used up
    part_ratio = (0, cache_ratio, lean_ratio, most_ratio)[layer]
    part_total = part_ratio * (0, caches, beyond, rest)[layer]
    level, dearest = (0.0, 0.0) if uneven else (part_ratio, 1.0)
    cheaper = 0.0
    for _ in range(8 if uneven and (part_total > 0 or to_sweep >= step_least) else 0):
        whole = shared = weighed = swept = next_cost = 0.0
        last = level
        for identity, give in gives.items():
            cost = costs.get(identity, 1)
            part = give[layer] - give[layer - 1] if layer else 0
            weighed += give[layer] / cost
            if cost <= level:
                whole += part
            else:
                shared += part / cost
        for identity, sweep in sweeps.items():
            cost = costs.get(identity, 1)
            if sweep >= 0.5 * sweep_most:
                if cost <= dearest:
                    swept += sweep
                else:
                    next_cost = min(next_cost, cost) if next_cost > 0 else cost
        if part_total > 0:
            give_mean = 0.99 * (weighed / givers) if givers > 0 else 0
        if shared > 0:
            level = max(level, (part_total - whole) / shared)
        if next_cost > 0 and to_sweep - swept >= step_least:
            dearest, cheaper = next_cost, swept
        elif level == last:
            break
    to_sweep -= cheaper
    sweeping = to_sweep >= step_least and sweep_total > 0
    if not (rooms or out_ratio > 0 or suffer_ratio > 0 or fill_ratio > 0 or left > 0 or back_ratio > 0 or sweeping):
        return
    for guest in guests:
        identity = guest.id
        fields = guest.fields
        change = 0.0
        cost = costs.get(identity, 1)
        in_turn = cost < dearest or (cost == dearest and to_sweep >= step_least)
        if identity in rooms:
            targets[identity, "balloon_target"] = min(rooms[identity], fields["balloon_max"])
        elif identity in outs:
            change = out_ratio * outs[identity]
        elif suffer_ratio > 0 and identity in sufferers:
            change = suffer_ratio * sufferers[identity]
        elif in_turn and sweeps.get(identity, -1) >= 0.5 * sweep_most:
            change = -sweeps[identity]
            to_sweep += change if cost == dearest else 0
        elif left > 0 and identity in gives:
            empty, cache, thin, _ = gives[identity]
            part = gives[identity][layer] - gives[identity][layer - 1] if layer else 0
            share = empty_ratio * empty + whole_ratios[0] * (cache - empty) + whole_ratios[1] * (thin - cache)
            share += part * (min(1, level / cost) if part_ratio < 1 else 1)
            can = gives[identity][layer]
            if share >= step_least:
                change = -share
            elif can >= step_least and (can / cost if part_total > 0 else can) >= give_mean:
                change = -step_least
            left += change
        elif identity in fills and fill_ratio * fills[identity] >= step_least:
            change = fill_ratio * fills[identity]
        elif back_ratio > 0 and identity in backs:
            share = back_ratio * backs[identity]
            if share >= step_least or fields["balloon_cur"] + share >= fields["balloon_max"]:
                change = share
        if change != 0:
            size = fields["balloon_cur"]
            least = max(fields.get("balloon_min") or 0, fields.get("guest_guarantee") or 0)
            kept = min(size, max(min(fields["balloon_max"], least), size - fields["mem_usable"]))
            new = min(fields["balloon_max"], max(kept, size + min(change, for_growth)))
            for_growth = max(0, for_growth - max(0, new - size))
            targets[identity, "balloon_target"] = new


def ksm(snapshot: Snapshot, targets: Targets) -> None:
    """`ksm.policy`, where nothing is remembered of an earlier cycle."""
    host: Any = snapshot.host.fields
    available = host.get("mem_really_available")
    if available is None:
        available = host.get("mem_free")
    total, run = host.get("mem_available"), host.get("ksm_run")
    if run is None or total is None or available is None:
        return
    saved, scans, clock = host.get("ksm_saved"), host.get("ksm_full_scans"), host.get("ksm_clock")
    short = ksm_short(total, available, saved, run)
    sold = held = 0.0
    for guest in snapshot.guests.values():
        fields: Any = guest.fields
        sold += fields.get("balloon_max") or 0
        rss = fields.get("rss")
        held += (fields.get("balloon_cur") or 0) if rss is None else rss
    if not short and sold <= 0.80 * total:
        if run == 1:
            targets["host", "ksm_run"] = 0
        return
    if scans is None or clock is None:
        return
    # With nothing remembered a look begins: three scans at the limit.
    cpus = host.get("cpu_count")
    percent = min(70, 100 * (0.125 * (2 if cpus is None else cpus))) if short else 5
    if host.get("ksm_advisor_mode") not in (None, "none"):
        if run != 1:
            targets["host", "ksm_run"] = 1
        return
    sleep, pages, usage = host.get("ksm_sleep_millisecs"), host.get("ksm_pages_to_scan"), host.get("ksmd_cpu_usage")
    if sleep is not None and sleep != 20:
        targets["host", "ksm_sleep_millisecs"] = 20
    if pages is not None:
        wanted = expected = ksm_odds(percent) * (1000 * 20) / 3
        if usage is not None and run == 1 and sleep == 20:
            factor = ksm_odds(percent) / ksm_odds(usage)
            wanted = pages if abs(factor - 1) < 0.2 else min(2 * expected, pages * max(0.5, min(2, factor)))
        wanted = max(64, min(30000, wanted))
        if abs(wanted - pages) >= 1:
            targets["host", "ksm_pages_to_scan"] = wanted
    if run != 1:
        targets["host", "ksm_run"] = 1


def ksm_short(total: float, available: float, saved: float | None, run: int) -> bool:
    """Whether memory is short, or would be without what KSM saves."""
    gib = 1048576
    start = max(min(2 * gib, 0.25 * total), min(0.20 * total, 32 * gib + 0.05 * total))
    if available < start:
        return True
    if saved is not None and available - max(0, saved) > 1.5 * start:
        return False
    return run == 1


def ksm_odds(percent: float) -> float:
    """What ksmd uses for each second that it sleeps."""
    within = max(0.1, min(95, percent))
    return within / (100 - within)
