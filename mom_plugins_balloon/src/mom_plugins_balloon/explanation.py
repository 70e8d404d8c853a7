"""Why a guest has the size that it has: what it has, needs and is guaranteed, since when, and what comes next. From reports alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from mom_core import Decision, Declarations, Guest, Host, Outcome, Report, Scope, Status, Value, as_number, format_kib, lasting, printable
from mom_plugins_balloon.names import REASON, SUGGESTED
from mom_plugins_balloon.promises import guaranteed_kib
from mom_plugins_balloon.reasons import sentence
from mom_plugins_balloon.spare_memory import CONTROL, OBSTACLE, RESTS, TARGET
from mom_toolkit import About, ExplainedDecision, Explainer, ExplanationPart, Sentence, SentencePlace, stale_seconds

SIZE: Final = "balloon_cur"

SAME_SIZE_KIB: Final = 1024
"""Sizes that differ by less are the same: hypervisors round to whole MiB."""

ARRIVED_KIB: Final = 8192
"""A guest that has come so near to what was asked of it is there: guests stop a few pages short of it."""

KEPT_SIZES: Final = 12
"""Cycles of which a guest's size is kept: enough to say how fast it changes; some 300 bytes."""

MOVES: Final = 3
"""Sizes that must be known before a pace is told."""

LONGEST_LINE: Final = 200
"""Characters of a reason that are shown."""


class Setter(StrEnum):
    """Who gave a guest its size."""

    MOM = "mom"
    MAXIMUM = "maximum"  #: none: it has all that it was started with
    SOMEBODY_ELSE = "somebody-else"  #: its size changed, and not to what mom had asked for
    UNKNOWN = "unknown"  #: it had the size when mom first saw it


@dataclass(frozen=True, slots=True)
class Since:
    """Since when a guest has its size (seconds since the epoch), and who gave it.

    `at_least`: it had this size already when mom first saw it. `before_kib` is the size before. `decision` is mom's, where it was mom.
    """

    time: float
    at_least: bool
    by: Setter
    before_kib: float | None = None
    decision: Decision | None = None


@dataclass(slots=True)
class _Trace:
    """What is remembered of one guest. Sizes in KiB, times in seconds since the epoch.

    `sizes` are those of the last cycles, oldest first, with their times. `asked` is what mom last had the guest asked for, successfully;
    `tried` the last thing that came of a decision about its size and was not just left as it was.
    """

    seen_since: float
    incarnation: str
    size: float | None = None
    since: Since | None = None
    sizes: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT_SIZES))
    asked: Outcome | None = None
    asked_at: float = 0.0
    asked_from: float | None = None
    tried: Outcome | None = None
    tried_at: float = 0.0
    obstacle: str = ""
    obstacle_since: float | None = None


class BalloonExplainer(Explainer):
    """Remembers of each guest since when it has its size, who gave it, and what mom asked for; says that, and what follows from it."""

    controls = (TARGET,)
    nouns: Mapping[str, str] = MappingProxyType({CONTROL: "a size of"})
    main_controls = (CONTROL,)

    def __init__(self) -> None:
        self._traces: dict[str, _Trace] = {}

    def take(self, report: Report) -> None:
        """A cycle has ended. Guests that are gone are forgotten."""
        traces = self._traces
        now = report.time
        outcomes = {
            outcome.decision.entity.id: outcome
            for outcome in report.outcomes
            if outcome.decision.control == CONTROL and outcome.status is not Status.UNCHANGED
        }
        kept: dict[str, _Trace] = {}
        for guest in report.snapshot.guests.values():
            trace = traces.get(guest.id)
            if trace is None or trace.incarnation != guest.incarnation:
                trace = _Trace(now, guest.incarnation)
            kept[guest.id] = trace
            _note(trace, guest, now)
            outcome = outcomes.get(guest.id)
            if outcome is not None:
                trace.tried, trace.tried_at = outcome, now
                if outcome.status is Status.APPLIED:
                    trace.asked, trace.asked_at, trace.asked_from = outcome, now, trace.size
        self._traces = kept

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Why the balloon law suggests the size that was decided, or suggests none."""
        code = guest.text(REASON)
        if control != CONTROL or code is None:
            return ""
        wanted = next((one.value for one in report.decisions if one.control == CONTROL and one.entity.id == guest.id), None)
        return sentence(code, guest, report.snapshot.host) if wanted == guest.number(SUGGESTED) else ""

    def part(self, about: About) -> ExplanationPart:
        """Why the guest has its size."""
        guest = about.guest
        memory = _memory(guest, about.wanted_of(CONTROL))
        blocked = guest.blocked.get(CONTROL, "") or guest.blocked.get("*", "")
        obstacle = guest.fields.get(OBSTACLE)
        told = _Grounds(
            about,
            memory,
            self._traces.get(guest.id),
            guarantee_from="" if not memory.guarantee else _whose(guest, memory.guarantee, about.declarations),
            obstacle=blocked or (obstacle if isinstance(obstacle, str) else ""),
            rest=about.number(RESTS),
        )
        tellers = (_now, _needs, _guaranteed, _since, _host, _last_tried, _next)
        sentences = tuple(sentence for teller in tellers for sentence in teller(told))
        return ExplanationPart(sentences, _figures(told), [what for what, value in _must_be_known(memory) if value is None])


def _note(trace: _Trace, guest: Guest, now: float) -> None:
    """The guest's size and obstacle in one more cycle."""
    obstacle = guest.fields.get(OBSTACLE)
    if obstacle != trace.obstacle:
        trace.obstacle = obstacle if isinstance(obstacle, str) else ""
        trace.obstacle_since = now if trace.obstacle else None
    size = guest.number(SIZE)
    if size is None:
        return
    trace.sizes.append((now, size))
    before, trace.size = trace.size, size
    if before is None:
        by = Setter.MAXIMUM if _at_maximum(guest, size) else Setter.UNKNOWN
        trace.since = Since(now, True, by)
    elif abs(size - before) >= SAME_SIZE_KIB:
        asked = trace.asked
        if asked is not None and _on_the_way(asked.decision, before, size):
            trace.since = Since(now, False, Setter.MOM, trace.asked_from, asked.decision)
        else:
            trace.since = Since(now, False, Setter.SOMEBODY_ELSE, before)


def _on_the_way(asked: Decision, before: float, size: float) -> bool:
    """Whether a guest that changed its size went towards what mom had asked for, or got there."""
    wanted = as_number(asked.value)
    if wanted is None:
        return False
    low, high = min(before, wanted) - ARRIVED_KIB, max(before, wanted) + ARRIVED_KIB
    return low <= size <= high and abs(size - wanted) <= abs(before - wanted) + ARRIVED_KIB


def _at_maximum(guest: Guest, size: float) -> bool:
    maximum = guest.number("balloon_max")
    return maximum is not None and size >= maximum - SAME_SIZE_KIB


@dataclass(frozen=True, slots=True)
class ShownMemory:
    """What one guest has. Sizes in KiB; None: unknown.

    `size` is what its balloon leaves it, after what was done in the cycle; `used` what it holds and could not give without swapping
    (`size` at the time of the statistics less `usable`); `unused` what it uses for nothing. `swap_in` and `swap_out` in KiB/s,
    `statistics_age` and `statistics_period` in seconds. `asked` is what mom asked for last.
    """

    size: float | None = None
    maximum: float | None = None
    used: float | None = None
    usable: float | None = None
    unused: float | None = None
    swap_in: float | None = None
    swap_out: float | None = None
    major_faults: float | None = None
    statistics_age: float | None = None
    guarantee: float | None = None
    asked: float | None = None


def _memory(guest: Guest, wanted: ExplainedDecision | None) -> ShownMemory:
    known = {name: guest.number(name) for name in _FIELDS}
    size, usable = known[SIZE], known["mem_usable"]
    outcome = None if wanted is None else wanted.outcome
    after = None if outcome is None else as_number(outcome.after)
    asked = None if outcome is None or outcome.status is not Status.APPLIED else as_number(outcome.decision.value)
    return ShownMemory(
        size=size if after is None else after,
        maximum=known["balloon_max"],
        used=None if size is None or usable is None else max(0.0, _size_then(known, size) - usable),
        usable=usable,
        unused=known["mem_unused"],
        swap_in=known["swap_in"],
        swap_out=known["swap_out"],
        major_faults=known["major_fault"],
        statistics_age=known["stats_age"],
        guarantee=guaranteed_kib(guest.fields),
        asked=known[CONTROL] if asked is None else asked,
    )


def _size_then(known: Mapping[str, float | None], size: float) -> float:
    """The guest's size at the time of its statistics, from what it said that it has and what its kernel hides; as it is now where that
    is not known."""
    total, hidden = known["mem_available"], known["kernel_reserved"]
    return size if total is None or hidden is None else total + hidden


_PROMISED: Final = ("balloon_min", "mem_guarantee", "mem_promised", "guest_guarantee")
"""Fields with a promise, those that say first who gave it: the operator or the management system, the class, and all together."""


def _whose(guest: Guest, guarantee: float, declared: Declarations) -> str:
    """Who promised that to the guest; what holds the largest of several promises is told only where none of them is as large."""
    for name in _PROMISED:
        spec = declared.fields.get((Scope.GUEST, name))
        if spec is not None and guest.number(name) == guarantee:
            return spec.source
    return ""


_FIELDS: Final = (
    SIZE, CONTROL, "balloon_max", "mem_available", "kernel_reserved", "mem_usable", "mem_unused", "swap_in", "swap_out", "major_fault",
    "stats_age",
)  # fmt: skip


def _must_be_known(memory: ShownMemory) -> Iterator[tuple[str, float | None]]:
    """What an explanation needs: by what it is, the value."""
    yield "its size", memory.size
    yield "its maximum", memory.maximum
    yield "what is usable in it", memory.usable
    yield "the age of its statistics", memory.statistics_age
    yield "whether it swaps", memory.swap_in


# --- in numbers ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Grounds:
    """What figures and sentences are made from. `rest` is in how many seconds a guest that is set aside is asked again."""

    about: About
    memory: ShownMemory
    past: _Trace | None
    guarantee_from: str
    obstacle: str
    rest: float | None


def _figures(told: _Grounds) -> dict[str, Value]:
    memory, since = told.memory, None if told.past is None else told.past.since
    return {
        "memory": {
            "size_kib": memory.size,
            "maximum_kib": memory.maximum,
            "used_kib": memory.used,
            "usable_kib": memory.usable,
            "unused_kib": memory.unused,
            "swap_in_kib_per_second": memory.swap_in,
            "swap_out_kib_per_second": memory.swap_out,
            "major_faults_per_second": memory.major_faults,
            "statistics_age_seconds": memory.statistics_age,
            "guarantee_kib": memory.guarantee,
            "asked_kib": memory.asked,
        },
        "guarantee_from": told.guarantee_from,
        "since": None
        if since is None
        else {
            "time": since.time,
            "at_least": since.at_least,
            "by": since.by,
            "before_kib": since.before_kib,
            "source": None if since.decision is None else _source(since.decision),
        },
        "obstacle": told.obstacle,
        "asked_again_in_seconds": told.rest,
    }


def _source(decision: Decision) -> dict[str, Value]:
    return {"name": decision.source.name, "line": decision.source.line, "column": decision.source.column}


# --- in words ------------------------------------------------------------------------------------------------------------------------


def _now(told: _Grounds) -> Iterator[Sentence]:
    memory = told.memory
    if memory.size is None:
        yield Sentence("now", "Its present size is unknown, so mom does not touch it.", SentencePlace.PRESENT)
        return
    text = f"It has {format_kib(memory.size)}"
    if memory.maximum is None:
        text += "; its maximum is unknown."
    elif memory.size >= memory.maximum - SAME_SIZE_KIB:
        text += ", all of its maximum: nothing is taken from it."
    else:
        text += f" of {format_kib(memory.maximum)}: {format_kib(memory.maximum - memory.size)} are taken from it for the host."
    yield Sentence("now", text, SentencePlace.PRESENT)


def _needs(told: _Grounds) -> Iterator[Sentence]:
    memory = told.memory
    if memory.used is None or memory.usable is None:
        yield Sentence(
            "needs",
            "What it needs is unknown: its kernel does not tell what is usable in it. It may grow, and is never shrunk.",
            SentencePlace.PRESENT,
        )
        return
    text = f"It needs {format_kib(memory.used)}, and can use {format_kib(memory.usable)} more"
    if memory.unused is not None:
        text += f" ({format_kib(memory.unused)} of it free, the rest cache)" if memory.unused <= memory.usable else ""
    yield Sentence("needs", f"{text}.", SentencePlace.PRESENT)
    gone = 0.0 if memory.size is None else memory.used + memory.usable - memory.size
    if gone >= ARRIVED_KIB:
        left = max(0.0, memory.usable - gone)
        yield Sentence(
            "needs",
            f"It has become {format_kib(gone)} smaller since it said so: {format_kib(left)} are left to it of that.",
            SentencePlace.PRESENT,
        )
    suffers = []
    if memory.swap_in:
        suffers.append(f"reads {format_kib(memory.swap_in)}/s back from its swap")
    if memory.swap_out:
        suffers.append(f"writes {format_kib(memory.swap_out)}/s to its swap")
    if suffers:
        yield Sentence("needs", f"It {' and '.join(suffers)}: it lacks memory, or did.", SentencePlace.PRESENT)
    if memory.statistics_age is not None:
        age = memory.statistics_age
        late = ": too old to shrink it by" if age > stale_seconds(told.about.interval or 0.0) else ""
        yield Sentence("needs", f"Its statistics were {lasting(age)} old{late}.", SentencePlace.PRESENT)


def _guaranteed(told: _Grounds) -> Iterator[Sentence]:
    memory = told.memory
    if not memory.guarantee:
        yield Sentence("guaranteed", "No size is guaranteed to it; mom leaves it what it needs, and a reserve.", SentencePlace.PROMISED)
        return
    where = f" ({told.guarantee_from})" if told.guarantee_from else ""
    text = f"It is guaranteed {format_kib(memory.guarantee)}{where}"
    if memory.size is not None and memory.size < memory.guarantee - SAME_SIZE_KIB:
        text += f": it has {format_kib(memory.guarantee - memory.size)} less than that"
    yield Sentence("guaranteed", f"{text}.", SentencePlace.PROMISED)


def _since(told: _Grounds) -> Iterator[Sentence]:
    since, past = None if told.past is None else told.past.since, told.past
    if past is None or since is None:
        yield Sentence("since", "Since when it has this size is not known: earlier cycles are not at hand.", SentencePlace.PAST)
        return
    if since.at_least:
        when = f"It has had this size since mom first saw it ({told.about.ago(since.time)})"
        whose = {
            Setter.MAXIMUM: ": it was started with it.",
            Setter.UNKNOWN: "; who gave it that size is not known.",
        }
        yield Sentence("since", when + whose.get(since.by, "."), SentencePlace.PAST)
        return
    before = "" if since.before_kib is None else f" It had {format_kib(since.before_kib)} before."
    if since.by is Setter.MOM and since.decision is not None:
        by = f"mom gave it this size, by {since.decision.source}"
    else:
        by = "this is not what mom had asked for: another process resized it, or the guest took memory back by itself"
    yield Sentence("since", f"Since {told.about.ago(since.time)}: {by}.{before}", SentencePlace.PAST)


def _host(told: _Grounds) -> Iterator[Sentence]:
    text = _host_memory(told.about.report.snapshot.host)
    yield Sentence("host", text or "What the host has available is unknown.", SentencePlace.HOST)
    reserved = told.about.report.snapshot.host.number("mem_reserved")
    if reserved:
        kept = "no memory goes back to guests from that, and they give for it until it is there"
        yield Sentence("host", f"{format_kib(reserved)} are reserved for guests that are to be launched: {kept}.", SentencePlace.HOST)
    grown, shrunk, by = 0, 0, 0.0
    for outcome in told.about.report.outcomes:
        before, wanted = as_number(outcome.before), as_number(outcome.decision.value)
        if outcome.decision.control != CONTROL or outcome.status not in _TAKEN or before is None or wanted is None:
            continue
        grown += wanted > before
        shrunk += wanted < before
        by += wanted - before
    if grown or shrunk:
        observed = "would have" if told.about.report.mode == "observe" else "has"
        both = " and ".join([f"let {grown} grow"] * bool(grown) + [f"shrunk {shrunk}"] * bool(shrunk))
        sum_of = f"{format_kib(abs(by))} {'given to' if by > 0 else 'taken from'} them in all"
        yield Sentence("host", f"Of all guests, mom {observed} {both} in this cycle: {sum_of}.", SentencePlace.HOST)


_TAKEN: Final = frozenset({Status.APPLIED, Status.OBSERVED})


def _host_memory(host: Host) -> str:
    total, available = (host.number(name) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None or total <= 0:
        return ""
    text = f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)"
    pressure = host.number("psi_memory_some_avg10")
    if pressure is not None:
        text += f", and programs on it wait for memory {pressure:.1f} % of the time" if pressure >= 0.05 else ", and no memory pressure"
    return f"{text}."


def _last_tried(told: _Grounds) -> Iterator[Sentence]:
    past = told.past
    if told.about.wanted or past is None or past.tried is None or past.tried_at >= told.about.report.time:
        return
    tried = past.tried
    text = f"The last time was {told.about.ago(past.tried_at)}: {_step(tried)}, by {tried.decision.source}."
    yield Sentence("wanted", text, SentencePlace.LAST_DECIDED)


def _next(told: _Grounds) -> Iterator[Sentence]:
    about, past = told.about, told.past
    if about.report.mode == "observe":
        return
    if told.obstacle:
        since = ""
        if past is not None and past.obstacle_since is not None:
            since = f" (since {about.ago(past.obstacle_since)})"
        rest = "" if told.rest is None else f"; it is asked again in {lasting(told.rest)}, at {about.at(about.report.time + told.rest)}"
        yield Sentence(
            "next", f"mom does not count on its memory{since}: {printable(told.obstacle, LONGEST_LINE)}{rest}.", SentencePlace.NEXT
        )
    moving = None if past is None else _moving(told, past)
    if moving:
        yield Sentence("next", moving, SentencePlace.NEXT)
    elif told.memory.size is not None and not told.obstacle:
        yield Sentence("next", f"If nothing changes, it keeps this size{_until(told.memory)}.", SentencePlace.NEXT)


def _until(memory: ShownMemory) -> str:
    """What may change a size that nothing is being done about."""
    if memory.maximum is not None and memory.size is not None and memory.size >= memory.maximum - SAME_SIZE_KIB:
        return ", which is all that it can have" + ("" if memory.usable is None else ", until the host needs what it can spare")
    return ", until it needs more, or the host has room to give memory back, or needs more itself"


def _moving(told: _Grounds, past: _Trace) -> str:
    """Where the guest is going, and how fast; empty if it is not."""
    memory = told.memory
    size, asked = memory.size, memory.asked
    if size is None:
        return ""
    steps = [later[1] - earlier[1] for earlier, later in pairwise(past.sizes)]
    seconds = [later[0] - earlier[0] for earlier, later in pairwise(past.sizes)]
    asked_now = past.asked is not None and past.asked_at == told.about.report.time
    going_on = _step_by_step(told, past, size) if asked_now else ""
    if going_on or asked is None or abs(asked - size) < ARRIVED_KIB:
        return going_on or _step_by_step(told, past, size)
    step = steps[-1] if steps else 0.0
    if step * (asked - size) > 0 and abs(step) >= SAME_SIZE_KIB:
        left = math.ceil(abs(asked - size) / abs(step))
        there = f"it should be there in about {left} {'cycle' if left == 1 else 'cycles'} ({lasting(left * seconds[-1])})"
        moved = f"moved by {format_kib(abs(step))} since the cycle before"
        return f"It is on its way to {format_kib(asked)}, which mom asked for, and {moved}: {there}."
    if past.asked is not None and past.asked_at < told.about.report.time:
        when = lasting(told.about.report.time - past.asked_at)
        return (
            f"mom asked it {when} before this cycle to go to {format_kib(asked)}, and it has not come nearer; "
            "if it stays so, mom gives up on it for a while."
        )
    return f"It goes to {format_kib(asked)} now, as fast as it can."


def _step_by_step(told: _Grounds, past: _Trace, size: float) -> str:
    """What goes on cycle by cycle, if the policies want it in this one: how fast, and where it ends."""
    memory = told.memory
    decided = told.about.wanted_of(CONTROL)
    wanted = None if decided is None else as_number(decided.decision.value)
    if wanted is None or len(past.sizes) < MOVES:
        return ""
    (began, first), (ended, last) = past.sizes[0], past.sizes[-1]
    moved = last - first
    if moved * (wanted - size) <= 0 or abs(moved) < SAME_SIZE_KIB:
        return ""
    so_far = f"{format_kib(abs(moved))} in the last {lasting(ended - began)}"
    if moved > 0:
        left = (
            ""
            if memory.maximum is None
            else f"; at this pace it has all of its {format_kib(memory.maximum)} in about "
            + lasting(max(0.0, memory.maximum - size) / moved * (ended - began))
        )
        return f"mom gives memory back to it, {so_far}, and goes on while it needs it or the host has room{left}."
    keeps = [value for value in (memory.used, memory.guarantee or None) if value is not None]
    floor = f", at most down to the {format_kib(max(keeps))} that it needs or is guaranteed, and its reserve" if keeps else ""
    return f"mom takes memory from it, {so_far}, and goes on while the host lacks memory{floor}."


def _step(outcome: Outcome) -> str:
    before = "" if outcome.before is None else f"from {_size(outcome.before)} "
    return f"{before}to {_size(outcome.decision.value)}, {outcome.status}"


def _size(value: Value) -> str:
    kib = as_number(value)
    return printable(str(value), LONGEST_LINE) if kib is None else format_kib(kib)
