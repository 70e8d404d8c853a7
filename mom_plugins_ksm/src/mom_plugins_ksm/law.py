"""The KSM law: from what is known of the host and its guests to what the knobs of KSM should be, with the code of the reason.

Pure: no clock, no file, no plugin. What it has to remember goes in and comes out.

  when  available < start                     short: up to the CPU limit, for little gain already
        more sold than the host can hold      gently: it may get short, and merging takes minutes
        neither                               off; what is merged stays merged

  how   look  several whole scans at the limit: a page is merged at its second visit at the earliest
        work  as fast, in parts of the limit, as the last scan was worth in KiB for each CPU second
        rest  hardly at all; if KSM's books need much more memory than it saves, it is stopped, which frees them
        A new guest, guests that grew, merged memory that was lost, and time lead from rest to look.

It cannot flap: "no longer short" is well above start, and what KSM saves is not counted as room. What is unknown decides nothing.
`merge_across_nodes` and `use_zero_pages` are the operator's, and left alone. Sizes are KiB, and times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from mom_core import Duration, Size, StrictModel

BYTES: Final = 1024
"""In a KiB: settings are in bytes."""

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, lt=100)]


class KsmParameters(StrictModel):
    """When KSM runs, what its CPU time is worth, how fast it scans, and when it rests."""

    # --- when

    start_share: Share = 0.20
    """Ratio of all memory: with less available, memory is short. A fifth is what ksmtuned keeps free; 1.6 GiB of 8."""
    start_least: Size = 2 << 30
    """The least that this is: one more guest. Or `start_least_share`, if that is less."""
    start_least_share: Share = 0.25
    """Ratio of all memory: 2 GiB would be all of a host of 2 GiB."""
    start_large: Size = 32 << 30
    """On large hosts it is this and `start_large_share` at most: with 800 of 4,096 GiB available no guest is short."""
    start_large_share: Share = 0.05
    """Ratio of all memory, see there. 57.6 GiB of 512, 237 of 4,096."""
    stop_factor: Annotated[float, Field(ge=1, le=10)] = 1.5
    """Times that: with more available, memory is no longer short. A launch of the size that made it short does not bring it back."""
    sold_share: Annotated[float, Field(ge=0, le=10)] = 0.80
    """Ratio of all memory that guests may use together: with less sold, memory cannot get short, and merging in advance gains nothing.
    A fifth is for QEMU, the host and its files."""

    # --- worth

    worth: Annotated[Size, Field(gt=0)] = 4 << 20
    """What a scan must save for each second of ksmd's CPU time. A CPU sells for as much as about 8 GiB, and a merged page stays merged for
    about half an hour: 8 GiB / 1,800. One CPU second looks at some 1,500 MiB."""
    worth_short: Annotated[Size, Field(gt=0)] = 512 << 10
    """The same while memory is short, and worth far more, as guests or the host would swap without it."""
    rest_below: Share = 0.25
    """Ratio of the worth: a scan that was worth less is the last one. Slower scans would go on finding little."""

    # --- how fast

    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Ratio of all CPUs that ksmd may take while memory is short: it runs beside the guests, and holds locks on their memory."""
    cpu_ceiling: Percent = 70.0
    """Percent of one CPU that it never takes more of: at so much the kernel's advisor stops, too."""
    cpu_gentle: Percent = 5.0
    """Percent of one CPU while memory is not short: its result is not waited for."""
    sleep_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    """ms between batches while it scans: the kernel's default."""
    pages_least: Annotated[int, Field(ge=1)] = 64
    """Pages a batch at least: ksmtuned's."""
    pages_most: Annotated[int, Field(ge=1)] = 30_000
    """Pages a batch at most: what the kernel's own advisor takes."""

    # --- look and rest

    look_scans: Annotated[int, Field(ge=1, le=100)] = 3
    """Scans of a look. The one that is under way does not reach a new guest, the next one takes notes of its pages, the one after that
    merges them."""
    look_most: Annotated[int, Field(ge=1, le=1000)] = 9
    """Scans to which guests that come or grow meanwhile lengthen a look: those that always do must not keep it from being judged."""
    books_most: Size = 16 << 20
    """KSM is stopped, and its books freed, when they need so much more than it saves: those of 1 GiB in which nothing is equal."""
    gain_least: Size = 16 << 20
    """A look has paid if it has saved this: less is noise."""
    grown_least: Size = 64 << 20
    """Guests have grown when it is by more than this."""
    grown_share: Share = 0.02
    """The same as a ratio of what guests hold, whichever is more."""
    lost_share: Share = 0.10
    """Ratio of what was saved: merged memory was lost when it is more than this."""
    rest_least: Annotated[Duration, Field(gt=0)] = 600.0
    """Time from a look that has paid to the next one, and half of what the first rest takes after one that has not."""
    rest_most: Annotated[Duration, Field(gt=0)] = 7200.0
    """Each rest after a look that has not paid takes twice as long as the one before, up to this."""
    rest_ratio: Annotated[float, Field(ge=0, le=1000)] = 9.0
    """Times the look that a rest takes at least: so looking takes a tenth of the time at most."""
    rest_pause: Share = 0.25
    """Ratio of a rest after a look that has not paid: before that is over, growth and loss do not count, nor, after the second such look
    in a row, new guests. Guests with bursts always grow, on some hosts a guest comes each minute, and each look that is in vain ends with
    freeing the books: 0.4 s for 12 GiB."""


CPUS_GUESS: Final = 2.0
"""CPUs, where their number is unknown."""

PAGE_US: Final = 3.0
"""us. What a page costs until ksmd's usage was measured: 2.6 us were (benchmarks/ksm)."""

STEP_MOST: Final = 2.0
STEP_LEAST: Final = 0.2
"""Ratios. Pages a batch are corrected by what ksmd really uses: by the first at most from cycle to cycle, and not at all for less than the
second."""

SLEEP_REST_MS: Final = 200
"""ms between batches of the least pages while it rests: 0.1 % of a CPU. So ksmd sees that guests have ended, and frees what it holds of
them."""

AWAY_SECONDS: Final = 60.0
"""s. For so long guests are waited for that are all gone at once: the hypervisor may be away, as while libvirtd is restarted."""


class KsmReason(StrEnum):
    """What KSM does, and why."""

    UNKNOWN = "unknown"  #: what has to be known is not
    AWAY = "away"  #: all guests are gone at once
    AMPLE = "ample"  #: the host has enough
    LOOK = "look"  #: there may be something to merge
    WORK = "work"  #: the last scan was worth it
    REST = "rest"  #: it was not
    BOOKS = "books"  #: what it has noted of pages needs more than it saves


class KsmSeen(NamedTuple):
    """What is known; None: unknown.

    `advised`: the kernel's advisor sets the pages. `cpu_usage` is ksmd's, in percent of a CPU, measured when it scanned `cpu_pages` a
    batch. `yielded` is KiB saved for each of its CPU seconds. `sold` is what guests may use, `held` what they do.
    """

    run: int
    total: float
    available: float
    clock: float
    saved: float | None = None
    pages: float | None = None
    sleep_ms: float | None = None
    scans: int | None = None
    yielded: float | None = None
    advised: bool = False
    cpu_usage: float | None = None
    cpu_pages: float | None = None
    cpu_count: float | None = None
    sold: float = 0.0
    held: float = 0.0
    guests: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KsmMemory:
    """What is remembered from cycle to cycle; None, and a time of 0: not yet.

    `begun` and `until` are counts of whole scans, `since` a time: of the look or the rest. `took` is for how long there was a look, without
    the work after it; None: it goes on. `base` was saved, and `held` held by guests, when it began. `rest` is the last rest's length,
    `wait` the present one's, and `paid` whether the look before it has. `alone` is since when there are no guests; `seen` those that a
    look was begun for, or that were there while nothing had to be merged.
    """

    short: bool | None = None
    looks: bool | None = None
    begun: int = 0
    until: int = 0
    since: float = 0.0
    took: float | None = None
    base: float = 0.0
    held: float = 0.0
    rest: float = 0.0
    wait: float = 0.0
    paid: bool = True
    alone: float | None = None
    seen: frozenset[str] = frozenset()


class KsmWanted(NamedTuple):
    """The values that the knobs should have; None: as they are."""

    reason: KsmReason
    run: int | None = None
    pages: int | None = None
    sleep_ms: int | None = None


def decide(seen: KsmSeen, memory: KsmMemory, parameters: KsmParameters) -> tuple[KsmWanted, KsmMemory]:
    """The values that the knobs should have, and what is to be remembered."""
    p, before = parameters, memory
    short = _is_short(seen, memory, p)
    away, memory = _awaited(seen, replace(memory, short=short))
    if away:
        return KsmWanted(KsmReason.AWAY), memory
    memory = replace(memory, seen=memory.seen & seen.guests)
    if short or seen.sold > p.sold_share * seen.total:
        if seen.scans is None:
            return KsmWanted(KsmReason.UNKNOWN), memory
        return _merge(seen, seen.scans, memory, p, begins=short and not before.short, short=short)
    if seen.run == 1:  # what there is to find when it is short again must be looked for anew
        return KsmWanted(KsmReason.AMPLE, run=0), replace(memory, seen=seen.guests, looks=None)
    return KsmWanted(KsmReason.AMPLE), replace(memory, seen=seen.guests)


def start_kib(total: float, p: KsmParameters) -> float:
    """With less available on a host of so much memory, memory is short."""
    least = min(p.start_least / BYTES, p.start_least_share * total)
    return max(least, min(p.start_share * total, p.start_large / BYTES + p.start_large_share * total))


def _is_short(seen: KsmSeen, memory: KsmMemory, p: KsmParameters) -> bool:
    """True if memory is short, or was and would not be ample without what KSM saves. Where nothing is remembered of it, a KSM that runs was
    needed."""
    start = start_kib(seen.total, p)
    if seen.available < start:
        return True
    if seen.saved is not None and seen.available - max(0.0, seen.saved) > p.stop_factor * start:
        return False
    return seen.run == 1 if memory.short is None else memory.short


def _awaited(seen: KsmSeen, memory: KsmMemory) -> tuple[bool, KsmMemory]:
    """Whether guests were there a moment ago, and now there is none."""
    if seen.guests or memory.held <= 0:
        return False, replace(memory, alone=None)
    if memory.alone is None or seen.clock < memory.alone:
        return True, replace(memory, alone=seen.clock)
    return seen.clock - memory.alone < AWAY_SECONDS, memory


def _merge(seen: KsmSeen, scans: int, memory: KsmMemory, p: KsmParameters, *, begins: bool, short: bool) -> tuple[KsmWanted, KsmMemory]:
    """Look, work or rest.

    :param begins: memory has just become short
    """
    looks_anew = begins or memory.looks is None or (not memory.looks and _is_rested(seen, memory, p))
    # The count of scans begins anew when everything was unmerged.
    if looks_anew or (memory.looks and memory.until - scans > p.look_scans):
        memory = _look_begun(seen, scans, memory, p)
    if memory.looks and (_is_new(seen, memory) or _has_grown(seen, memory, p)):
        until = min(scans + p.look_scans, memory.begun + p.look_most)
        # Who comes too late for this look is new after it, too.
        looked_at = memory.seen if until < scans + p.look_scans else seen.guests
        memory = replace(memory, until=until, held=seen.held, seen=looked_at)
    if seen.held + p.grown_least / BYTES < memory.held:  # what guests have given back is new when they take it again
        memory = replace(memory, held=seen.held)
    limit = min(p.cpu_ceiling, 100 * p.cpu_share * (CPUS_GUESS if seen.cpu_count is None else seen.cpu_count) if short else p.cpu_gentle)
    worth = (p.worth_short if short else p.worth) / BYTES
    value = 1.0 if seen.yielded is None else min(1.0, seen.yielded / worth)
    if memory.looks and scans < memory.until:
        memory = replace(memory, took=None)
    elif memory.looks:
        if memory.took is None:
            memory = replace(memory, took=seen.clock - memory.since)
        if value < p.rest_below:
            memory = _rested(seen, memory, p)
        elif _is_new(seen, memory):
            memory = _look_begun(seen, scans, memory, p)
    if not memory.looks:
        return _resting(seen, p), memory
    looking = scans < memory.until
    reason = KsmReason.LOOK if looking else KsmReason.WORK
    return _scanning(seen, limit if looking else limit * value, reason, p), memory


def _look_begun(seen: KsmSeen, scans: int, memory: KsmMemory, p: KsmParameters) -> KsmMemory:
    return _begun(seen, replace(memory, looks=True, begun=scans, until=scans + p.look_scans, seen=seen.guests))


def _begun(seen: KsmSeen, memory: KsmMemory) -> KsmMemory:
    return replace(memory, since=seen.clock, base=seen.saved or 0.0, held=seen.held)


def _rested(seen: KsmSeen, memory: KsmMemory, p: KsmParameters) -> KsmMemory:
    """A rest begins, the longer the more looks in a row have not paid."""
    paid = (seen.saved or 0.0) - memory.base >= p.gain_least / BYTES
    rest = p.rest_least if paid else min(p.rest_most, max(p.rest_least, 2 * memory.rest))
    return _begun(seen, replace(memory, looks=False, rest=rest, paid=paid, wait=max(rest, p.rest_ratio * (memory.took or 0.0))))


def _is_rested(seen: KsmSeen, memory: KsmMemory, p: KsmParameters) -> bool:
    """True if a rest is over. The clock may have begun anew, with the host."""
    rested = seen.clock - memory.since
    if rested < 0 or rested >= memory.wait or seen.run == 0:
        return True
    if not memory.paid and rested < p.rest_pause * memory.wait:
        # Where one look after the other is in vain, guests that come each minute would have ksmd scan for ever.
        return _is_new(seen, memory) and memory.rest <= p.rest_least
    lost = 0.0 if seen.saved is None else memory.base - seen.saved
    return _is_new(seen, memory) or _has_grown(seen, memory, p) or lost > max(p.gain_least / BYTES, p.lost_share * memory.base)


def _is_new(seen: KsmSeen, memory: KsmMemory) -> bool:
    """True if there are guests that no look was begun for."""
    return bool(seen.guests - memory.seen)


def _has_grown(seen: KsmSeen, memory: KsmMemory, p: KsmParameters) -> bool:
    """True if guests hold so much more than when it was noted."""
    return seen.held - memory.held > max(p.grown_least / BYTES, p.grown_share * seen.held)


def _resting(seen: KsmSeen, p: KsmParameters) -> KsmWanted:
    if seen.advised:
        return KsmWanted(KsmReason.REST)
    if seen.run == 2:
        return KsmWanted(KsmReason.BOOKS)
    pages, sleep_ms = _changed(seen.pages, p.pages_least), _changed(seen.sleep_ms, SLEEP_REST_MS)
    if seen.saved is not None and seen.saved < -p.books_most / BYTES:
        # Slowly, too: freeing the books is refused where the host cannot take what is merged, and ksmd would go on at full speed.
        return KsmWanted(KsmReason.BOOKS, 2, pages, sleep_ms)
    return KsmWanted(KsmReason.REST, None, pages, sleep_ms)


def _scanning(seen: KsmSeen, percent: float, reason: KsmReason, p: KsmParameters) -> KsmWanted:
    """Scan with so much of a CPU. The kernel's advisor, where it is on, sets the pages itself and counts on the sleep."""
    if seen.advised:
        return KsmWanted(reason, _changed(seen.run, 1))
    pages = _expected(percent, p)
    if seen.pages is not None and seen.cpu_usage is not None and seen.run == 1 and seen.sleep_ms == p.sleep_ms:
        # Cycles may follow each other faster than it can be measured; corrected twice for the same usage, the pages would swing for ever.
        measured = seen.cpu_pages is None or seen.cpu_pages == seen.pages
        pages = _corrected(percent, seen.pages, seen.cpu_usage, p) if measured else seen.pages
    within = max(p.pages_least, min(p.pages_most, pages))
    return KsmWanted(reason, _changed(seen.run, 1), _changed(seen.pages, within), _changed(seen.sleep_ms, p.sleep_ms))


def _changed(now: float | None, wanted: float) -> int | None:
    """The value that a knob is to be set to; None where it is unknown, or is so already: less than 1 is no change."""
    return None if now is None or abs(wanted - now) < 1 else int(wanted)


def _odds(percent: float) -> float:
    """The CPU time of ksmd is used / (used + sleep): this is used / sleep."""
    share = max(0.1, min(95.0, percent))
    return share / (100 - share)


def _expected(percent: float, p: KsmParameters) -> float:
    """Pages a batch for so much CPU time, by what a page should cost."""
    return _odds(percent) * 1000 * p.sleep_ms / PAGE_US


def _corrected(percent: float, now: float, usage: float, p: KsmParameters) -> float:
    """The same by what ksmd has used with the pages of now."""
    factor = _odds(percent) / _odds(usage)
    if abs(factor - 1) < STEP_LEAST:
        return now
    return min(2 * _expected(percent, p), now * max(1 / STEP_MOST, min(STEP_MOST, factor)))
