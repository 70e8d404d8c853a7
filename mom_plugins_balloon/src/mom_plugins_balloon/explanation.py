"""Why a guest has the size that it has: what it has, needs and is guaranteed, since when, and what comes next. From reports alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from mom_core import Decision, Declarations, Guest, Host, Outcome, Report, Scope, Status, Value, as_number, format_kib, lasting, printable
from mom_daemon import About, ExplainedDecision, Explainer, ExplanationPart, Sentence, SentencePlace
from mom_kvm import stale_seconds
from mom_plugins_balloon.ballooned_guests import CONTROL, LISTS_UNTIL_GONE, SAME_SIZE_KIB
from mom_plugins_balloon.fields import TARGET
from mom_plugins_balloon.harm import KILLED, UNHEALTHY
from mom_plugins_balloon.law.reasons import PHRASES, sentence
from mom_plugins_balloon.names import LEAST, OBSTACLE, REASON, RESTS, STARTED, SUGGESTED
from mom_plugins_balloon.promises import PROMISED, guaranteed_kib
from mom_plugins_balloon.states import MemoryState

SIZE: Final = "balloon_cur"

ARRIVED_KIB: Final = 8192
"""KiB. A guest that has come so near to what was asked of it is there: guests stop a few pages short of it."""

_OVERSOLD: Final = "guests are promised more than the host has, and the least important lose first"

LONGEST_LINE: Final = 200
"""Characters of a reason that are shown."""

_FIGURES: Final = {
    "maximum_kib": "balloon_max", "least_kib": LEAST, "started_kib": STARTED, "usable_kib": "mem_usable", "unused_kib": "mem_unused",
    "swap_in_kib_per_second": "swap_in", "swap_out_kib_per_second": "swap_out", "major_faults_per_second": "major_fault",
    "statistics_age_seconds": "stats_age",
}  # fmt: skip
"""Fields that are shown as they are, by what they are called in JSON."""

_PROMISES: Final = ("balloon_min", "mem_guarantee", "mem_promised", "guest_guarantee")
"""Fields with a promise, those that say first who gave it: the operator or the management system, the class, and all together."""


class Since(NamedTuple):
    """Since when a guest has its size (seconds since the epoch), and who gave it: `mom` by a decision, or as a sweep ended; `maximum`
    (none: it has all that it was started with), `somebody-else` (it is not what mom had asked for), or `unknown`: it had the size when mom
    first saw it."""

    time: float
    by: str
    before_kib: float | None = None
    decision: Decision | None = None

    @property
    def at_least(self) -> bool:
        """It had this size already when mom first saw it."""
        return self.by in {"maximum", "unknown"}


@dataclass(slots=True)
class _Trace:
    """What is remembered of one guest. `asked` is what mom last had it asked for, successfully; `tried` the last thing that came of a
    decision about its size and was not just left as it was; `missing`, how many lists in a row have lacked it. `killed_first` and
    `killed_last` are when its kernel was seen to kill programs, of those that still count."""

    incarnation: str
    size: float | None = None
    since: Since | None = None
    asked: Outcome | None = None
    tried: Outcome | None = None
    tried_at: float = 0.0
    obstacle: Value = None
    obstacle_since: float = 0.0
    missing: int = 0
    kills: float | None = None
    killed_first: float | None = None
    killed_last: float | None = None
    unhealthy: str = ""
    unhealthy_since: float = 0.0


class BalloonExplainer(Explainer):
    """Remembers of each guest since when it has its size, who gave it, and what mom asked for; says that, and what follows from it."""

    controls = (TARGET,)
    nouns: Mapping[str, str] = MappingProxyType({CONTROL: "a size of"})
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({CONTROL: ("grown", "shrunk")})
    phrases = PHRASES
    main_controls = (CONTROL,)

    def __init__(self) -> None:
        self._traces: dict[str, _Trace] = {}

    def take(self, report: Report) -> None:
        """A cycle has ended. Guests that are gone are forgotten; without any guest the hypervisor is away."""
        outcomes = {one.decision.entity.id: one for one in report.outcomes if one.decision.control == CONTROL}
        kept = {identity: trace for identity, trace in self._traces.items() if trace.missing < LISTS_UNTIL_GONE}
        for identity in kept.keys() - report.snapshot.guests.keys() if report.snapshot.guests else ():
            kept[identity].missing += 1
        for guest in report.snapshot.guests.values():
            trace = kept.get(guest.id)
            if trace is None or trace.incarnation != guest.incarnation:
                trace = _Trace(guest.incarnation)
            kept[guest.id], trace.missing = trace, 0
            _note(trace, guest, report.time)
            outcome = outcomes.get(guest.id)
            if outcome is not None and outcome.status is not Status.UNCHANGED:
                trace.tried, trace.tried_at = outcome, report.time
                if outcome.status is Status.APPLIED:
                    trace.asked = outcome
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
        guest, past = about.guest, self._traces.get(about.guest.id)
        sizes = _sizes(guest, about.wanted_of(CONTROL))
        guarantee_from = _who_promised(guest, sizes["promised_kib"] or sizes["guarantee_kib"], about.declarations)
        obstacle = guest.why_blocked(CONTROL) or guest.text(OBSTACLE) or ""
        since = None if past is None else past.since
        source = None if since is None or since.decision is None else since.decision.source._asdict()
        first, last = (None, None) if past is None else (past.killed_first, past.killed_last)
        unhealthy_since = past.unhealthy_since if past is not None and past.unhealthy else None
        figures: dict[str, Value] = {
            "harm": {
                "killed_lately": guest.number(KILLED),
                "killed_first": first,
                "killed_last": last,
                "unhealthy": guest.text(UNHEALTHY),
                "unhealthy_since": unhealthy_since,
            },
            "memory": {**sizes},
            "guarantee_from": guarantee_from,
            "since": since
            and {"time": since.time, "at_least": since.at_least, "by": since.by, "before_kib": since.before_kib, "source": source},
            "obstacle": obstacle,
            "asked_again_in_seconds": about.number(RESTS),
        }
        harm = list(_harm(about, past))
        said: Sequence[tuple[str, SentencePlace, Iterable[str]]] = (
            ("harm", SentencePlace.HARM, harm),
            ("cure", SentencePlace.HARM, _cure(about, sizes) if harm else ()),
            ("now", SentencePlace.PRESENT, [_size_now(sizes)]),
            ("reach", SentencePlace.PRESENT, _reach(sizes)),
            ("needs", SentencePlace.PRESENT, _needs(sizes, about.interval or 0.0, may_grow=not guest.why_blocked(CONTROL))),
            ("guaranteed", SentencePlace.PROMISED, [_guaranteed(sizes, guarantee_from)]),
            ("since", SentencePlace.PAST, [_since(about, since)]),
            ("host", SentencePlace.HOST, _host(about.report.snapshot.host)),
            ("wanted", SentencePlace.LAST_DECIDED, _last_tried(about, past)),
            ("next", SentencePlace.NEXT, _next(about, sizes, past, obstacle)),
        )
        sentences = [Sentence(topic, text, place) for topic, place, texts in said for text in texts]
        known = {
            "its size": sizes["size_kib"], "its maximum": sizes["maximum_kib"], "what is usable in it": sizes["usable_kib"],
            "the age of its statistics": sizes["statistics_age_seconds"], "whether it swaps": sizes["swap_in_kib_per_second"],
        }  # fmt: skip
        return ExplanationPart(sentences, figures, [what for what, value in known.items() if value is None])


def _note(trace: _Trace, guest: Guest, now: float) -> None:
    """Take in the guest's size, obstacle and harm in one more cycle."""
    _note_harm(trace, guest, now)
    obstacle = guest.fields.get(OBSTACLE)
    if obstacle != trace.obstacle:
        trace.obstacle, trace.obstacle_since = obstacle, now
    size, before = guest.number(SIZE), trace.size
    if size is None:
        return
    trace.size = size
    if before is None:
        maximum = guest.number("balloon_max")
        trace.since = Since(now, "maximum" if maximum is not None and size >= maximum - SAME_SIZE_KIB else "unknown")
    elif abs(size - before) >= SAME_SIZE_KIB:
        asked = trace.asked
        if asked is not None and _on_the_way(as_number(asked.decision.value), before, size):
            trace.since = Since(now, "mom", as_number(asked.before), asked.decision)
        elif _on_the_way(guest.number(CONTROL), before, size):  # a sweep ends without a decision
            trace.since = Since(now, "mom", before)
        else:
            trace.since = Since(now, "somebody-else", before)


def _note_harm(trace: _Trace, guest: Guest, now: float) -> None:
    kills, unhealthy = guest.number("guest_oom_kills"), guest.text(UNHEALTHY) or ""
    if not guest.number(KILLED):
        trace.killed_first = trace.killed_last = None
    elif kills is not None and trace.kills is not None and kills > trace.kills:
        trace.killed_first, trace.killed_last = trace.killed_first or now, now
    trace.kills = trace.kills if kills is None else kills
    if unhealthy != trace.unhealthy:
        trace.unhealthy, trace.unhealthy_since = unhealthy, now


def _on_the_way(wanted: float | None, before: float, size: float) -> bool:
    """True if a guest that changed its size went towards what mom had asked for, or got there."""
    if wanted is None:
        return False
    low, high = min(before, wanted) - ARRIVED_KIB, max(before, wanted) + ARRIVED_KIB
    return low <= size <= high and abs(size - wanted) <= abs(before - wanted) + ARRIVED_KIB


def _sizes(guest: Guest, wanted: ExplainedDecision | None) -> dict[str, float | None]:
    """What one guest has, by the names of JSON; None: unknown. `size_kib` is what its balloon leaves it, after what was done in the cycle;
    `used_kib` what it holds and could not give without swapping, by the size that it had when it said so; `asked_kib` what mom asked for
    last."""
    size, usable = guest.number(SIZE), guest.number("mem_usable")
    total, reserved = guest.number("mem_available"), guest.number("kernel_reserved")
    then = size if total is None or reserved is None else total + reserved
    outcome = None if wanted is None else wanted.outcome
    after = None if outcome is None else as_number(outcome.after)
    applied = outcome is not None and outcome.status is Status.APPLIED
    return {
        "size_kib": size if after is None else after,
        "used_kib": None if size is None or then is None or usable is None else max(0.0, then - usable),
        **{name: guest.number(field) for name, field in _FIGURES.items()},
        "guarantee_kib": guaranteed_kib(guest.fields),
        "promised_kib": guest.number(PROMISED),
        "asked_kib": as_number(outcome.decision.value) if outcome is not None and applied else guest.number(CONTROL),
    }


def _who_promised(guest: Guest, promised: float | None, declared: Declarations) -> str:
    """Who promised that to the guest; what holds the largest of several promises is told only where none of them is as large."""
    specs = (declared.fields.get((Scope.GUEST, name)) for name in _PROMISES if promised and guest.number(name) == promised)
    return next((spec.source for spec in specs if spec is not None), "")


# --- in words ------------------------------------------------------------------------------------------------------------------------


def _harm(about: About, past: _Trace | None) -> Iterator[str]:
    """Yield what the guest suffers from, and since when."""
    killed, unhealthy = about.number(KILLED), about.guest.text(UNHEALTHY)
    if killed:
        first, last = (None, None) if past is None else (past.killed_first, past.killed_last)
        since = "" if first is None else f": the first at {about.ago(first)}"
        since += "" if last is None or last == first else f"; the last at {about.ago(last)}"
        programs = "1 of its programs was" if killed == 1 else f"{killed:.0f} of its programs were"
        yield f"{programs} killed for want of memory in the last 10 min{since}."
    if unhealthy:
        since = "" if past is None or not past.unhealthy else f", since {about.ago(past.unhealthy_since)}"
        yield f"It is {unhealthy}{since}."


def _cure(about: About, sizes: Mapping[str, float | None]) -> Iterator[str]:
    """Yield what the operator can do for a guest that suffers."""
    size, maximum, host = sizes["size_kib"], sizes["maximum_kib"], about.report.snapshot.host
    if size is None or maximum is None:
        return
    if size >= maximum - SAME_SIZE_KIB:
        yield "It has all of its maximum: raise that, or see what runs in it."
    elif host.text("host_memory_state") in {MemoryState.HARD, MemoryState.LOW}:
        yield "Make room on the host: it has no memory to give back, and `mom status` says what holds it. A guarantee does not help there."
    elif about.guest.why_blocked(CONTROL):
        yield "mom cannot give it memory back, as it cannot be resized."
    elif about.report.mode == "observe":
        yield "The host has memory, and mom only observes: with `mode: enforce` it would give it back."
    else:
        yield "The host has memory, and mom gives it back. If that comes too late, give it a guarantee, and reload mom."


def _size_now(sizes: Mapping[str, float | None]) -> str:
    size, maximum, started = (sizes[f"{name}_kib"] for name in ("size", "maximum", "started"))
    if size is None:
        return "Its present size is unknown, so mom does not touch it."
    if maximum is None:
        return f"It has {format_kib(size)}; its maximum is unknown."
    if size >= maximum - SAME_SIZE_KIB:
        return f"It has {format_kib(size)}, all of its maximum: nothing is taken from it."
    of_all = f"It has {format_kib(size)} of {format_kib(maximum)}"
    if started is None:
        less = "are in its balloon" if sizes["asked_kib"] is None else "are taken from it for the host"
        return f"{of_all}: {format_kib(maximum - size)} {less}."
    taken = f", and {format_kib(started - size)} are taken from it for the host" if size < started - SAME_SIZE_KIB else ""
    return f"{of_all}: it had {format_kib(started)} when mom first saw it{taken}."


def _reach(sizes: Mapping[str, float | None]) -> Iterator[str]:
    if (least := sizes["least_kib"]) is not None:
        yield f"Its balloon can bring it to no less than {format_kib(least)}: virtio-mem's memory is out of its reach."


def _needs(sizes: Mapping[str, float | None], interval: float, *, may_grow: bool) -> Iterator[str]:
    size, used, usable, unused = (sizes[f"{name}_kib"] for name in ("size", "used", "usable", "unused"))
    if used is None or usable is None:
        what = "It may grow, and is never shrunk." if may_grow else "It keeps its size."
        yield f"What it needs is unknown: its kernel does not tell what is usable in it. {what}"
        return
    free = f" ({format_kib(unused)} of it free, the rest cache)" if unused is not None and unused <= usable else ""
    yield f"It needs {format_kib(used)}, and can use {format_kib(usable)} more{free}."
    given = 0.0 if size is None else used + usable - size
    if given >= ARRIVED_KIB:
        left = format_kib(max(0.0, usable - given))
        yield f"It has become {format_kib(given)} smaller since it said so: {left} are left to it of that."
    swaps = max(sizes["swap_in_kib_per_second"] or 0.0, sizes["swap_out_kib_per_second"] or 0.0)
    if swaps:
        yield f"It swaps {format_kib(swaps)}/s: it lacks memory, or did."
    age = sizes["statistics_age_seconds"]
    if age is not None:
        yield f"Its statistics were {lasting(age)} old{': too old to shrink it by' if age > stale_seconds(interval) else ''}."


def _guaranteed(sizes: Mapping[str, float | None], whose: str) -> str:
    guarantee, promised, size = sizes["guarantee_kib"], sizes["promised_kib"], sizes["size_kib"]
    of = "" if not promised or guarantee is None or guarantee >= promised else f" of the {format_kib(promised)} that it is promised"
    if of and not guarantee:
        return f"Nothing{of} holds now: {_OVERSOLD}."
    if not guarantee:
        return "No size is guaranteed to it; mom leaves it what it needs, and a reserve."
    lacks = "" if size is None or size >= guarantee - SAME_SIZE_KIB else f": it has {format_kib(guarantee - size)} less than that"
    why = f", as {_OVERSOLD}" if of else ""
    return f"It is guaranteed {format_kib(guarantee)}{of}{f' ({whose})' if whose else ''}{why}{lacks}."


def _since(about: About, since: Since | None) -> str:
    if since is None:
        return "Since when it has this size is not known: earlier cycles are not at hand."
    when = about.ago(since.time)
    if since.at_least:
        whose = ": it was started with it" if since.by == "maximum" else "; who gave it that size is not known"
        return f"It has had this size since mom first saw it ({when}){whose}."
    by = "this is not what mom had asked for: another process resized it, or the guest took memory back by itself"
    if since.decision is not None:
        by = f"mom gave it this size, by {since.decision.source}"
    elif since.by == "mom":
        by = "mom gave it this size, as a sweep ended, or as it had decided earlier"
    before = "" if since.before_kib is None else f" It had {format_kib(since.before_kib)} before."
    return f"Since {when}: {by}.{before}"


def _host(host: Host) -> Iterator[str]:
    total, available, reserved = (host.number(name) for name in ("mem_available", "mem_really_available", "mem_reserved"))
    if total and available is not None:
        yield f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)."
    else:
        yield "What the host has available is unknown."
    if reserved:
        kept = "no memory goes back to guests from that, and they give for it until it is there"
        yield f"{format_kib(reserved)} are reserved for guests that are to be launched: {kept}."


def _last_tried(about: About, past: _Trace | None) -> Iterator[str]:
    if not about.wanted and past is not None and past.tried is not None and past.tried_at < about.report.time:
        tried = past.tried
        before = "" if tried.before is None else f"from {_size(tried.before)} "
        step = f"{before}to {_size(tried.decision.value)}, {tried.status}"
        yield f"The last time was {about.ago(past.tried_at)}: {step}, by {tried.decision.source}."


def _next(about: About, sizes: Mapping[str, float | None], past: _Trace | None, obstacle: str) -> Iterator[str]:
    size, asked, rest = sizes["size_kib"], sizes["asked_kib"], about.number(RESTS)
    if obstacle:
        since = "" if past is None or past.obstacle is None else f" (since {about.ago(past.obstacle_since)})"
        again = "" if rest is None else f"; it is asked again in {lasting(rest)}, at {about.at(about.report.time + rest)}"
        yield f"mom does not count on its memory{since}: {printable(obstacle, LONGEST_LINE)}{again}."
    if size is None or about.report.mode == "observe":
        return
    if asked is not None and abs(asked - size) >= ARRIVED_KIB:
        yield f"It is on its way to {format_kib(asked)}, which mom asked for."
    elif not obstacle:
        yield "If nothing changes, it keeps this size, until it needs more, or the host has memory to give back, or needs more itself."


def _size(value: Value) -> str:
    kib = as_number(value)
    return printable(str(value), LONGEST_LINE) if kib is None else format_kib(kib)
