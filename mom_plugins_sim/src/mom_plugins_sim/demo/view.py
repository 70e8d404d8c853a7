"""Draws one moment of the demonstration in a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.text import Text

from mom_core import Decision, Guest, Status, printable
from mom_plugins_sim.demo.story import Moment
from mom_plugins_sim.demo.summary import BALLOON, size
from mom_toolkit import field_number, pages_kib, taken_from

WIDTH = 80
LABEL = 13
GUESTS_SHOWN = 9
GUEST_BAR = 30

GIB = 1 << 20
SHOWN_KIB = 1024
"""Less than this in swap is not worth a word."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What bars are made of: memory in use, memory of the program, what compressed swap takes, spare memory, what was taken, an arrow."""

    used: str
    program: str
    swapped: str
    spare: str
    taken: str
    arrow: str


UNICODE = Glyphs("█", "▓", "▚", "▒", "·", "→")
ASCII = Glyphs("#", "%", "!", "+", ".", "->")


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def phase(moment: Moment, taken: float) -> tuple[str, str]:
    """What is going on, in one sentence, and its style."""
    if moment.plot.title:
        return f"{moment.plot.title}.", "green"
    program = size(moment.plot.settings.load / 1024)
    if moment.time <= moment.plot.settings.load_after:
        return "All is calm: what guests have bought and do not use is free on the host.", "green"
    if moment.loading:
        return f"A program takes {program}: guests give what they can spare and do not touch.", "bold yellow"
    if taken > GIB / 4:
        return "The program has ended: guests get their memory back.", "cyan"
    return "All is calm again.", "green"


def stacked(parts: Sequence[tuple[float, str, str]], total: float, width: int) -> Text:
    """A bar of `width` columns for `total`, of parts (amount, glyph, style); what is left is blank."""
    bar = Text()
    drawn = 0
    upto = 0.0
    for amount, glyph, style in parts:
        upto += max(0.0, amount)
        end = min(width, round(upto / total * width)) if total else 0
        bar.append(glyph * (end - drawn), style)
        drawn = max(drawn, end)
    bar.append(" " * (width - drawn))
    return bar


def frame(moment: Moment, glyphs: Glyphs = UNICODE) -> Group:
    """The whole picture."""
    guests = list(moment.report.snapshot.guests.values())
    taken = sum(taken_from(guest) for guest in guests)
    sentence, style = phase(moment, taken)
    shown = sorted(guests, key=lambda guest: (-field_number(guest.fields, "balloon_max"), guest.name))[:GUESTS_SHOWN]
    return Group(
        _title(moment, guests),
        Text(f" {sentence}", style),
        Text(),
        *_managed(moment, glyphs),
        *_alone(moment, glyphs),
        Text(),
        _legend(glyphs),
        *(_guest(guest, moment, glyphs) for guest in shown),
        Text(f" and {len(guests) - len(shown)} more guests" if len(guests) > len(shown) else "", "dim"),
        Text(),
        _last_decision(moment, glyphs),
    )


def _title(moment: Moment, guests: Sequence[Guest]) -> Text:
    sold = sum(field_number(guest.fields, "balloon_max") for guest in guests)
    total = field_number(moment.report.snapshot.host.fields, "mem_available")
    title = Text(f" mom demo  a host of {size(total)}, {len(guests)} guests with {size(sold)} sold", "bold")
    done = f"{clock(moment.time)} of {clock(moment.plot.interval * moment.plot.cycles)} "
    title.append(done.rjust(WIDTH - len(title)), "dim")
    return title


def _host_lines(label: str, bar: Text, details: str, style: str) -> tuple[Text, Text]:
    first = Text(f" {label:<{LABEL - 1}}", style)
    first.append("▕" if bar.plain.isascii() is False else "|", "dim")
    first.append_text(bar)
    first.append("▏" if bar.plain.isascii() is False else "|", "dim")
    return first, Text(f" {'':<{LABEL}}{details}", "dim")


def _managed(moment: Moment, glyphs: Glyphs) -> tuple[Text, Text]:
    host = moment.report.snapshot.host.fields
    total, available = field_number(host, "mem_available"), field_number(host, "mem_really_available")
    swapped = field_number(host, "swap_usage")
    program = moment.alone.program
    takes = swapped / field_number(host, "offload_ratio", math.inf)
    guests = max(0.0, total - available - program - takes)
    parts = ((guests, glyphs.used, "blue"), (program, glyphs.program, "yellow"), (takes, glyphs.swapped, "red"))
    bar = stacked(parts, total, WIDTH - LABEL - 3)
    taken = sum(taken_from(guest) for guest in moment.report.snapshot.guests.values())
    merged = pages_kib(host, "ksm_pages_sharing")
    details = f"{size(available)} available; ballooned {size(taken)}, merged {size(merged)}, cold {size(swapped)}"
    return _host_lines("with mom", bar, details, "bold green")


def _alone(moment: Moment, glyphs: Glyphs) -> tuple[Text, Text]:
    alone = moment.alone
    total = field_number(moment.report.snapshot.host.fields, "mem_available")
    guests = max(0.0, total - alone.available - alone.program - alone.takes)
    parts = ((guests, glyphs.used, "blue"), (alone.program, glyphs.program, "yellow"), (alone.takes, glyphs.swapped, "red"))
    bar = stacked(parts, total, WIDTH - LABEL - 3)
    details = f"{size(alone.available)} available"
    swaps = alone.swapped > SHOWN_KIB
    if swaps:
        details += f"; {size(alone.swapped)} in swap, programs wait {alone.pressure:.0f} % of the time"
    first, second = _host_lines("without mom", bar, details, "bold red" if swaps else "bold")
    if swaps:
        second.stylize("red")
    return first, second


def _legend(glyphs: Glyphs) -> Text:
    legend = Text(" " * (LABEL + 1))
    for glyph, style, text in (
        (glyphs.used, "blue", "needed"),
        (glyphs.spare, "green", "spare"),
        (glyphs.taken, "dim", "ballooned by mom"),
    ):
        legend.append(glyph * 2, style)
        legend.append(f" {text}   ", "dim")
    return legend


def _guest(guest: Guest, moment: Moment, glyphs: Glyphs) -> Text:
    fields = guest.fields
    maximum, has, need = (field_number(fields, name) for name in ("balloon_max", "balloon_cur", "sim_need"))
    bar = stacked(
        ((min(need, has), glyphs.used, "blue"), (has - need, glyphs.spare, "green"), (maximum - has, glyphs.taken, "dim")),
        maximum,
        GUEST_BAR,
    )
    line = Text(f" {printable(guest.name, LABEL - 1):<{LABEL}}")
    line.append_text(bar)
    line.append(f" {has / GIB:5.2f} of {maximum / GIB:.2f} GiB")
    doing, style = _doing(guest, moment)
    line.append(f"  {doing}"[: WIDTH - len(line)], style)
    return line


def _doing(guest: Guest, moment: Moment) -> tuple[str, str]:
    for outcome in moment.report.outcomes:
        ours = outcome.decision.entity.id == guest.id and outcome.decision.control == BALLOON
        if ours and outcome.status is Status.APPLIED:
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


def _last_decision(moment: Moment, glyphs: Glyphs) -> Text:
    """One decision of this cycle with where in the policy it was taken."""
    applied = [outcome for outcome in moment.report.outcomes if outcome.status is Status.APPLIED]
    if not applied:
        return Text(" nothing to do in this cycle", "dim")
    outcome = max(applied, key=lambda o: _change(o.decision, o.before))
    decision = outcome.decision
    kib = decision.control == BALLOON
    shown = [size(v) if kib and isinstance(v, int | float) else str(v) for v in (outcome.before, decision.value)]
    text = f" {decision.control} of {decision.entity}: {shown[0]} {glyphs.arrow} {shown[1]}, says {decision.source}"
    more = len(applied) - 1
    return Text(f"{text}; {more} more" if more else text, "dim")


def _change(decision: Decision, before: object) -> float:
    value = decision.value
    return abs(value - before) if isinstance(value, int | float) and isinstance(before, int | float) else 0.0
