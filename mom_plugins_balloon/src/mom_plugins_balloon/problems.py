"""Conditions, problems and findings about the host's memory and promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from mom_core import Condition, Finding, Hypervisor, Portion, Problem, Severity, Snapshot, Source, format_kib, printable
from mom_kvm import listed_guests, pages_kib
from mom_plugins_balloon.names import CONTROL
from mom_plugins_balloon.promises import Guarantees, PromisesKept
from mom_plugins_balloon.sizes import BalloonControl
from mom_plugins_balloon.states import MemoryState

MEMORY: Final = "memory"
PROMISES: Final = "promises"
GROWTH: Final = "growth"

RECLAIM_SECONDS: Final = 30.0
"""A host that is short of memory for longer is full. After a burst, memory returns within some cycles."""

FINDINGS_SHOWN: Final = 10

_OVERSOLD: Final = "move guests away, reduce their guarantees, or give the host more memory"
_START_NO_MORE: Final = "start no more guests"


def conditions(
    snapshot: Snapshot, state: MemoryState, standing: PromisesKept, why_none_gives: Callable[[], str] = str
) -> Iterable[Condition]:
    """Yield conditions of the host: full, short of memory, without memory for a burst, oversold."""
    total, available = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available"))
    if total is None or available is None:
        return
    oversold, growth = standing.oversold_by(), snapshot.host.number("mem_growth_peak")
    growing, short = growth is not None and available < growth, state in {MemoryState.LOW, MemoryState.HARD}
    why, cure = _cause(snapshot, oversold) if growing or short else ("", "")
    if short:
        reasons = "; ".join(filter(None, (why, why_none_gives())))
        figures = f"{format_kib(available)} of {format_kib(total)} available"
        if state is MemoryState.LOW:
            yield Condition(MEMORY, f"the host is full: {figures}", reasons, cure, after=RECLAIM_SECONDS)
        else:
            hard = snapshot.host.number("mem_watermark_hard")
            below = f", below its hard watermark of {format_kib(hard)}" if hard else ""
            yield Condition(MEMORY, f"the host is short of memory: {figures}{below}", reasons, cure, Severity.WARNING)
    if growing:
        message = f"guests may grow by {format_kib(growth or 0.0)} within 3 s, more than is available"
        yield Condition(GROWTH, message, "" if short else why, cure, Severity.WARNING, after=RECLAIM_SECONDS)
    if oversold:
        cure = f"{_OVERSOLD}; mom does not promise the memory of host_reserve (balloon plugin)"
        yield Condition(PROMISES, oversold, standing.losers(), cure, Severity.WARNING)


def _cause(snapshot: Snapshot, oversold: str) -> tuple[str, str]:
    # Returns the cause of a shortage and the cure.
    total, size, used = (snapshot.host.number(name) for name in ("mem_available", "swap_total", "swap_usage"))
    largest = consumers(snapshot)
    large = ([consumer for consumer in largest if consumer.kib >= NAMED_SHARE * (total or 0.0)] or largest[:1])[:NAMED]
    parts = [f"{consumer.name} {format_kib(consumer.kib)}" for consumer in large]
    if size and used is not None and used >= _FULL_SWAP * size:
        parts.append(f"swap is full ({format_kib(size)})")
    cures = list(dict.fromkeys(consumer.cure for consumer in large[:CURED])) or [MOVE_GUESTS]
    why = ", ".join(parts)
    if oversold and cures[0] is MOVE_GUESTS:
        why = f"{oversold}; {why}" if why else oversold
        cures = [_OVERSOLD, *cures[1:]]
    return why, "; ".join((*cures, _START_NO_MORE))


def promise_problems(standing: PromisesKept, source: Source) -> Iterable[Problem]:
    """Yield promises above a guest's maximum, and invalid promises."""
    for promise in standing.guests.values():
        if promise.beyond is not None:
            message = f"the guest is promised {format_kib(promise.beyond)}, more than its maximum of {format_kib(promise.promised)}"
            hint = "lower its guarantee, or raise its maximum memory; until then, mom takes no memory from the guest"
            yield Problem(source, message, promise.guest.entity, Severity.WARNING, hint)
    for guest, error in standing.unclear:
        message = f"the guarantee in the guest's metadata is invalid, so mom takes nothing from the guest: {error.message}"
        yield Problem(source, message, guest.entity, Severity.ERROR, f"in the guest's metadata, {error.hint}")


def findings(hypervisor: Hypervisor | None, guarantees: Guarantees) -> Iterable[Finding]:
    """Yield findings about guests that mom can or cannot resize."""
    subject = "memory balloons"
    if hypervisor is not None and not isinstance(hypervisor, BalloonControl):
        cure = "enable a hypervisor plugin that can resize guests, such as libvirt; or remove balloon from the configuration"
        yield Finding(Severity.ERROR, subject, f"{hypervisor.uri} cannot resize guests", cure)
        return
    guests = yield from listed_guests(hypervisor, subject)
    if guests is None:
        return
    blocked = [(guest.name, reason) for guest in guests if (reason := guest.why_blocked(CONTROL))]
    for name, reason in blocked[:FINDINGS_SHOWN]:
        yield Finding(Severity.WARNING, f"guest {printable(name)}", f"it cannot be resized: {reason}", _cure(reason))
    if len(blocked) > FINDINGS_SHOWN:
        yield Finding(Severity.WARNING, subject, f"{len(blocked) - FINDINGS_SHOWN} more guests cannot be resized")
    promised = guarantees.written([guest for guest in guests if not guest.why_blocked(CONTROL)])
    whole = sum(Portion(share=1.0) in portions for portions in promised.values())
    keep = f"; guests with a guarantee for all of their memory: {whole}" if whole else ""
    yield Finding(Severity.OK, subject, f"{len(guests) - len(blocked)} of {len(guests)} guests can be resized{keep}")


def _cure(reason: str) -> str:
    if "balloon" in reason:
        return "give it <memballoon model='virtio'/> and the virtio_balloon driver, or accept its fixed size"
    return "see docs/guests.md for what mom does with each kind of guest"


NAMED_SHARE: Final = 0.1
"""Smallest ratio of the host's memory at which a message names a consumer."""

NAMED: Final = 3

CURED: Final = 2

_FULL_SWAP: Final = 0.95
"""Swap counts as full at this used ratio: the kernel leaves a few slots unused."""

MOVE_GUESTS: Final = "move guests away or shut some down"


class Consumer(NamedTuple):
    """Consumer of the host's memory: name, size in KiB, and advice."""

    name: str
    kib: float
    cure: str


def consumers(snapshot: Snapshot) -> Sequence[Consumer]:
    """Return the consumers of known size, the largest first."""
    host = snapshot.host
    resident, sizes = ([kib for kib in snapshot.numbers(name) if kib is not None] for name in ("rss", "balloon_cur"))
    # A page that KSM has merged counts in the RSS of each guest.
    guests = max(0.0, sum(resident) - pages_kib(host.fields, "ksm_pages_sharing")) if resident else sum(sizes)
    free, page = (host.number(name) or 0.0 for name in ("hugepages_free", "hugepage_size"))
    pool = (host.number("hugepages_total") or 0.0) * page
    largest = [
        Consumer("guests hold", guests, MOVE_GUESTS),
        Consumer("huge pages in use hold", pool - free * page, MOVE_GUESTS),
        Consumer("unused huge pages hold", free * page, "lower vm.nr_hugepages"),
    ]
    names = ("mem_available", "mem_really_available", "mem_unused", "anon_pages", "mem_shmem", "mem_cached")
    total, available, unused, anonymous, shared, cached = (host.number(name) for name in names)
    if anonymous is not None and shared is not None and (resident or not snapshot.guests):
        processes = max(host.number("mem_other_processes") or 0.0, anonymous - guests)  # guests may be in shared memory
        names_of = host.text("largest_processes")
        process = f"other processes ({names_of}) hold" if names_of else "other processes hold"
        largest += [
            Consumer(process, processes, "stop the largest of the other processes, or move it to another host"),
            Consumer("tmpfs and shared memory hold", anonymous + shared - guests - max(0.0, processes), "empty tmpfs (df -t tmpfs)"),
        ]
        if total is not None and available is not None and unused is not None and cached is not None:
            cache = max(0.0, unused + cached - shared - available)
            kernel = total - available - anonymous - shared - cache - pool
            largest += [
                Consumer("page cache that cannot be dropped holds", cache, "see Dirty and Mlocked in /proc/meminfo"),
                Consumer("the kernel holds", kernel, "see slabtop, and mm_stat of zram in /sys/block"),
            ]
    return sorted((consumer for consumer in largest if consumer.kib > 0), key=lambda consumer: -consumer.kib)
