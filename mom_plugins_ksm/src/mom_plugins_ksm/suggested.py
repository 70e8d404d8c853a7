"""Suggestions of the KSM law, from snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import Snapshot, Value
from mom_plugins_ksm.law import KsmMemory, KsmParameters, KsmReason, KsmState, KsmSuggestion, decide

_AWAY_SECONDS: Final = 60.0
"""Guests that are missing for less than this still count: libvirtd may be restarting."""


class KsmSuggestions:
    """KSM law, applied in each cycle. Repeated calls for one snapshot count once.

    :param memory: the law's first state; None to begin anew
    """

    def __init__(self, parameters: KsmParameters, memory: KsmMemory | None = None) -> None:
        self._parameters = parameters
        self._before = self._after = memory or KsmMemory()
        self._at: float | None = None
        self._sizes: Mapping[str, Sequence[float | None]] = {}
        self._unlisted: Mapping[str, float] = {}
        """Monotonic seconds at which a guest was first missing, keyed by guest id."""

    def of(self, snapshot: Snapshot) -> Mapping[str, Value]:
        """Return the suggested values of knobs that should change, and the reason."""
        if snapshot.monotonic != self._at:
            self._at, self._before = snapshot.monotonic, self._after
        sizes, now = sizes_in(snapshot, self._sizes), snapshot.monotonic
        # Guests of a hypervisor that did not answer for a while are not new when they return, and have not grown.
        self._unlisted = {guest: self._unlisted.get(guest, now) for guest in self._sizes.keys() - sizes.keys()}
        expected = [guest for guest, since in self._unlisted.items() if now - since < _AWAY_SECONDS]
        self._sizes = {**{guest: self._sizes[guest] for guest in expected}, **sizes}
        state, suggestion = state_in(snapshot, self._sizes), KsmSuggestion(KsmReason.UNKNOWN)
        self._after = self._before
        if state is not None:
            suggestion, self._after = decide(state, self._before, self._parameters)
        knobs = {"ksm_suggested_run": suggestion.run, "ksm_suggested_pages": suggestion.pages, "ksm_suggested_sleep": suggestion.sleep_ms}
        return {"ksm_reason": suggestion.reason.value, **{name: value for name, value in knobs.items() if value is not None}}


def sizes_in(snapshot: Snapshot, before: Mapping[str, Sequence[float | None]]) -> Mapping[str, Sequence[float | None]]:
    """Return `balloon_max`, `rss` and `balloon_cur` of each guest, keyed by guest id.

    The last known value replaces an unknown one: 0 would make the law stop KSM.
    """
    columns = [snapshot.numbers(name) for name in ("balloon_max", "rss", "balloon_cur")]
    sizes = dict(zip(snapshot.guests, zip(*columns, strict=True), strict=True))
    if not any(None in column for column in columns):
        return sizes
    return {guest: [b if a is None else a for a, b in zip(now, before.get(guest, now), strict=True)] for guest, now in sizes.items()}


_FIGURES: Final = {
    "saved": "ksm_saved", "pages": "ksm_pages_to_scan", "sleep_ms": "ksm_sleep_millisecs", "yielded": "ksm_yield",
    "cpu_usage": "ksmd_cpu_usage", "cpu_pages": "ksmd_cpu_pages", "cpu_count": "cpu_count",
}  # fmt: skip
"""Fields of the host keyed by attribute of `KsmState`."""


def state_in(snapshot: Snapshot, sizes: Mapping[str, Sequence[float | None]]) -> KsmState | None:
    """Return the state as input of the law; None if a required value is unknown."""
    number = snapshot.host.number
    run, total, clock = number("ksm_run"), number("mem_available"), number("ksm_clock")
    # Without MemAvailable, use free memory with caches, although the kernel cannot drop all caches.
    available = number("mem_really_available")
    available = number("mem_free") if available is None else available
    if run is None or total is None or available is None or clock is None:
        return None
    scans, advisor = number("ksm_full_scans"), snapshot.host.fields.get("ksm_advisor_mode")
    return KsmState(
        int(run), total, available, clock,
        scans=None if scans is None else int(scans),
        advised=advisor not in {None, "none"},
        sold=sum(most for most, *_ in sizes.values() if most is not None),
        held=sum(filter(None, (size if rss is None else rss for _, rss, size in sizes.values()))),
        guests=frozenset(sizes),
        **{name: number(field) for name, field in _FIGURES.items()},
    )  # fmt: skip
