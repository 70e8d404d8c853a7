"""Part of `mom explain` about a guest's size: size, need, guarantee, history and outlook. Uses only reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from mom_core import Declarations, Guest, Host, Report, Scope, Status, as_number, format_kib, lasting, printable
from mom_daemon import About, Explainer, ExplanationPart, Sentence, StatusPart
from mom_kvm import stale_seconds
from mom_plugins_balloon.fields import TARGET
from mom_plugins_balloon.gate import need_kib
from mom_plugins_balloon.law.reasons import PHRASES, sentence
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, KILLED, OBSTACLE, REASON, RESTS, SET_BY, STARTED, SUGGESTED, UNHEALTHY
from mom_plugins_balloon.promises import PROMISED, guaranteed_kib
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.sizes import DEAD_BAND_KIB, SAME_SIZE_KIB
from mom_plugins_balloon.states import MemoryState

_OVERSOLD: Final = "the host cannot keep all promises, and guests with the lowest priority lose first"

LONGEST_LINE: Final = 200

MOVES_SECONDS: Final = 30.0
"""A balloon that has not reached its target after this time no longer moves to it."""

_PROMISES: Final = ("balloon_min", "mem_guarantee", "mem_promised", "guest_guarantee")
"""Fields: promise of the operator or management system, promise of the class, largest promise, and guarantee."""

_NEEDED: Final = {
    "balloon_cur": "its size", "balloon_max": "its maximum", "mem_usable": "its usable memory", "stats_age": "the age of its statistics",
    "swap_in": "whether it swaps",
}  # fmt: skip


class BalloonExplainer(Explainer):
    """Explanation of guests' sizes."""

    controls = (TARGET,)
    nouns: Mapping[str, str] = MappingProxyType({CONTROL: "a size of"})
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({CONTROL: ("grown", "shrunk")})
    phrases = PHRASES
    main_controls = (CONTROL,)

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
        memory, need = _memory_after(about)
        harm = [*_harm(about)]
        topics: Sequence[tuple[str, int, Iterable[str]]] = (
            ("harm", Sentence.HARM, harm),
            ("cure", Sentence.HARM, _cure(about, memory) if harm else ()),
            ("now", Sentence.PRESENT, _size_now(memory, guest.number(STARTED))),
            ("needs", Sentence.PRESENT, _needs(memory, need, about)),
            ("guaranteed", Sentence.PROMISED, [_guaranteed(memory.size, about)]),
            ("since", Sentence.PAST, _since(about, memory)),
            ("host", Sentence.HOST, _host(about.report.snapshot.host)),
            ("next", Sentence.NEXT, _next(about, memory)),
        )
        sentences = [Sentence(topic, text, place) for topic, place, texts in topics for text in texts]
        figures = {
            "size_kib": memory.size, "used_kib": need, "maximum_kib": memory.maximum, "least_kib": memory.reach,
            "usable_kib": memory.statistics.usable, "statistics_age_seconds": memory.statistics.age, "asked_kib": memory.target,
            "asked_age_seconds": memory.target_age, "guarantee_kib": guaranteed_kib(guest.fields), "promised_kib": guest.number(PROMISED),
        }  # fmt: skip
        unknown = [words for name, words in _NEEDED.items() if about.number(name) is None]
        return ExplanationPart(sentences, {"memory": figures}, unknown)


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


def _harm(about: About) -> Iterator[str]:
    killed, unhealthy = about.number(KILLED), about.guest.text(UNHEALTHY)
    if killed:
        programs = "1 of its programs was" if killed == 1 else f"{killed:.0f} of its programs were"
        yield f"{programs} killed for lack of memory in the last 10 min."
    if unhealthy:
        yield f"It is {unhealthy}."


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
    if shrunk >= DEAD_BAND_KIB:
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


def _since(about: About, memory: GuestMemory) -> Iterator[str]:
    target, age = about.number(CONTROL), memory.target_age
    if target is None or age is None:
        yield "mom has set no size for it since mom started."
    else:
        source = about.guest.text(SET_BY)
        by = f", according to {printable(source, LONGEST_LINE)}" if source else ""
        yield f"mom last set its size at {about.ago(about.report.time - age)}, to {format_kib(target)}{by}."


def _host(host: Host) -> Iterator[str]:
    total, available, reserved = (host.number(name) for name in ("mem_available", "mem_really_available", "mem_reserved"))
    if total and available is not None:
        yield f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)."
    else:
        yield "The host's available memory is unknown."
    if reserved:
        yield f"{format_kib(reserved)} are reserved for launches: mom takes this memory from guests, and does not return it to them."


def _next(about: About, memory: GuestMemory) -> Iterator[str]:
    size, target, again_in = memory.size, memory.target, about.number(RESTS)
    if obstacle := about.guest.why_blocked(CONTROL) or about.guest.text(OBSTACLE):
        again = "" if again_in is None else f"; mom tries again in {lasting(again_in)}, at {about.at(about.report.time + again_in)}"
        yield f"mom takes no memory from it: {printable(obstacle, LONGEST_LINE)}{again}."
    if size is None or about.report.mode == "observe":
        return
    if target is not None and abs(target - size) >= DEAD_BAND_KIB:
        why = "its balloon driver hangs, the guest took memory back, or another process resized it"
        if memory.target_age is None or memory.target_age < MOVES_SECONDS:
            why = "its balloon is still moving"
        yield f"Its size is not {format_kib(target)}, the target that mom set: {why}."
    elif not obstacle:
        yield "If nothing changes, it keeps this size until it needs more, or the host takes or returns memory."
