"""Picture of one moment of the demonstration, for a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from mom_core import Guest, Report, Status, as_number, printable
from mom_kvm import GuestField, RunSummary, field_number, pages_kib
from mom_plugins_sim.demo.story import CYCLES, INTERVAL, LOAD, Moment, size

WIDTH = 80
LABEL = 13
GUESTS_SHOWN = 9
GUEST_BAR = 30

GIB = 1 << 20
SHOWN_KIB = 1024
"""The picture omits smaller amounts of swapped memory."""

USED, PROGRAM, SWAPPED, SPARE, TAKEN = "█▓▚▒·"
"""Glyphs of bars: memory in use, memory of the program, compressed swap, spare memory, ballooned memory."""


def clock(seconds: float) -> str:
    """Format seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def phase(time: float, inflated: float) -> tuple[str, str]:
    """Return a sentence about the present phase, and the sentence's style. `inflated` is in KiB."""
    if time <= LOAD.begins:
        return "All is calm: memory that guests do not use is free on the host.", "green"
    if LOAD.at(time):
        return f"A program takes {size(LOAD.peak)}: mom reclaims spare and cold memory of guests.", "bold yellow"
    if inflated > GIB / 4:
        return "The program has ended: guests get their memory back.", "cyan"
    return "All is calm again.", "green"


def stacked(parts: Sequence[tuple[float, str, str]], total: float, width: int) -> Text:
    """Draw a bar of `width` columns for `total`. Each part is an amount, a glyph and a style."""
    bar = Text()
    drawn = 0
    amounts = 0.0
    for amount, glyph, style in parts:
        amounts += max(0.0, amount)
        end = min(width, round(amounts / total * width)) if total else 0
        bar.append(glyph * (end - drawn), style)
        drawn = max(drawn, end)
    bar.append(" " * (width - drawn))
    return bar


def frame(moment: Moment) -> Group:
    """Draw the picture."""
    guests = list(moment.report.snapshot.guests.values())
    sentence, style = phase(moment.time, sum(map(RunSummary.taken_from, guests)))
    program = LOAD.at(moment.time)
    shown = sorted(guests, key=lambda guest: (-field_number(guest.fields, "balloon_max"), guest.name))[:GUESTS_SHOWN]
    return Group(
        _title(moment, guests),
        Text(f" {sentence}", style),
        Text(),
        *_host("with mom", moment.report, program),
        *_host("without mom", moment.alone, program),
        Text(),
        _legend(),
        *(_guest(guest, moment) for guest in shown),
        Text(f" and {len(guests) - len(shown)} more guests" if len(guests) > len(shown) else "", "dim"),
        Text(),
        _last_decision(moment),
    )


def _title(moment: Moment, guests: Sequence[Guest]) -> Text:
    sold = sum(field_number(guest.fields, "balloon_max") for guest in guests)
    total = field_number(moment.report.snapshot.host.fields, "mem_available")
    title = Text(f" mom demo  a host of {size(total)}, {len(guests)} guests with {size(sold)}", "bold")
    progress = f"{clock(moment.time)} of {clock(INTERVAL * CYCLES)} "
    title.append(progress.rjust(WIDTH - len(title)), "dim")
    return title


def _host(label: str, report: Report, program: float) -> tuple[Text, Text]:
    host = report.snapshot.host.fields
    total, available, swapped = (field_number(host, name) for name in ("mem_available", "mem_really_available", "swap_usage"))
    compressed = swapped / field_number(host, "offload_ratio", math.inf)
    guests = max(0.0, total - available - program - compressed)
    parts = ((guests, USED, "blue"), (program, PROGRAM, "yellow"), (compressed, SWAPPED, "red"))
    details = f"{size(available)} available"
    inflated = sum(map(RunSummary.taken_from, report.snapshot.guests.values()))
    if report.mode == "enforce":
        details += f"; ballooned {size(inflated)}, merged {size(pages_kib(host, 'ksm_pages_sharing'))}, cold {size(swapped)}"
    elif swapped > SHOWN_KIB:
        details += f"; {size(swapped)} in swap, programs wait {field_number(host, 'psi_memory_some_avg10'):.0f} % of the time"
    bar = stacked(parts, total, WIDTH - LABEL - 3)
    line = Text.assemble((f" {label:<{LABEL - 1}}", "bold"), ("▕", "dim"), bar, ("▏", "dim"))
    return line, Text(f" {'':<{LABEL}}{details}", "dim")


def _legend() -> Text:
    legend = Text(" " * (LABEL + 1))
    for glyph, style, text in ((USED, "blue", "needed"), (SPARE, "green", "spare"), (TAKEN, "dim", "ballooned by mom")):
        legend.append(glyph * 2, style)
        legend.append(f" {text}   ", "dim")
    return legend


def _guest(guest: Guest, moment: Moment) -> Text:
    fields = guest.fields
    maximum, current, need = (field_number(fields, name) for name in ("balloon_max", "balloon_cur", "sim_need"))
    parts = ((min(need, current), USED, "blue"), (current - need, SPARE, "green"), (maximum - current, TAKEN, "dim"))
    bar = stacked(parts, maximum, GUEST_BAR)
    line = Text(f" {printable(guest.name, LABEL - 1):<{LABEL}}")
    line.append_text(bar)
    line.append(f" {current / GIB:5.2f} of {maximum / GIB:.2f} GiB")
    activity, style = _activity(guest, moment)
    line.append(f"  {activity}"[: WIDTH - len(line)], style)
    return line


def _activity(guest: Guest, moment: Moment) -> tuple[str, str]:
    for outcome in moment.report.outcomes:
        resizes = outcome.decision.entity.id == guest.id and outcome.decision.control == GuestField.BALLOON
        if resizes and outcome.status is Status.APPLIED:
            target, before = outcome.decision.value, outcome.before
            if isinstance(target, int) and isinstance(before, int):
                grows = target > before
                return f"{'gets' if grows else 'gives'} {size(abs(target - before))}", "cyan" if grows else "yellow"
    if field_number(guest.fields, "sim_squeezed") > 0:
        return "grows", "magenta"
    if guest.blocked:
        return "no balloon", "dim"
    if "stats_age" not in guest.fields:
        return "no statistics", "dim"
    return "", ""


def _last_decision(moment: Moment) -> Text:
    applied = [outcome for outcome in moment.report.outcomes if outcome.status is Status.APPLIED]
    if not applied:
        return Text(" nothing to do in this cycle", "dim")
    outcome = max(applied, key=lambda change: abs((as_number(change.decision.value) or 0) - (as_number(change.before) or 0)))
    decision = outcome.decision
    kib = decision.control == GuestField.BALLOON
    before, after = (size(value) if kib and isinstance(value, int | float) else str(value) for value in (outcome.before, decision.value))
    text = f" {decision.control} of {decision.entity}: {before} → {after}, by {decision.source}"
    more = len(applied) - 1
    return Text(f"{text}; {more} more" if more else text, "dim")
