"""KSM law: derives values for KSM's knobs, and the reason, from the state of the host and its guests.

The law is a pure function: its state (`KsmMemory`) is an argument and a result. Sizes are in KiB, times in seconds.

  when  available < start             memory is short: the less is available, the faster ksmd scans, even for a small gain
        guests may outgrow the host   ksmd scans slowly: memory may get short, and merging takes minutes
        neither                       KSM is off; merged pages stay merged

  how   look  several full scans at the CPU limit: ksmd merges a page at its second visit
        work  the speed follows the worth of the last scan, in KiB per CPU second
        rest  nearly no scans. If KSM's own data exceeds the savings by far, mom stops KSM, which frees the data
        New guests, growth of guests, loss of merged memory, and time end a rest.

KSM does not flap: memory counts as short until far more than `start` is available without KSM's savings. With unknown values, the law
suggests nothing. The operator sets `merge_across_nodes` and `use_zero_pages`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from pydantic import Field

from mom_core import Size, StrictModel

_BYTES: Final = 1024
"""Bytes of a KiB."""

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, lt=100)]


class KsmParameters(StrictModel):
    """Parameters of the KSM law."""

    start_share: Share = 0.20
    """Memory is short if less than this share of the host's memory is available. ksmtuned uses a fifth, too."""
    start_least: Size = 2 << 30
    """Minimum of the threshold for a shortage: room for one more guest. `start_least_share` limits this."""
    start_least_share: Share = 0.25
    """Upper limit of `start_least` as a share of the host's memory, for small hosts."""
    start_large: Size = 32 << 30
    """The threshold is at most this size plus `start_large_share`: a host of 4,096 GiB with 800 GiB available is not short."""
    start_large_share: Share = 0.05
    """Share of the host's memory, added to `start_large`."""
    sold_share: Annotated[float, Field(ge=0, le=10)] = 0.80
    """If all guests together may use less than this share of the host's memory, memory cannot get short, and KSM need not merge in
    advance."""

    worth: Annotated[Size, Field(gt=0)] = 4 << 20
    """Memory that a scan must save per CPU second of ksmd, which scans 1,500 MiB in that time. The default assumes that a CPU costs as much
    as 8 GiB of memory, and that a page stays merged for half an hour: 8 GiB / 1,800 s."""
    worth_short: Annotated[Size, Field(gt=0)] = 512 << 10
    """`worth` while memory is short. Memory is worth more then, because guests or the host would swap."""

    cpu_share: Annotated[float, Field(gt=0, le=1)] = 0.125
    """Share of all CPUs that ksmd may use when at most half of the threshold for a shortage is available. ksmd takes CPU time from the
    guests, and locks their memory."""
    cpu_ceiling: Percent = 70.0
    """Upper limit of ksmd's CPU time in percent of one CPU, as in the kernel's advisor."""
    sleep_ms: Annotated[int, Field(ge=1, le=1000)] = 20
    """Milliseconds between batches of a scan. The default is the kernel's."""
    pages_least: Annotated[int, Field(ge=1)] = 64
    """Minimum batch in pages, as in ksmtuned."""
    pages_most: Annotated[int, Field(ge=1)] = 30_000
    """Maximum batch in pages, as in the kernel's advisor."""


STOP_FACTOR: Final = 1.5
"""Memory is no longer short when the threshold times this factor is available. The margin is for the launch of another guest."""

REST_BELOW: Final = 0.25
"""A rest follows a scan that saved less than this share of `worth`. Slower scans would find as little."""

CPU_GENTLE: Final = 5.0
"""ksmd's CPU time in percent of one CPU, while memory is not short. The CPU time grows with the shortage."""

LOOK_SCANS: Final = 3
"""Scans per look (search for equal pages). The current scan misses a new guest, the next records its pages, the third merges them."""

LOOK_MOST: Final = 9
"""Maximum number of scans per look. New or growing guests extend a look, but guests that always grow must not make it endless."""

BOOKS_MOST: Final = 16 << 10
"""mom stops KSM, which frees KSM's own data, if this data exceeds the savings by this much. 1 GiB without equal pages needs 16 MiB."""

GAIN_LEAST: Final = 16 << 10
"""A look has paid off if it saved this much. Less is noise."""

GROWN_LEAST: Final = 64 << 10
"""A rest may end when all guests together have grown by this much."""

GROWN_SHARE: Final = 0.02
"""`GROWN_LEAST` as a share of the memory that guests use. The larger value applies."""

LOST_SHARE: Final = 0.10
"""A rest may end when KSM has lost this share of its savings."""

REST_LEAST: Final = 600.0
"""Shortest rest, and the rest after a look that has paid off."""

REST_MOST: Final = 7200.0
"""Longest rest, unless `REST_RATIO` requires more. Each look that has not paid off doubles the rest."""

REST_RATIO: Final = 9.0
"""Minimum ratio of a rest to the previous look: looks take at most a tenth of the time."""

REST_PAUSE: Final = 0.25
"""Initial share of a rest after a look that has not paid off. In this part, growth and loss do not end the rest, because guests with
bursts always grow. After two such looks, new guests do not end the rest either, because some hosts start a guest each minute."""

CPUS_GUESS: Final = 2.0

PAGE_US: Final = 3.0
"""µs of CPU time to scan a page, until mom has measured it. benchmarks/ksm measured 2.6 µs."""

STEP_MOST: Final = 2.0
"""A measurement of ksmd's CPU time raises or lowers the batch at most by this factor."""

STEP_LEAST: Final = 0.2
"""mom leaves the batch unchanged if the correcting factor differs from 1 by less than this."""

SLEEP_REST_MS: Final = 200
"""Milliseconds between batches during a rest. ksmd then uses 0.1 % of a CPU, and still frees its data about guests that have ended."""


class KsmReason(StrEnum):
    """Reason of a suggestion."""

    UNKNOWN = "unknown"  #: a value that the law needs is unknown
    AMPLE = "ample"  #: memory is not short
    LOOK = "look"  #: there may be equal pages
    WORK = "work"  #: the last scan was worth its CPU time
    REST = "rest"  #: the last scan was not worth its CPU time
    BOOKS = "books"  #: KSM's own data exceeds its savings


class KsmState(NamedTuple):
    """State of KSM, the host and its guests. None if unknown."""

    run: int
    total: float
    available: float
    clock: float
    saved: float | None = None
    pages: float | None = None
    sleep_ms: float | None = None
    scans: int | None = None
    yielded: float | None = None  #: KiB saved for each CPU second of ksmd
    advised: bool = False  #: the kernel's advisor sets the batch
    cpu_usage: float | None = None  #: CPU time of ksmd, in percent of one CPU
    cpu_pages: float | None = None  #: batch at which `cpu_usage` was measured
    cpu_count: float | None = None
    sold: float = 0.0  #: memory that guests may use
    held: float = 0.0  #: memory that guests use
    guests: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KsmMemory:
    """State that the law keeps from cycle to cycle. Unknown values are None, and unknown times are 0."""

    short: bool | None = None
    looks: bool | None = None  #: True: look or work; False: rest
    begun: int = 0  #: count of full scans when the look began
    until: int = 0  #: count of full scans when it ends
    since: float = 0.0  #: start of the look or rest
    took: float | None = None  #: length of the look, without the work after it; None during the look
    base: float = 0.0  #: savings at `since`
    held: float = 0.0  #: memory that guests used at `since`
    rest: float = 0.0  #: length of the last rest
    wait: float = 0.0  #: length of the present rest
    paid: bool = True  #: the last look has paid off
    seen: frozenset[str] = frozenset()  #: guests for which a look has begun, or that started while KSM was off


class KsmSuggestion(NamedTuple):
    """Suggested values of the knobs; None for no change."""

    reason: KsmReason
    run: int | None = None
    pages: int | None = None
    sleep_ms: int | None = None


def decide(now: KsmState, memory: KsmMemory, parameters: KsmParameters) -> tuple[KsmSuggestion, KsmMemory]:
    """Return suggested values, and the law's state for the next cycle."""
    p, before = parameters, memory
    short = _is_short(now, memory, p)
    memory = replace(memory, short=short, seen=memory.seen & now.guests)
    if short or now.sold > p.sold_share * now.total:
        if now.scans is None:
            return KsmSuggestion(KsmReason.UNKNOWN), memory
        return _merge(now, now.scans, memory, p, begins=short and not before.short, short=short)
    if now.run == 1:  # start with a look when memory is short again
        return KsmSuggestion(KsmReason.AMPLE, run=0), replace(memory, seen=now.guests, looks=None)
    return KsmSuggestion(KsmReason.AMPLE), replace(memory, seen=now.guests)


def start_kib(total: float, p: KsmParameters) -> float:
    """Return the available KiB below which memory is short."""
    least = min(p.start_least / _BYTES, p.start_least_share * total)
    return max(least, min(p.start_share * total, p.start_large / _BYTES + p.start_large_share * total))


def _is_short(now: KsmState, memory: KsmMemory, p: KsmParameters) -> bool:
    # Memory stays short until it is ample without KSM. After a restart, a running KSM proves that memory was short.
    start = start_kib(now.total, p)
    if now.available < start:
        return True
    if now.saved is not None and now.available - max(0.0, now.saved) > STOP_FACTOR * start:
        return False
    return now.run == 1 if memory.short is None else memory.short


def _merge(now: KsmState, scans: int, memory: KsmMemory, p: KsmParameters, *, begins: bool, short: bool) -> tuple[KsmSuggestion, KsmMemory]:
    # `begins`: memory has just become short.
    looks_anew = begins or memory.looks is None or (not memory.looks and _is_rested(now, memory))
    # The kernel resets its count of scans when it unmerges everything.
    if looks_anew or (memory.looks and memory.until - scans > LOOK_SCANS):
        memory = _look_begun(now, scans, memory)
    if memory.looks and (_is_new(now, memory) or _has_grown(now, memory)):
        until = min(scans + LOOK_SCANS, memory.begun + LOOK_MOST)
        # A guest that starts too late for this look counts as new after the look.
        looked_at = memory.seen if until < scans + LOOK_SCANS else now.guests
        memory = replace(memory, until=until, held=now.held, seen=looked_at)
    if now.held + GROWN_LEAST < memory.held:  # count released memory as growth when guests use it again
        memory = replace(memory, held=now.held)
    limit = _cpu_limit(now, p) if short else min(p.cpu_ceiling, CPU_GENTLE)
    worth = (p.worth_short if short else p.worth) / _BYTES
    value = 1.0 if now.yielded is None else min(1.0, now.yielded / worth)
    if memory.looks and scans < memory.until:
        memory = replace(memory, took=None)
    elif memory.looks:
        if memory.took is None:
            memory = replace(memory, took=now.clock - memory.since)
        if value < REST_BELOW:
            memory = _rested(now, memory)
        elif _is_new(now, memory):
            memory = _look_begun(now, scans, memory)
    if not memory.looks:
        return _resting(now, p.pages_least), memory
    looking = scans < memory.until
    reason = KsmReason.LOOK if looking else KsmReason.WORK
    return _scanning(now, limit if looking else limit * value, reason, p), memory


def _cpu_limit(now: KsmState, p: KsmParameters) -> float:
    most = min(p.cpu_ceiling, 100 * p.cpu_share * (CPUS_GUESS if now.cpu_count is None else now.cpu_count))
    shortage = min(1.0, max(0.0, 2 - 2 * now.available / start_kib(now.total, p)))
    return min(most, CPU_GENTLE + shortage * (most - CPU_GENTLE))


def _look_begun(now: KsmState, scans: int, memory: KsmMemory) -> KsmMemory:
    return _begun(now, replace(memory, looks=True, begun=scans, until=scans + LOOK_SCANS, seen=now.guests))


def _begun(now: KsmState, memory: KsmMemory) -> KsmMemory:
    return replace(memory, since=now.clock, base=now.saved or 0.0, held=now.held)


def _rested(now: KsmState, memory: KsmMemory) -> KsmMemory:
    # Each look that did not pay doubles the rest.
    paid = (now.saved or 0.0) - memory.base >= GAIN_LEAST
    rest = REST_LEAST if paid else min(REST_MOST, max(REST_LEAST, 2 * memory.rest))
    return _begun(now, replace(memory, looks=False, rest=rest, paid=paid, wait=max(rest, REST_RATIO * (memory.took or 0.0))))


def _is_rested(now: KsmState, memory: KsmMemory) -> bool:
    rested = now.clock - memory.since
    if rested < 0 or rested >= memory.wait or now.run == 0:
        return True
    if not memory.paid and rested < REST_PAUSE * memory.wait:
        # After two looks that did not pay, a new guest each minute must not keep ksmd scanning.
        return _is_new(now, memory) and memory.rest <= REST_LEAST
    lost = 0.0 if now.saved is None else memory.base - now.saved
    return _is_new(now, memory) or _has_grown(now, memory) or lost > max(GAIN_LEAST, LOST_SHARE * memory.base)


def _is_new(now: KsmState, memory: KsmMemory) -> bool:
    return bool(now.guests - memory.seen)


def _has_grown(now: KsmState, memory: KsmMemory) -> bool:
    return now.held - memory.held > max(GROWN_LEAST, GROWN_SHARE * now.held)


def _resting(now: KsmState, pages_least: int) -> KsmSuggestion:
    if now.advised:
        return KsmSuggestion(KsmReason.REST)
    if now.run == 2:
        return KsmSuggestion(KsmReason.BOOKS)
    pages, sleep_ms = _changed(now.pages, pages_least), _changed(now.sleep_ms, SLEEP_REST_MS)
    if now.saved is not None and now.saved < -BOOKS_MOST:
        # Also slow down, because mom refuses to unmerge if memory is too short.
        return KsmSuggestion(KsmReason.BOOKS, 2, pages, sleep_ms)
    return KsmSuggestion(KsmReason.REST, None, pages, sleep_ms)


def _scanning(now: KsmState, percent: float, reason: KsmReason, p: KsmParameters) -> KsmSuggestion:
    # The kernel's advisor, if on, sets the batch.
    if now.advised:
        return KsmSuggestion(reason, _changed(now.run, 1))
    pages = _expected(percent, p)
    if now.pages is not None and now.cpu_usage is not None and now.run == 1 and now.sleep_ms == p.sleep_ms:
        # Correct once per measurement: cycles may be faster, and the batch would oscillate.
        measured = now.cpu_pages is None or now.cpu_pages == now.pages
        pages = _corrected(percent, now.pages, now.cpu_usage, p) if measured else now.pages
    within = max(p.pages_least, min(p.pages_most, pages))
    return KsmSuggestion(reason, _changed(now.run, 1), _changed(now.pages, within), _changed(now.sleep_ms, p.sleep_ms))


def _changed(value: float | None, suggested: float) -> int | None:
    return None if value is None or abs(suggested - value) < 1 else int(suggested)


def _odds(percent: float) -> float:
    share = max(0.1, min(95.0, percent))
    return share / (100 - share)


def _expected(percent: float, p: KsmParameters) -> float:
    # The batch follows from the usual cost of a page.
    return _odds(percent) * 1000 * p.sleep_ms / PAGE_US


def _corrected(percent: float, now: float, usage: float, p: KsmParameters) -> float:
    # The batch follows from ksmd's usage with the present batch.
    factor = _odds(percent) / _odds(usage)
    if abs(factor - 1) < STEP_LEAST:
        return now
    return min(2 * _expected(percent, p), now * max(1 / STEP_MOST, min(STEP_MOST, factor)))
