"""Part of `mom explain` about a guest's size: size, need, guarantee, history and outlook. Uses only reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from mom_core import Declarations, Guest, Host, Outcome, Report, Scope, Source, Status, Value, as_number, format_kib, lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, StatusPart
from mom_kvm import stale_seconds
from mom_plugins_balloon.ballooned_guests import LISTS_UNTIL_GONE
from mom_plugins_balloon.fields import TARGET
from mom_plugins_balloon.gate import need_kib
from mom_plugins_balloon.law.reasons import PHRASES, sentence
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, KILLED, OBSTACLE, REASON, RESTS, STARTED, SUGGESTED, UNHEALTHY
from mom_plugins_balloon.promises import PROMISED, guaranteed_kib
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.sizes import SAME_SIZE_KIB
from mom_plugins_balloon.states import MemoryState

_OVERSOLD: Final = "the host cannot keep all promises, and guests with the lowest priority lose first"

LONGEST_LINE: Final = 200

NEAR_TARGET_KIB: Final = 8192
"""A guest this close to its target has reached it."""

_PROMISES: Final = ("balloon_min", "mem_guarantee", "mem_promised", "guest_guarantee")
"""Fields: promise of the operator or management system, promise of the class, largest promise, and guarantee."""

_NEEDED: Final = {
    "balloon_cur": "its size", "balloon_max": "its maximum", "mem_usable": "its usable memory", "stats_age": "the age of its statistics",
    "swap_in": "whether it swaps",
}  # fmt: skip


class SizeSince(NamedTuple):
    """Time (seconds since the epoch) since which a guest has its size, and who set it.

    `by` is one of:

    - `mom`
    - `maximum`: nobody; mom first saw the guest with all its memory
    - `unknown`: mom first saw the guest with less memory
    - `somebody-else`: the change was not towards mom's target
    """

    time: float
    by: str
    before_kib: float | None = None
    source: Source | None = None


@dataclass(slots=True)
class GuestHistory:
    """History of one incarnation of a guest."""

    incarnation: str
    size: float | None = None
    since: SizeSince | None = None
    applied: Outcome | None = None
    facts: dict[str, tuple[Value, float]] = field(default_factory=dict)
    """Values of some fields, each with the time of its last change."""
    missing: int = 0

    def see(self, guest: Guest, outcome: Outcome | None, now: float) -> None:
        """Record one more cycle."""
        self.missing = 0
        facts = {OBSTACLE: guest.fields.get(OBSTACLE), UNHEALTHY: guest.text(UNHEALTHY), KILLED: bool(guest.number(KILLED))}
        for name, value in facts.items():
            if name not in self.facts or self.facts[name][0] != value:
                self.facts[name] = value, now
        size, before = guest.number("balloon_cur"), self.size
        if size is not None:
            self.size = size
            if before is None:
                maximum = guest.number("balloon_max")
                self.since = SizeSince(now, "maximum" if maximum is not None and size >= maximum - SAME_SIZE_KIB else "unknown")
            elif abs(size - before) >= SAME_SIZE_KIB:
                self.since = self._resized(guest, before, size, now)
        if outcome is not None and outcome.status is Status.APPLIED:
            self.applied = outcome

    def _resized(self, guest: Guest, before: float, size: float, now: float) -> SizeSince:
        applied = self.applied
        if applied is not None and _is_on_the_way(as_number(applied.decision.value), before, size):
            return SizeSince(now, "mom", as_number(applied.before), applied.decision.source)
        # A sweep ends without a decision.
        return SizeSince(now, "mom" if _is_on_the_way(guest.number(CONTROL), before, size) else "somebody-else", before)


def _is_on_the_way(target: float | None, before: float, size: float) -> bool:
    if target is None:
        return False
    low, high = min(before, target) - NEAR_TARGET_KIB, max(before, target) + NEAR_TARGET_KIB
    return low <= size <= high and abs(size - target) <= abs(before - target) + NEAR_TARGET_KIB


def histories(before: Mapping[str, GuestHistory], report: Report) -> dict[str, GuestHistory]:
    """Return all histories after one more cycle, keyed by guest ID. A report without guests removes none: the hypervisor did not answer."""
    guests = report.snapshot.guests
    outcomes = {outcome.decision.entity.id: outcome for outcome in report.outcomes if outcome.decision.control == CONTROL}
    kept = {identity: history for identity, history in before.items() if history.missing < LISTS_UNTIL_GONE}
    for identity in kept.keys() - guests.keys() if guests else ():
        kept[identity].missing += 1
    for guest in guests.values():
        history = kept.get(guest.id)
        if history is None or history.incarnation != guest.incarnation:
            history = kept[guest.id] = GuestHistory(guest.incarnation)
        history.see(guest, outcomes.get(guest.id), report.time)
    return kept


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
        """Return the law's reason if the decision followed the law's suggestion; otherwise empty."""
        code = guest.text(REASON)
        if control != CONTROL or code is None:
            return ""
        decisions = (decision for decision in report.decisions if decision.control == CONTROL and decision.entity.id == guest.id)
        decided = next((decision.value for decision in decisions), None)
        return sentence(code, guest, report.snapshot.host) if decided == guest.number(SUGGESTED) else ""

    def part(self, about: About) -> ExplanationPart:
        """Return sentences and figures about a guest's size."""
        guest = about.guest
        history, (memory, need) = self._histories.get(guest.id) or GuestHistory(guest.incarnation), _memory_after(about)
        harm = [*_harm(about, history)]
        topics: Sequence[tuple[str, int, Iterable[str]]] = (
            ("harm", Sentence.HARM, harm),
            ("cure", Sentence.HARM, _cure(about, memory) if harm else ()),
            ("now", Sentence.PRESENT, _size_now(memory, guest.number(STARTED))),
            ("needs", Sentence.PRESENT, _needs(memory, need, about)),
            ("guaranteed", Sentence.PROMISED, [_guaranteed(memory.size, about)]),
            ("since", Sentence.PAST, [_since(about, history.since)]),
            ("host", Sentence.HOST, _host(about.report.snapshot.host)),
            ("next", Sentence.NEXT, _next(about, memory, history)),
        )
        sentences = [Sentence(topic, text, place) for topic, place, texts in topics for text in texts]
        figures = {
            "size_kib": memory.size, "used_kib": need, "maximum_kib": memory.maximum, "least_kib": memory.reach,
            "usable_kib": memory.statistics.usable, "statistics_age_seconds": memory.statistics.age, "asked_kib": memory.target,
            "guarantee_kib": guaranteed_kib(guest.fields), "promised_kib": guest.number(PROMISED),
        }  # fmt: skip
        since = history.since
        past: Value = None if since is None else {"time": since.time, "by": since.by, "before_kib": since.before_kib}
        unknown = [words for name, words in _NEEDED.items() if about.number(name) is None]
        return ExplanationPart(sentences, {"memory": figures, "since": past}, unknown)


def _memory_after(about: About) -> tuple[GuestMemory, float | None]:
    # Returns the memory after the cycle's decision, and the need at the time of the statistics.
    (memory,) = guest_memories(replace(about.report.snapshot, guests={about.guest.id: about.guest}))
    need = None if memory.size is None else need_kib(memory)
    memory, decision = memory._replace(maximum=about.number("balloon_max")), about.wanted_of(CONTROL)
    outcome = None if decision is None else decision.outcome
    if outcome is None:
        return memory, need
    after = as_number(outcome.after)
    target = as_number(outcome.decision.value) if outcome.status is Status.APPLIED else memory.target
    return memory._replace(size=memory.size if after is None else after, target=target), need


def _has_maximum(memory: GuestMemory) -> bool:
    return memory.size is not None and memory.maximum is not None and memory.size >= memory.maximum - SAME_SIZE_KIB


def _who_promised(guest: Guest, promised: float, declared: Declarations) -> str:
    specs = (declared.fields.get((Scope.GUEST, name)) for name in _PROMISES if guest.number(name) == promised)
    return next((spec.source for spec in specs if spec is not None), "")


def host_parts(report: Report) -> Iterator[StatusPart]:
    """Yield the parts of `mom status`: the high watermark, memory state, and reserved memory."""
    host = report.snapshot.host
    high, state, reserved = host.number("mem_watermark_high"), host.text("host_memory_state"), host.number("mem_reserved")
    if high is not None:
        means = "" if state is None else " (plenty of memory)" if state == "high" else f" (short of memory: {state})"
        yield StatusPart("host", f"wanted {format_kib(high)}{means}", 20)
    if reserved:
        yield StatusPart("host", f"reserved for launches {format_kib(reserved)}", 40)


def _harm(about: About, history: GuestHistory) -> Iterator[str]:
    killed, unhealthy = about.number(KILLED), about.guest.text(UNHEALTHY)
    since = {name: about.ago(time) for name, (value, time) in history.facts.items() if value}
    if killed:
        programs = "1 of its programs was" if killed == 1 else f"{killed:.0f} of its programs were"
        first = f": the first at {since[KILLED]}" if KILLED in since else ""
        yield f"{programs} killed for lack of memory in the last 10 min{first}."
    if unhealthy:
        yield f"It is {unhealthy}{f', since {since[UNHEALTHY]}' if UNHEALTHY in since else ''}."


def _cure(about: About, memory: GuestMemory) -> Iterator[str]:
    if memory.size is None or memory.maximum is None:
        return
    if _has_maximum(memory):
        yield "It has its maximum memory: raise the maximum, or check which programs run in it."
    elif about.report.snapshot.host.text("host_memory_state") in {MemoryState.HARD, MemoryState.LOW}:
        yield "The host has no memory to return, so free memory there. `mom status` names the largest consumers. A guarantee does not help."
    elif about.guest.why_blocked(CONTROL):
        yield "mom cannot return memory to it, because it cannot be resized."
    elif about.report.mode == "observe":
        yield "The host has memory, but mom only observes. With `mode: enforce`, mom would return memory to the guest."
    else:
        yield "The host has memory, and mom returns it to the guest. If that comes too late, set a guarantee for the guest, and reload mom."


def _size_now(memory: GuestMemory, started: float | None) -> Iterator[str]:
    size, maximum = memory.size, memory.maximum
    if size is None:
        yield "Its present size is unknown, so mom does not touch it."
    elif maximum is None:
        yield f"It has {format_kib(size)}; its maximum is unknown."
    elif _has_maximum(memory):
        yield f"It has {format_kib(size)}, its maximum: mom takes nothing from it."
    elif started is None:
        where = "are in its balloon" if memory.target is None else "are taken from it for the host"
        yield f"It has {format_kib(size)} of {format_kib(maximum)}: {format_kib(maximum - size)} {where}."
    else:
        lost = f", and {format_kib(started - size)} are taken from it for the host" if size < started - SAME_SIZE_KIB else ""
        yield f"It has {format_kib(size)} of {format_kib(maximum)}: it had {format_kib(started)} when mom first saw it{lost}."
    if memory.reach is not None:
        yield f"Its balloon cannot shrink it below {format_kib(memory.reach)}: a balloon cannot take memory of virtio-mem devices."


def _needs(memory: GuestMemory, need: float | None, about: About) -> Iterator[str]:
    usable, unused, age = memory.statistics.usable, memory.statistics.unused, memory.statistics.age
    if need is None or usable is None:
        rule = "It keeps its size." if about.guest.why_blocked(CONTROL) else "mom may grow it, and never shrinks it."
        yield f"Its need is unknown: its kernel does not report usable memory. {rule}"
        return
    free = f" ({format_kib(unused)} of it free, the rest cache)" if unused is not None and unused <= usable else ""
    yield f"It needs {format_kib(need)}, and can use {format_kib(usable)} more{free}."
    shrunk = 0.0 if memory.size is None else need + usable - memory.size
    if shrunk >= NEAR_TARGET_KIB:
        left = format_kib(max(0.0, usable - shrunk))
        yield f"It has shrunk by {format_kib(shrunk)} since these statistics, so it can now use only {left} more."
    if memory.statistics.swapping:
        yield f"It swaps {format_kib(memory.statistics.swapping)}/s: it lacks memory, or lacked memory recently."
    if age is not None:
        yield f"Its statistics were {lasting(age)} old{': too old to shrink it' if age > stale_seconds(about.interval or 0.0) else ''}."


def _guaranteed(size: float | None, about: About) -> str:
    guarantee, promised = guaranteed_kib(about.guest.fields), about.number(PROMISED)
    of = "" if not promised or guarantee is None or guarantee >= promised else f" of the {format_kib(promised)} that it is promised"
    if not guarantee:
        return (
            f"Nothing{of} is guaranteed now: {_OVERSOLD}."
            if of
            else "It has no guarantee; mom leaves it the memory that it needs, and a reserve."
        )
    by, why = _who_promised(about.guest, promised or guarantee, about.declarations), f", as {_OVERSOLD}" if of else ""
    lacks = "" if size is None or size >= guarantee - SAME_SIZE_KIB else f": it has {format_kib(guarantee - size)} less than its guarantee"
    return f"It is guaranteed {format_kib(guarantee)}{of}{f' ({by})' if by else ''}{why}{lacks}."


def _since(about: About, since: SizeSince | None) -> str:
    if since is None:
        return "It is unknown how long it has had this size: earlier cycles are not available."
    when = about.ago(since.time)
    if since.by in {"maximum", "unknown"}:
        by = "it started with this size" if since.by == "maximum" else "the cause of this size is unknown"
        return f"It has had this size since mom first saw it ({when}): {by}."
    by = "this is not mom's target: another process resized it, or the guest took memory back by itself"
    if since.by == "mom":
        by = f"mom set this size, {f'according to {since.source}' if since.source else 'at the end of a sweep or by an earlier decision'}"
    return f"Since {when}: {by}.{'' if since.before_kib is None else f' It had {format_kib(since.before_kib)} before.'}"


def _host(host: Host) -> Iterator[str]:
    total, available, reserved = (host.number(name) for name in ("mem_available", "mem_really_available", "mem_reserved"))
    if total and available is not None:
        yield f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)."
    else:
        yield "The host's available memory is unknown."
    if reserved:
        yield f"{format_kib(reserved)} are reserved for launches: mom takes this memory from guests, and does not return it to them."


def _next(about: About, memory: GuestMemory, history: GuestHistory) -> Iterator[str]:
    size, target, again_in = memory.size, memory.target, about.number(RESTS)
    if obstacle := about.guest.why_blocked(CONTROL) or about.guest.text(OBSTACLE):
        value, time = history.facts.get(OBSTACLE, (None, 0.0))
        since = "" if value is None else f" (since {about.ago(time)})"
        again = "" if again_in is None else f"; mom tries again in {lasting(again_in)}, at {about.at(about.report.time + again_in)}"
        yield f"mom takes no memory from it{since}: {printable(obstacle, LONGEST_LINE)}{again}."
    if size is None or about.report.mode == "observe":
        return
    if target is not None and abs(target - size) >= NEAR_TARGET_KIB:
        yield f"Its balloon is still moving to {format_kib(target)}, the target that mom set."
    elif not obstacle:
        yield "If nothing changes, it keeps this size until it needs more, or the host takes or returns memory."
