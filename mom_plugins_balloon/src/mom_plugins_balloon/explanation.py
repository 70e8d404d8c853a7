"""Part of `mom explain` about a guest's size: size, need, guarantee, history and outlook. Uses only reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from mom_core import Declarations, Guest, Host, Report, Scope, Status, Value, as_number, format_kib, lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, SentencePlace, StatusPart
from mom_kvm import stale_seconds
from mom_plugins_balloon.fields import TARGET
from mom_plugins_balloon.gate import need_kib
from mom_plugins_balloon.law.reasons import PHRASES, sentence
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, KILLED, OBSTACLE, REASON, RESTS, STARTED, SUGGESTED, UNHEALTHY
from mom_plugins_balloon.promises import PROMISED, guaranteed_kib
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.size_history import NEAR_TARGET_KIB, GuestHistory, histories
from mom_plugins_balloon.sizes import SAME_SIZE_KIB
from mom_plugins_balloon.states import MemoryState

_OVERSOLD: Final = "the host cannot keep all promises, and the lowest priority loses first"

LONGEST_LINE: Final = 200

_PROMISES: Final = ("balloon_min", "mem_guarantee", "mem_promised", "guest_guarantee")
"""Fields of promises: by the operator or the management system, by the class, and the largest."""


class Sizes(NamedTuple):
    """Memory and sizes of one guest after a cycle, in KiB."""

    memory: GuestMemory
    used: float | None
    """Memory in use at the time of the statistics."""
    started: float | None
    guarantee: float | None
    promised: float | None

    @classmethod
    def of(cls, about: About) -> Sizes:
        """Return a guest's sizes from a report."""
        guest, decision = about.guest, about.wanted_of(CONTROL)
        (memory,) = guest_memories(replace(about.report.snapshot, guests={guest.id: guest}))
        used = None if memory.size is None else need_kib(memory)
        outcome = None if decision is None else decision.outcome
        memory = memory._replace(maximum=guest.number("balloon_max"))
        if outcome is not None:
            after = as_number(outcome.after)
            target = as_number(outcome.decision.value) if outcome.status is Status.APPLIED else memory.target
            memory = memory._replace(size=memory.size if after is None else after, target=target)
        return cls(memory, used, guest.number(STARTED), guaranteed_kib(guest.fields), guest.number(PROMISED))

    @property
    def has_maximum(self) -> bool:
        """Whether the guest has all its memory."""
        size, maximum = self.memory.size, self.memory.maximum
        return size is not None and maximum is not None and size >= maximum - SAME_SIZE_KIB

    def as_json(self) -> Mapping[str, Value]:
        """Return sizes and statistics by JSON name."""
        memory, statistics = self.memory, self.memory.statistics
        return {
            "size_kib": memory.size, "used_kib": self.used, "maximum_kib": memory.maximum, "least_kib": memory.reach,
            "started_kib": self.started, "usable_kib": statistics.usable, "unused_kib": statistics.unused,
            "swap_in_kib_per_second": statistics.swap_in, "swap_out_kib_per_second": statistics.swap_out,
            "major_faults_per_second": statistics.major_faults, "statistics_age_seconds": statistics.age,
            "guarantee_kib": self.guarantee, "promised_kib": self.promised, "asked_kib": memory.target,
        }  # fmt: skip


class BalloonExplainer(Explainer):
    """Explanation of guests' sizes."""

    controls = (TARGET,)
    nouns: Mapping[str, str] = MappingProxyType({CONTROL: "a size of"})
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({CONTROL: ("grown", "shrunk")})
    phrases = PHRASES
    main_controls = (CONTROL,)

    def __init__(self) -> None:
        self._histories: Mapping[str, GuestHistory] = {}

    def take(self, report: Report) -> None:
        """Record one more cycle."""
        self._histories = histories(self._histories, report)

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Return the law's reason if the decision followed the law's suggestion."""
        code = guest.text(REASON)
        if control != CONTROL or code is None:
            return ""
        decisions = (decision for decision in report.decisions if decision.control == CONTROL and decision.entity.id == guest.id)
        decided = next((decision.value for decision in decisions), None)
        return sentence(code, guest, report.snapshot.host) if decided == guest.number(SUGGESTED) else ""

    def part(self, about: About) -> ExplanationPart:
        """Return sentences and figures about a guest's size."""
        guest = about.guest
        history = self._histories.get(guest.id) or GuestHistory(guest.incarnation)
        sizes = Sizes.of(about)
        promised_by = _who_promised(guest, sizes.promised or sizes.guarantee, about.declarations)
        obstacle = guest.why_blocked(CONTROL) or guest.text(OBSTACLE) or ""
        harm = [*_harm(about, history)]
        topics: Sequence[tuple[str, SentencePlace, Iterable[str]]] = (
            ("harm", SentencePlace.HARM, harm),
            ("cure", SentencePlace.HARM, _cure(about, sizes) if harm else ()),
            ("now", SentencePlace.PRESENT, _size_now(sizes)),
            ("needs", SentencePlace.PRESENT, _needs(sizes, about.interval or 0.0, may_grow=not guest.why_blocked(CONTROL))),
            ("guaranteed", SentencePlace.PROMISED, [_guaranteed(sizes, promised_by)]),
            ("since", SentencePlace.PAST, [_since(about, history)]),
            ("host", SentencePlace.HOST, _host(about.report.snapshot.host)),
            ("wanted", SentencePlace.LAST_DECIDED, _last_tried(about, history)),
            ("next", SentencePlace.NEXT, _next(about, sizes, history, obstacle)),
        )
        sentences = [Sentence(topic, text, place) for topic, place, texts in topics for text in texts]
        values: dict[str, Value] = {
            "harm": _harm_figures(guest, history),
            "memory": sizes.as_json(),
            "guarantee_from": promised_by,
            "since": _since_figures(history),
            "obstacle": obstacle,
            "asked_again_in_seconds": about.number(RESTS),
        }
        figures = {"its size": sizes.memory.size, "its maximum": sizes.memory.maximum, "its usable memory": sizes.memory.statistics.usable}
        figures |= {"the age of its statistics": sizes.memory.statistics.age, "whether it swaps": sizes.memory.statistics.swap_in}
        return ExplanationPart(sentences, values, [words for words, figure in figures.items() if figure is None])


def _who_promised(guest: Guest, promised: float | None, declared: Declarations) -> str:
    specs = (declared.fields.get((Scope.GUEST, name)) for name in _PROMISES if promised and guest.number(name) == promised)
    return next((spec.source for spec in specs if spec is not None), "")


def _harm_figures(guest: Guest, history: GuestHistory) -> Mapping[str, Value]:
    return {
        "killed_lately": guest.number(KILLED),
        "killed_first": history.killed_first,
        "killed_last": history.killed_last,
        "unhealthy": guest.text(UNHEALTHY),
        "unhealthy_since": history.unhealthy_since if history.unhealthy else None,
    }


def _since_figures(history: GuestHistory) -> Mapping[str, Value] | None:
    since = history.since
    if since is None:
        return None
    source = None if since.decision is None else since.decision.source._asdict()
    return {"time": since.time, "at_least": since.at_least, "by": since.by, "before_kib": since.before_kib, "source": source}


# --- in `mom status` ------


def host_parts(report: Report) -> Iterator[StatusPart]:
    """Yield the high watermark, memory state, and reserved memory."""
    host = report.snapshot.host
    high, state, reserved = host.number("mem_watermark_high"), host.text("host_memory_state"), host.number("mem_reserved")
    if high is not None:
        means = "" if state is None else " (plenty of memory)" if state == "high" else f" (short of memory: {state})"
        yield StatusPart("host", f"wanted {format_kib(high)}{means}", 20)
    if reserved:
        yield StatusPart("host", f"reserved for launches {format_kib(reserved)}", 40)


# --- in words ------------------------------------------------------------------------------------------------------------------------


def _harm(about: About, history: GuestHistory) -> Iterator[str]:
    killed, unhealthy = about.number(KILLED), about.guest.text(UNHEALTHY)
    if killed:
        first, last = history.killed_first, history.killed_last
        since = "" if first is None else f": the first at {about.ago(first)}"
        since += "" if last is None or last == first else f"; the last at {about.ago(last)}"
        programs = "1 of its programs was" if killed == 1 else f"{killed:.0f} of its programs were"
        yield f"{programs} killed for lack of memory in the last 10 min{since}."
    if unhealthy:
        since = f", since {about.ago(history.unhealthy_since)}" if history.unhealthy else ""
        yield f"It is {unhealthy}{since}."


def _cure(about: About, sizes: Sizes) -> Iterator[str]:
    if sizes.memory.size is None or sizes.memory.maximum is None:
        return
    if sizes.has_maximum:
        yield "It has its maximum memory: raise the maximum, or check which programs run in it."
    elif about.report.snapshot.host.text("host_memory_state") in {MemoryState.HARD, MemoryState.LOW}:
        yield "Free memory on the host: it has none to return. `mom status` names the largest consumers. A guarantee does not help."
    elif about.guest.why_blocked(CONTROL):
        yield "mom cannot return memory to it, because it cannot be resized."
    elif about.report.mode == "observe":
        yield "The host has memory, but mom only observes. With `mode: enforce`, mom would return memory to the guest."
    else:
        yield "The host has memory, and mom returns it to the guest. If that comes too late, set a guarantee for the guest, and reload mom."


def _size_now(sizes: Sizes) -> Iterator[str]:
    size, maximum, started = sizes.memory.size, sizes.memory.maximum, sizes.started
    if size is None:
        yield "Its present size is unknown, so mom does not touch it."
    elif maximum is None:
        yield f"It has {format_kib(size)}; its maximum is unknown."
    elif sizes.has_maximum:
        yield f"It has {format_kib(size)}, its maximum: mom takes nothing from it."
    elif started is None:
        where = "are in its balloon" if sizes.memory.target is None else "are taken from it for the host"
        yield f"It has {format_kib(size)} of {format_kib(maximum)}: {format_kib(maximum - size)} {where}."
    else:
        lost = f", and {format_kib(started - size)} are taken from it for the host" if size < started - SAME_SIZE_KIB else ""
        yield f"It has {format_kib(size)} of {format_kib(maximum)}: it had {format_kib(started)} when mom first saw it{lost}."
    if sizes.memory.reach is not None:
        yield f"Its balloon cannot shrink it below {format_kib(sizes.memory.reach)}: a balloon cannot take memory of virtio-mem devices."


def _needs(sizes: Sizes, interval: float, *, may_grow: bool) -> Iterator[str]:
    size, used, statistics = sizes.memory.size, sizes.used, sizes.memory.statistics
    usable, unused, age = statistics.usable, statistics.unused, statistics.age
    if used is None or usable is None:
        rule = "mom may grow it, and never shrinks it." if may_grow else "It keeps its size."
        yield f"Its need is unknown: its kernel does not report usable memory. {rule}"
        return
    free = f" ({format_kib(unused)} of it free, the rest cache)" if unused is not None and unused <= usable else ""
    yield f"It needs {format_kib(used)}, and can use {format_kib(usable)} more{free}."
    shrunk = 0.0 if size is None else used + usable - size
    if shrunk >= NEAR_TARGET_KIB:
        left = max(0.0, usable - shrunk)
        yield f"It has shrunk by {format_kib(shrunk)} since these statistics, so it can now use only {format_kib(left)} more."
    if statistics.swapping:
        yield f"It swaps {format_kib(statistics.swapping)}/s: it lacks memory, or lacked memory recently."
    if age is not None:
        yield f"Its statistics were {lasting(age)} old{': too old to shrink it' if age > stale_seconds(interval) else ''}."


def _guaranteed(sizes: Sizes, promised_by: str) -> str:
    guarantee, promised, size = sizes.guarantee, sizes.promised, sizes.memory.size
    of = "" if not promised or guarantee is None or guarantee >= promised else f" of the {format_kib(promised)} that it is promised"
    if of and not guarantee:
        return f"Nothing{of} is guaranteed now: {_OVERSOLD}."
    if not guarantee:
        return "It has no guarantee; mom leaves it the memory that it needs, and a reserve."
    lacks = "" if size is None or size >= guarantee - SAME_SIZE_KIB else f": it has {format_kib(guarantee - size)} less than that"
    why = f", as {_OVERSOLD}" if of else ""
    return f"It is guaranteed {format_kib(guarantee)}{of}{f' ({promised_by})' if promised_by else ''}{why}{lacks}."


def _since(about: About, history: GuestHistory) -> str:
    since = history.since
    if since is None:
        return "It is unknown how long it has had this size: earlier cycles are not available."
    when = about.ago(since.time)
    if since.at_least:
        by = "it started with this size" if since.by == "maximum" else "the cause of this size is unknown"
        return f"It has had this size since mom first saw it ({when}): {by}."
    by = "this is not mom's target: another process resized it, or the guest took memory back by itself"
    if since.decision is not None:
        by = f"mom set this size, according to {since.decision.source}"
    elif since.by == "mom":
        by = "mom set this size, at the end of a sweep or by an earlier decision"
    before = "" if since.before_kib is None else f" It had {format_kib(since.before_kib)} before."
    return f"Since {when}: {by}.{before}"


def _host(host: Host) -> Iterator[str]:
    total, available, reserved = (host.number(name) for name in ("mem_available", "mem_really_available", "mem_reserved"))
    if total and available is not None:
        yield f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)."
    else:
        yield "The host's available memory is unknown."
    if reserved:
        yield f"{format_kib(reserved)} are reserved for launches: mom takes this memory from guests, and does not return it to them."


def _last_tried(about: About, history: GuestHistory) -> Iterator[str]:
    tried = history.tried
    if not about.wanted and tried is not None and history.tried_at < about.report.time:
        before = "" if tried.before is None else f"from {_size(tried.before)} "
        change = f"{before}to {_size(tried.decision.value)}, {tried.status}"
        yield f"The last decision was {about.ago(history.tried_at)}: {change}, according to {tried.decision.source}."


def _next(about: About, sizes: Sizes, history: GuestHistory, obstacle: str) -> Iterator[str]:
    size, target, again_in = sizes.memory.size, sizes.memory.target, about.number(RESTS)
    if obstacle:
        since = "" if history.obstacle is None else f" (since {about.ago(history.obstacle_since)})"
        again = "" if again_in is None else f"; mom tries again in {lasting(again_in)}, at {about.at(about.report.time + again_in)}"
        yield f"mom takes no memory from it{since}: {printable(obstacle, LONGEST_LINE)}{again}."
    if size is None or about.report.mode == "observe":
        return
    if target is not None and abs(target - size) >= NEAR_TARGET_KIB:
        yield f"Its balloon is still moving to {format_kib(target)}, the target that mom set."
    elif not obstacle:
        yield "If nothing changes, it keeps this size until it needs more, or the host takes or returns memory."


def _size(value: Value) -> str:
    kib = as_number(value)
    return printable(str(value), LONGEST_LINE) if kib is None else format_kib(kib)
