"""What the KSM law suggests from cycle to cycle, and what it remembers, also across restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from mom_core import Snapshot, StateError, StateFile, Value
from mom_plugins_ksm.law import AWAY_SECONDS, KsmMemory, KsmParameters, KsmReason, KsmSeen, KsmWanted, decide

FORM: Final = TypeAdapter(KsmMemory)


class KsmSuggestions:
    """Follows the law. However often a snapshot is looked at, it is one cycle.

    :param file: for what is to be remembered
    """

    def __init__(self, parameters: KsmParameters, file: StateFile[KsmMemory]) -> None:
        self._parameters = parameters
        self._file = file
        self._before: KsmMemory | None = None
        """What was remembered before the snapshot that was looked at last; None: it was not read yet."""
        self._after = self._written = KsmMemory()
        self._at: float | None = None
        self._sizes: Mapping[str, Sequence[float | None]] = {}
        """As `sizes_in` gives them."""
        self._unlisted: Mapping[str, float] = {}
        """Since when guests are not listed that were before, in monotonic seconds."""

    def of(self, snapshot: Snapshot) -> Mapping[str, Value]:
        """The values that the knobs should have; no knob where it should stay as it is."""
        if self._before is None:
            self._before = self._after = self._written = _taken_up(self._file.read() or KsmMemory())
        if snapshot.monotonic != self._at:
            self._at, self._before = snapshot.monotonic, self._after
        if snapshot.guests:  # else they may all come back in a moment
            told, now = sizes_in(snapshot, self._sizes), snapshot.monotonic
            # So may some: one of several hypervisors may be silent. What returns is not new, and has not grown.
            self._unlisted = {guest: self._unlisted.get(guest, now) for guest in self._sizes.keys() - told.keys()}
            waited_for = [guest for guest, since in self._unlisted.items() if now - since < AWAY_SECONDS]
            self._sizes = {**{guest: self._sizes[guest] for guest in waited_for}, **told}
        seen = seen_in(snapshot, self._sizes if snapshot.guests else {})
        wanted, self._after = (KsmWanted(KsmReason.UNKNOWN), self._before) if seen is None else decide(seen, self._before, self._parameters)
        knobs = {"ksm_suggested_run": wanted.run, "ksm_suggested_pages": wanted.pages, "ksm_suggested_sleep": wanted.sleep_ms}
        return {"ksm_reason": wanted.reason.value, **{name: value for name, value in knobs.items() if value is not None}}

    def keep(self) -> None:
        """Write what is to be remembered, if it has changed."""
        if self._after != self._written:
            with suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
                self._file.write(FORM.dump_python(self._after, mode="json"), durable=False)
                self._written = self._after


def _taken_up(memory: KsmMemory) -> KsmMemory:
    """What the mom before this one remembered. A look in the middle of which it ended begins anew: for how long it took nobody knows, nor
    what became meanwhile of what was merged."""
    return replace(memory, looks=None) if memory.looks else memory


def sizes_in(snapshot: Snapshot, before: Mapping[str, Sequence[float | None]]) -> Mapping[str, Sequence[float | None]]:
    """What each guest may use, what it holds, and what counts where that is unknown, in KiB by id. What is not told now is as it was
    before: taken for nothing, as when the hypervisor was late once, it would stop KSM, and be growth when it is told again."""
    columns = [snapshot.numbers(name) for name in ("balloon_max", "rss", "balloon_cur")]
    told = dict(zip(snapshot.guests, zip(*columns, strict=True), strict=True))
    if not any(None in column for column in columns):
        return told
    return {guest: [b if a is None else a for a, b in zip(now, before.get(guest, now), strict=True)] for guest, now in told.items()}


def seen_in(snapshot: Snapshot, sizes: Mapping[str, Sequence[float | None]]) -> KsmSeen | None:
    """What a snapshot tells, with these sizes of its guests, and of some that may come back in a moment; None where the least that the law
    needs is unknown."""
    number = snapshot.host.number
    run, total, clock = number("ksm_run"), number("mem_available"), number("ksm_clock")
    # MemAvailable knows what cannot be dropped; where it is unknown, free memory with caches is the next best.
    available = number("mem_really_available")
    available = number("mem_free") if available is None else available
    if run is None or total is None or available is None or clock is None:
        return None
    scans, advisor = number("ksm_full_scans"), snapshot.host.fields.get("ksm_advisor_mode")
    return KsmSeen(
        int(run),
        total,
        available,
        clock,
        number("ksm_saved"),
        number("ksm_pages_to_scan"),
        number("ksm_sleep_millisecs"),
        None if scans is None else int(scans),
        number("ksm_yield"),
        advisor not in {None, "none"},
        number("ksmd_cpu_usage"),
        number("ksmd_cpu_pages"),
        number("cpu_count"),
        sum(most for most, *_ in sizes.values() if most is not None),
        sum(filter(None, (size if rss is None else rss for _, rss, size in sizes.values()))),
        frozenset(sizes),
    )
