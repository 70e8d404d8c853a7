"""Why a guest has the size that it has: from reports alone, in numbers and in sentences that an operator understands.

A `Trail` takes in every report and keeps a few numbers of each guest; `explain` joins what it knows with the newest report. What is not
known is said, never guessed.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from mom_core.context import Declarations
from mom_core.errors import NoSuchGuest
from mom_core.guarantees import HOLDS, PROMISES, guaranteed_kib
from mom_core.model import (
    Decision,
    Entity,
    Guest,
    Host,
    Outcome,
    Problem,
    Report,
    Revision,
    Scope,
    Source,
    Status,
    Value,
    differences,
    printable,
)
from mom_core.units import Unit, format_duration, format_kib, lasting

SIZE: Final = "balloon_cur"
CONTROL: Final = "balloon_target"

SAME_SIZE_KIB: Final = 1024
"""Sizes that differ by less are the same: hypervisors round to whole MiB."""

ARRIVED_KIB: Final = 8192
"""A guest that has come so near to what was asked of it is there: guests stop a few pages short of it."""

KEPT_SIZES: Final = 12
"""Cycles of which a guest's size is kept: enough to say how fast it changes; some 300 bytes."""

MOVES: Final = 3
"""Sizes that must be known before a pace is told."""

LONGEST_LINE: Final = 200
"""Characters of a policy's line that are shown."""

QUOTED_LINES: Final = 4
"""Lines of a policy that are joined when a form goes on in the next one."""

LONGEST_REASON: Final = 600
"""Characters of why a policy decides so."""

LATE_SECONDS: Final = 15.0
"""Older statistics are remarked upon: the usual ones come every few seconds."""


class Topic(StrEnum):
    """What a sentence is about, in the order in which they are told."""

    NOW = "now"
    NEEDS = "needs"
    CLASS = "class"
    GUARANTEED = "guaranteed"
    SINCE = "since"
    HOST = "host"
    WANTED = "wanted"
    WHY = "why"
    REVIEW = "review"
    DONE = "done"
    TRIAL = "trial"
    PROBLEMS = "problems"
    NEXT = "next"
    UNKNOWN = "unknown"


class Setter(StrEnum):
    """Who gave a guest its size."""

    MOM = "mom"
    MAXIMUM = "maximum"  #: nobody: it has all that it was started with
    SOMEBODY_ELSE = "somebody-else"  #: its size changed, and not to what mom had asked for
    UNKNOWN = "unknown"  #: it had the size when mom first saw it


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that a person should know."""

    topic: Topic
    text: str


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


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of one guest. Sizes in KiB, times in seconds since the epoch.

    `sizes` are those of the last cycles, oldest first, with their times. `asked` is what mom last had the guest asked for, successfully;
    `tried` the last thing that came of a decision about its size and was not just left as it was.
    """

    seen_since: float
    since: Since | None
    sizes: Sequence[tuple[float, float]] = ()
    asked: Outcome | None = None
    asked_at: float = 0.0
    tried: Outcome | None = None
    tried_at: float = 0.0
    obstacle_since: float | None = None


@dataclass(slots=True)
class _Trace:
    """What a trail keeps of one guest."""

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


class Trail:
    """Remembers of each guest since when it has its size, who gave it, and what mom asked for. Any thread may use it."""

    def __init__(self) -> None:
        self._traces: dict[str, _Trace] = {}
        self._lock = threading.Lock()

    def take(self, report: Report) -> None:
        """A cycle has ended. Guests that are gone are forgotten."""
        with self._lock:
            self._take(report)

    def _take(self, report: Report) -> None:
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

    def of(self, guest: str) -> Past | None:
        """What is remembered of the guest with this id; None when it was never seen."""
        with self._lock:
            trace = self._traces.get(guest)
            if trace is None:
                return None
            sizes = tuple(trace.sizes)
            return Past(
                trace.seen_since, trace.since, sizes, trace.asked, trace.asked_at, trace.tried, trace.tried_at, trace.obstacle_since
            )


def _note(trace: _Trace, guest: Guest, now: float) -> None:
    """The guest's size and obstacle in one more cycle."""
    obstacle = guest.fields.get("balloon_obstacle")
    if obstacle != trace.obstacle:
        trace.obstacle = obstacle if isinstance(obstacle, str) else ""
        trace.obstacle_since = now if trace.obstacle else None
    size = _number(guest.fields.get(SIZE))
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
    wanted = _number(asked.value)
    if wanted is None:
        return False
    low, high = min(before, wanted) - ARRIVED_KIB, max(before, wanted) + ARRIVED_KIB
    return low <= size <= high and abs(size - wanted) <= abs(before - wanted) + ARRIVED_KIB


def _at_maximum(guest: Guest, size: float) -> bool:
    maximum = _number(guest.fields.get("balloon_max"))
    return maximum is not None and size >= maximum - SAME_SIZE_KIB


# --- the explanation ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Memory:
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """One decision about the guest: what was wanted, where (with the policy's line) and why in words (both empty if unknown), and what
    became of it."""

    decision: Decision
    unit: str
    line: str
    revisions: Sequence[Revision]
    outcome: Outcome | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that is known about why one guest is as it is."""

    guest: Entity
    cycle: int
    time: float
    mode: str
    interval: float | None
    """Seconds between two cycles."""
    memory: Memory
    guarantee_from: str
    since: Since | None
    wanted: Sequence[Wanted]
    obstacle: str
    rest: float | None
    """Seconds until a guest that is set aside is asked again; None: it is not, or nobody knows."""
    problems: Sequence[Problem]
    trial: Sequence[tuple[str, Value, Value]] | None
    """By control what was decided, and what would have been on trial; None without a trial."""
    unknown: Sequence[str]
    sentences: Sequence[Sentence]
    why_unchanged: str = ""
    """Why nothing is decided about its size; empty: something is, or it is not known."""

    def as_json(self) -> dict[str, Value]:
        """As the API and `--json` give it."""
        memory, since = self.memory, self.since
        return {
            "guest": {"id": self.guest.id, "name": self.guest.name},
            "cycle": self.cycle,
            "time": self.time,
            "mode": self.mode,
            "interval_seconds": self.interval,
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
            "guarantee_from": self.guarantee_from,
            "since": None
            if since is None
            else {
                "time": since.time,
                "at_least": since.at_least,
                "by": since.by,
                "before_kib": since.before_kib,
                "source": None if since.decision is None else _source_json(since.decision.source),
            },
            "decisions": [_wanted_json(wanted) for wanted in self.wanted],
            "why_unchanged": self.why_unchanged,
            "obstacle": self.obstacle,
            "asked_again_in_seconds": self.rest,
            "problems": [
                {"severity": one.severity, "source": _source_json(one.source), "message": one.message, "hint": one.hint}
                for one in self.problems
            ],
            "trial": None
            if self.trial is None
            else [{"control": control, "decided": decided, "considered": considered} for control, decided, considered in self.trial],
            "unknown": list(self.unknown),
            "sentences": [{"topic": sentence.topic, "text": sentence.text} for sentence in self.sentences],
        }


def _source_json(source: Source) -> dict[str, Value]:
    return {"name": source.name, "line": source.line, "column": source.column}


def _wanted_json(wanted: Wanted) -> dict[str, Value]:
    decision, outcome = wanted.decision, wanted.outcome
    return {
        "control": decision.control,
        "unit": wanted.unit,
        "value": decision.value,
        "reason": decision.reason,
        "why": wanted.why,
        "source": {**_source_json(decision.source), "text": wanted.line},
        "revisions": [
            {
                "reviewer": one.reviewer,
                "reason": one.reason,
                "became": None if one.after is None else one.after.value,
                "dropped": one.after is None,
            }
            for one in wanted.revisions
        ],
        "outcome": None
        if outcome is None
        else {
            "status": outcome.status,
            "value": outcome.decision.value,
            "before": outcome.before,
            "after": outcome.after,
            "error": outcome.error,
        },
    }


_COMPARED_NAMES: Final = 2000
"""Names that are compared with one that does not exist: some 20 ms."""


def find_guest(guests: Mapping[str, Guest], wanted: str) -> Guest:
    """The guest of this id or name. Raises `NoSuchGuest`, which names those that may be meant."""
    found = guests.get(wanted) or next((guest for guest in guests.values() if guest.name == wanted), None)
    if found is not None:
        return found
    names = [guest.name for guest in guests.values()]
    alike = [name for name in names if wanted and wanted.lower() in name.lower()][:3]
    alike = alike or get_close_matches(wanted[:100], names[:_COMPARED_NAMES], 3, 0.6)
    if alike:
        hint = f"did you mean {' or '.join(map(printable, alike))}?"
    elif names:
        hint = f"there are {', '.join(map(printable, names[:5]))}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
    else:
        hint = "there are no guests at all"
    raise NoSuchGuest(f"there is no guest {printable(wanted)}", hint=hint)


def explain(
    report: Report,
    guest: Guest,
    past: Past | None = None,
    *,
    texts: Mapping[str, str] | None = None,
    declarations: Declarations | None = None,
    zone: tzinfo | None = None,
    reasons: Callable[[str], str] | None = None,
) -> Explanation:
    """Why a guest of this report is as it is.

    :param past: what a `Trail` remembers of it, with this report; None: nothing is known of earlier cycles
    :param texts: the policies in force by name, from which the lines are taken
    :param declarations: for units, and for where a guarantee comes from
    :param zone: in which times are written; None: this host's own
    :param reasons: why the policies decided so in this cycle, by control, as `ReasonedPolicies` says it
    """
    declared = declarations or Declarations()
    wanted = _wanted(report, guest, texts or {}, declared, reasons)
    memory = _memory(guest, wanted)
    obstacle = guest.fields.get("balloon_obstacle")
    blocked = guest.blocked.get(CONTROL, "") or guest.blocked.get("*", "")
    problems = [one for one in report.problems if one.entity is not None and one.entity.id == guest.id]
    trial = None
    if report.considered is not None:
        trial = [(control, now, then) for entity, control, now, then in differences(report) if entity.id == guest.id]
    explanation = Explanation(
        guest=guest.entity,
        cycle=report.number,
        time=report.time,
        mode=report.mode,
        interval=_number(report.snapshot.host.properties.get("interval")),
        memory=memory,
        guarantee_from="" if not memory.guarantee else _whose(guest, memory.guarantee, declared),
        since=None if past is None else past.since,
        wanted=wanted,
        obstacle=blocked or (obstacle if isinstance(obstacle, str) else ""),
        rest=_number(guest.fields.get("balloon_rest")),
        problems=problems,
        trial=trial,
        unknown=[text for text, value in _must_be_known(memory) if value is None],
        sentences=(),
        why_unchanged="" if reasons is None or any(one.decision.control == CONTROL for one in wanted) else reasons(CONTROL),
    )
    return _with_sentences(explanation, _Told(explanation, report, past, zone))


def _wanted(
    report: Report, guest: Guest, texts: Mapping[str, str], declared: Declarations, reasons: Callable[[str], str] | None
) -> list[Wanted]:
    """What was decided about the guest, and what came of each."""
    found = []
    outcomes = {one.decision.control: one for one in report.outcomes if one.decision.entity.id == guest.id}
    revisions = [one for one in report.revisions if one.before.entity.id == guest.id]
    for decision in report.decisions:
        if decision.entity.id != guest.id:
            continue
        followed, now = [], decision
        for revision in revisions:
            if revision.before == now:
                followed.append(revision)
                if revision.after is None:
                    break
                now = revision.after
        dropped = bool(followed) and followed[-1].after is None
        spec = declared.controls.get(decision.control)
        unit = spec.unit.value if spec is not None else Unit.KIB.value if decision.control == CONTROL else ""
        outcome = None if dropped else outcomes.get(decision.control)
        why = "" if reasons is None or not decision.source.line else reasons(decision.control)
        found.append(Wanted(decision, unit, _line(decision.source, texts), followed, outcome, why))
    return found


def _line(source: Source, texts: Mapping[str, str]) -> str:
    lines = texts.get(source.name, "").split("\n")
    if not 0 < source.line <= len(lines):
        return ""
    quoted = ""
    for line in lines[source.line - 1 : source.line - 1 + QUOTED_LINES]:
        quoted = f"{quoted} {line.strip()}".lstrip()
        if quoted.count("(") <= quoted.count(")"):
            break
    return printable(quoted, LONGEST_LINE)


def _memory(guest: Guest, wanted: Sequence[Wanted]) -> Memory:
    known = {name: _number(guest.fields.get(name)) for name in _FIELDS}
    size, usable = known[SIZE], known["mem_usable"]
    after = next((_number(one.outcome.after) for one in wanted if one.outcome is not None and one.decision.control == CONTROL), None)
    asked = next(
        (_number(one.outcome.decision.value) for one in wanted if one.outcome is not None and one.outcome.status is Status.APPLIED
         and one.decision.control == CONTROL),
        None,
    )  # fmt: skip
    return Memory(
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
    total, hidden = known["mem_available"], known["mem_hidden"]
    return size if total is None or hidden is None else total + hidden


def _whose(guest: Guest, guarantee: float, declared: Declarations) -> str:
    """Who promised that to the guest; what holds the largest of several promises is told only where none of them is as large."""
    for name in reversed((HOLDS, *PROMISES)):
        spec = declared.fields.get((Scope.GUEST, name))
        if spec is not None and _number(guest.fields.get(name)) == guarantee:
            return spec.source
    return ""


_FIELDS: Final = (
    SIZE, CONTROL, "balloon_max", "mem_available", "mem_hidden", "mem_usable", "mem_unused", "swap_in", "swap_out", "major_fault",
    "stats_age",
)  # fmt: skip


def _must_be_known(memory: Memory) -> Iterator[tuple[str, float | None]]:
    """What an explanation needs: by what it is, the value."""
    yield "its size", memory.size
    yield "its maximum", memory.maximum
    yield "what is usable in it", memory.usable
    yield "the age of its statistics", memory.statistics_age
    yield "whether it swaps", memory.swap_in


# --- in words ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """What the sentences are made from."""

    what: Explanation
    report: Report
    past: Past | None
    zone: tzinfo | None

    def ago(self, time: float) -> str:
        """A moment, with how long before the cycle it was."""
        return f"{self.at(time)}, {lasting(self.report.time - time)} before this cycle" if time < self.report.time else self.at(time)

    def at(self, time: float) -> str:
        """A moment, with the day where it is another one than the cycle's."""
        then, now = (datetime.fromtimestamp(one, self.zone).astimezone(self.zone) for one in (time, self.report.time))
        return then.strftime("%H:%M:%S %Z" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z").strip()

    @property
    def interval(self) -> float | None:
        """Seconds between two cycles."""
        return self.what.interval or None


def _with_sentences(explanation: Explanation, told: _Told) -> Explanation:
    tellers = (_now, _needs, _class, _guaranteed, _since, _host, _decided, _trial, _problems, _next, _unknown)
    sentences = tuple(sentence for teller in tellers for sentence in teller(told))
    return replace(explanation, sentences=sentences)


def _now(told: _Told) -> Iterator[Sentence]:
    memory = told.what.memory
    if memory.size is None:
        yield Sentence(Topic.NOW, "Its present size is unknown, so mom does not touch it.")
        return
    text = f"It has {format_kib(memory.size)}"
    if memory.maximum is None:
        text += "; its maximum is unknown."
    elif memory.size >= memory.maximum - SAME_SIZE_KIB:
        text += ", all of its maximum: nothing is taken from it."
    else:
        text += f" of {format_kib(memory.maximum)}: {format_kib(memory.maximum - memory.size)} are taken from it for the host."
    yield Sentence(Topic.NOW, text)


def _needs(told: _Told) -> Iterator[Sentence]:
    memory = told.what.memory
    if memory.used is None or memory.usable is None:
        yield Sentence(
            Topic.NEEDS, "What it needs is unknown: its kernel does not tell what is usable in it. It may grow, and is never shrunk."
        )
        return
    text = f"It needs {format_kib(memory.used)}, and can use {format_kib(memory.usable)} more"
    if memory.unused is not None:
        text += f" ({format_kib(memory.unused)} of it free, the rest cache)" if memory.unused <= memory.usable else ""
    yield Sentence(Topic.NEEDS, f"{text}.")
    gone = 0.0 if memory.size is None else memory.used + memory.usable - memory.size
    if gone >= ARRIVED_KIB:
        left = max(0.0, memory.usable - gone)
        yield Sentence(
            Topic.NEEDS, f"It has become {format_kib(gone)} smaller since it said so: {format_kib(left)} are left to it of that."
        )
    suffers = []
    if memory.swap_in:
        suffers.append(f"reads {format_kib(memory.swap_in)}/s back from its swap")
    if memory.swap_out:
        suffers.append(f"writes {format_kib(memory.swap_out)}/s to its swap")
    if suffers:
        yield Sentence(Topic.NEEDS, f"It {' and '.join(suffers)}: it lacks memory, or did.")
    if memory.statistics_age is not None:
        age = memory.statistics_age
        late = ": too old to shrink it by" if age > max(LATE_SECONDS, 3 * (told.interval or 0.0)) else ""
        yield Sentence(Topic.NEEDS, f"Its statistics were {lasting(age)} old{late}.")


_MAY: Final = {"may_migrate": "moved away", "may_save": "saved to disk", "may_pause": "paused", "may_power_off": "shut down"}


def _class(told: _Told) -> Iterator[Sentence]:
    """Nothing where nobody has classes."""
    guest = told.report.snapshot.guests[told.what.guest.id]
    name, by = guest.fields.get("sla_class"), guest.fields.get("sla_class_by")
    if not isinstance(name, str) or not name:
        if any(one.fields.get("sla_class") for one in told.report.snapshot.guests.values()):
            yield Sentence(Topic.CLASS, "It is of no service class: nothing says one for it.")
        return
    why = f", by {printable(by, 200)}" if isinstance(by, str) and by else ""
    yield Sentence(Topic.CLASS, f"It is of the service class {printable(name, 60)}{why}.")
    may = [what for field_name, what in _MAY.items() if guest.fields.get(field_name) == 1]
    if may:
        warning = _number(guest.fields.get("leave_warning"))
        when = "" if warning is None else f", {lasting(warning)} after that is announced"
        yield Sentence(Topic.CLASS, f"When the host stays full, its class allows that it is {_either(may)}{when}.")


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _guaranteed(told: _Told) -> Iterator[Sentence]:
    memory = told.what.memory
    if not memory.guarantee:
        yield Sentence(Topic.GUARANTEED, "No size is guaranteed to it; mom leaves it what it needs, and a reserve.")
        return
    where = f" ({told.what.guarantee_from})" if told.what.guarantee_from else ""
    text = f"It is guaranteed {format_kib(memory.guarantee)}{where}"
    if memory.size is not None and memory.size < memory.guarantee - SAME_SIZE_KIB:
        text += f": it has {format_kib(memory.guarantee - memory.size)} less than that"
    yield Sentence(Topic.GUARANTEED, f"{text}.")


def _since(told: _Told) -> Iterator[Sentence]:
    since, past = told.what.since, told.past
    if past is None or since is None:
        yield Sentence(Topic.SINCE, "Since when it has this size is not known: earlier cycles are not at hand.")
        return
    if since.at_least:
        when = f"It has had this size since mom first saw it ({told.ago(since.time)})"
        whose = {
            Setter.MAXIMUM: ": it was started with it.",
            Setter.UNKNOWN: "; who gave it that size is not known.",
        }
        yield Sentence(Topic.SINCE, when + whose.get(since.by, "."))
        return
    before = "" if since.before_kib is None else f" It had {format_kib(since.before_kib)} before."
    if since.by is Setter.MOM and since.decision is not None:
        by = f"mom gave it this size, by {since.decision.source}"
    else:
        by = "this is not what mom had asked for: somebody else resized it, or the guest took memory back by itself"
    yield Sentence(Topic.SINCE, f"Since {told.ago(since.time)}: {by}.{before}")


def _host(told: _Told) -> Iterator[Sentence]:
    text = _host_memory(told.report.snapshot.host)
    yield Sentence(Topic.HOST, text or "What the host has available is unknown.")
    reserved = _number(told.report.snapshot.host.fields.get("mem_reserved"))
    if reserved:
        kept = "no memory goes back to guests from that, and they give for it until it is there"
        yield Sentence(Topic.HOST, f"{format_kib(reserved)} are reserved for guests that are to be launched: {kept}.")
    grown, shrunk, by = 0, 0, 0.0
    for outcome in told.report.outcomes:
        before, wanted = _number(outcome.before), _number(outcome.decision.value)
        if outcome.decision.control != CONTROL or outcome.status not in _TAKEN or before is None or wanted is None:
            continue
        grown += wanted > before
        shrunk += wanted < before
        by += wanted - before
    if grown or shrunk:
        observed = "would have" if told.report.mode == "observe" else "has"
        both = " and ".join([f"let {grown} grow"] * bool(grown) + [f"shrunk {shrunk}"] * bool(shrunk))
        sum_of = f"{format_kib(abs(by))} {'given to' if by > 0 else 'taken from'} them in all"
        yield Sentence(Topic.HOST, f"Of all guests, mom {observed} {both} in this cycle: {sum_of}.")


_TAKEN: Final = frozenset({Status.APPLIED, Status.OBSERVED})


def _host_memory(host: Host) -> str:
    total, available = (_number(host.fields.get(name)) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None or total <= 0:
        return ""
    text = f"The host has {format_kib(available)} of {format_kib(total)} available ({100 * available / total:.0f} %)"
    pressure = _number(host.fields.get("psi_memory_some_avg10"))
    if pressure is not None:
        text += f", and programs on it wait for memory {pressure:.1f} % of the time" if pressure >= 0.05 else ", and no memory pressure"
    return f"{text}."


def _decided(told: _Told) -> Iterator[Sentence]:
    """What was wanted, what review made of it, and what was done."""
    if not told.what.wanted:
        yield Sentence(Topic.WANTED, "No policy wants to change anything about it in this cycle.")
        past = told.past
        if past is not None and past.tried is not None and past.tried_at < told.report.time:
            tried = past.tried
            yield Sentence(Topic.WANTED, f"The last time was {told.ago(past.tried_at)}: {_step(tried)}, by {tried.decision.source}.")
        yield from _because(told.what.why_unchanged)
    for wanted in told.what.wanted:
        decision = wanted.decision
        # A policy that gives no better reason names the form, which stands below.
        own = decision.reason and not (decision.source.line and str(decision.source) in decision.reason)
        reason = f", because {printable(decision.reason, LONGEST_LINE)}" if own else ""
        what = "a size of" if decision.control == CONTROL else decision.control
        change = _change(decision, told.report)
        yield Sentence(Topic.WANTED, f"{_place(decision.source)} wants {what} {_amount(decision.value, wanted.unit)}{change}{reason}.")
        if wanted.line:
            yield Sentence(Topic.WANTED, f"There it says: {wanted.line}")
        yield from _because(wanted.why)
        for revision in wanted.revisions:
            made = "dropped that" if revision.after is None else f"made that {_amount(revision.after.value, wanted.unit)}"
            yield Sentence(Topic.REVIEW, f"The review of {revision.reviewer or 'mom'} {made}: {printable(revision.reason, LONGEST_LINE)}.")
        if wanted.outcome is not None:
            yield Sentence(Topic.DONE, _done(wanted.outcome, wanted.unit))
        elif not (wanted.revisions and wanted.revisions[-1].after is None):
            yield Sentence(Topic.DONE, "What came of it is not known: mom was being stopped, or another decision on it came first.")


def _because(why: str) -> Iterator[Sentence]:
    if why:
        yield Sentence(Topic.WHY, f"{printable(why[0].upper() + why[1:], LONGEST_REASON)}.")


def _done(outcome: Outcome, unit: str) -> str:
    what = f"{outcome.decision.control} {_amount(outcome.decision.value, unit)}"
    error = f": {printable(outcome.error, LONGEST_LINE)}" if outcome.error else ""
    if outcome.status is Status.APPLIED:
        had = f"it had {_amount(outcome.before, unit)}, and " if outcome.before is not None else ""
        after = "what it had right after is unknown" if outcome.after is None else f"{_amount(outcome.after, unit)} right after"
        return f"The hypervisor took it ({what}): {had}{after}{error and f' ({error[2:]})'}."
    said = {
        Status.UNCHANGED: f"Nothing was sent ({what}): it stands so already, or nearly{error}.",
        Status.OBSERVED: f"mom only observes: {what} was not sent{error}.",
        Status.REFUSED: f"mom did not send it ({what}){error}.",
        Status.FAILED: f"It FAILED ({what}){error}.",
        Status.GONE: f"The guest was gone when it was sent ({what}).",
    }
    return said.get(outcome.status, f"{what}: {outcome.status}{error}.")


def _trial(told: _Told) -> Iterator[Sentence]:
    if told.what.trial is None:
        return
    if not told.what.trial:
        yield Sentence(Topic.TRIAL, "Policies on trial would decide the same about it.")
    units = {wanted.decision.control: wanted.unit for wanted in told.what.wanted} | {CONTROL: Unit.KIB.value}
    for control, decided, considered in told.what.trial:
        unit = units.get(control, "")
        then, now = ("nothing" if value is None else _amount(value, unit) for value in (considered, decided))
        yield Sentence(Topic.TRIAL, f"Policies on trial would set {control} to {then}, instead of {now}.")


def _problems(told: _Told) -> Iterator[Sentence]:
    for problem in told.what.problems:
        hint = f" ({printable(problem.hint, LONGEST_LINE)})" if problem.hint else ""
        yield Sentence(Topic.PROBLEMS, f"{problem.severity} from {problem.source}: {printable(problem.message, 300)}{hint}.")


def _next(told: _Told) -> Iterator[Sentence]:
    what, past = told.what, told.past
    memory = what.memory
    if what.mode == "observe":
        yield Sentence(Topic.NEXT, "mom only observes: whatever it decides, nothing will change by it.")
        return
    if what.obstacle:
        since = ""
        if past is not None and past.obstacle_since is not None:
            since = f" (since {told.ago(past.obstacle_since)})"
        rest = "" if what.rest is None else f"; it is asked again in {lasting(what.rest)}, at {told.at(told.report.time + what.rest)}"
        yield Sentence(Topic.NEXT, f"Nobody counts on its memory{since}: {printable(what.obstacle, LONGEST_LINE)}{rest}.")
    moving = None if past is None else _moving(told, past)
    if moving:
        yield Sentence(Topic.NEXT, moving)
    elif memory.size is not None and not what.obstacle:
        yield Sentence(Topic.NEXT, f"If nothing changes, it keeps this size{_until(memory)}.")
    if told.interval:
        yield Sentence(Topic.NEXT, f"mom looks at it again every {format_duration(told.interval)}, and sooner when something happens.")


def _until(memory: Memory) -> str:
    """What may change a size that nothing is being done about."""
    if memory.maximum is not None and memory.size is not None and memory.size >= memory.maximum - SAME_SIZE_KIB:
        return ", which is all that it can have" + ("" if memory.usable is None else ", until the host needs what it can spare")
    return ", until it needs more, or the host has room to give memory back, or needs more itself"


def _moving(told: _Told, past: Past) -> str:
    """Where the guest is going, and how fast; empty if it is not."""
    memory = told.what.memory
    size, asked = memory.size, memory.asked
    if size is None:
        return ""
    steps = [later[1] - earlier[1] for earlier, later in zip(past.sizes, past.sizes[1:], strict=False)]
    seconds = [later[0] - earlier[0] for earlier, later in zip(past.sizes, past.sizes[1:], strict=False)]
    asked_now = past.asked is not None and past.asked_at == told.report.time
    going_on = _step_by_step(told, past, size) if asked_now else ""
    if going_on or asked is None or abs(asked - size) < ARRIVED_KIB:
        return going_on or _step_by_step(told, past, size)
    step = steps[-1] if steps else 0.0
    if step * (asked - size) > 0 and abs(step) >= SAME_SIZE_KIB:
        left = math.ceil(abs(asked - size) / abs(step))
        there = f"it should be there in about {left} {'cycle' if left == 1 else 'cycles'} ({lasting(left * seconds[-1])})"
        moved = f"moved by {format_kib(abs(step))} since the cycle before"
        return f"It is on its way to {format_kib(asked)}, which mom asked for, and {moved}: {there}."
    if past.asked is not None and past.asked_at < told.report.time:
        when = lasting(told.report.time - past.asked_at)
        return (
            f"mom asked it {when} before this cycle to go to {format_kib(asked)}, and it has not come nearer; "
            "if it stays so, mom gives up on it for a while."
        )
    return f"It goes to {format_kib(asked)} now, as fast as it can."


def _step_by_step(told: _Told, past: Past, size: float) -> str:
    """What goes on cycle by cycle, if the policies want it in this one: how fast, and where it ends."""
    memory = told.what.memory
    wanted = next((_number(one.decision.value) for one in told.what.wanted if one.decision.control == CONTROL), None)
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


def _unknown(told: _Told) -> Iterator[Sentence]:
    if told.what.unknown:
        names = told.what.unknown
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        yield Sentence(Topic.UNKNOWN, f"Not known: {listed}.")


def _change(decision: Decision, report: Report) -> str:
    """By how much a decision changes a guest's size."""
    guest = report.snapshot.guests.get(decision.entity.id)
    size = None if guest is None else _number(guest.fields.get(SIZE))
    value = _number(decision.value)
    if decision.control != CONTROL or size is None or value is None:
        return ""
    if abs(value - size) < 1:
        return ", which it has"
    return f", {format_kib(abs(value - size))} {'more' if value > size else 'less'} than it has"


def _step(outcome: Outcome) -> str:
    before = "" if outcome.before is None else f"from {_amount(outcome.before, Unit.KIB)} "
    return f"{before}to {_amount(outcome.decision.value, Unit.KIB)}, {outcome.status}"


def _place(source: Source) -> str:
    return f"The policy {source.name} (line {source.line}, column {source.column})" if source.line else f"The plugin {source.name}"


def _amount(value: Value, unit: str) -> str:
    number = _number(value)
    if value is None:
        return "unknown"
    if unit == Unit.KIB and number is not None:
        return format_kib(number)
    text = printable(str(value), LONGEST_LINE)
    return text if unit in {"", Unit.TEXT, Unit.LIST, Unit.FLAG, Unit.COUNT} else f"{text} {unit}"


def _number(value: Value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
