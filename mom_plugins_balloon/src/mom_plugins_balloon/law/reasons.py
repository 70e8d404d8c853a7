"""Reasons of the law: codes, with sentences for operators. The sentences need only a report's fields."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from mom_core import Guest, Host, format_duration, format_kib
from mom_plugins_balloon.names import AHEAD, EXPECTED_SOON, GAIN, RISES_IN, START_REST, SUGGESTED
from mom_plugins_balloon.promises import guaranteed_kib


class ReasonCode(StrEnum):
    """Reason for a guest's size: its code and its sentence.

    `{0[FIELD]}` is a field of the guest in KiB, and `{0.NAME}` an attribute of `ReasonFigures`.
    """

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Return a member with its sentence."""
        reason = str.__new__(cls, code)
        reason._value_, reason.sentence = code, sentence
        return reason

    # The guest keeps its size.
    HOST_UNKNOWN = "host-unknown", "the host's available memory or its watermarks are unknown, so no guest changes its size"
    UNKNOWN = "unknown", "its size, its maximum or its kernel's statistics are unknown, so it keeps its size"
    STALE = "stale", "its statistics are {0.statistics_age} old, too old to act on, so it keeps its size"
    IN_TRANSITION = "in-transition", "mom set its target to {0[balloon_target]} {0.target_age} ago, and waits until the guest has this size"
    UNSETTLED = "unsettled", "its size changed {0.target_age} ago, and mom waits for newer statistics"
    BEFORE_UNKNOWN = "before-unknown", "its original size is not known yet, so it keeps its size"
    ENOUGH = "enough", "{0.has} and should have {0.high}, so mom takes no memory from this guest"
    NOTHING_TO_GIVE = "nothing-to-give", "{0.short}, but this guest has no memory to spare"
    GUARANTEED = "guaranteed", "{0.short}, but this guest keeps its guarantee of {0.guarantee}"
    OUT_OF_REACH = "out-of-reach", "{0.short}, but this guest's balloon cannot go below {0[balloon_least]} (virtio-mem)"
    STARTED = "started", "it has just started, so mom does not shrink it for the next {0.start_rest}"
    LEARNING = "learning", "the memory that its kernel reserves is not known yet, so mom takes no memory from this guest"
    SPARED = "spared", "{0.short}, but this guest is expected to use {0.rise} more {0.soon}, so mom shrinks other guests"
    UNTOUCHED = "untouched", "{0.short}, but the host does not back this guest's free memory, and would gain nothing from it"
    OTHERS_GIVE = "others-give", "{0.short}, but mom shrinks other guests first"
    # The guest grows, or should grow.
    HEADROOM_BACK = (
        "headroom-back",
        "it lacks headroom, as after a sweep, so it gets its headroom back; that costs the host nothing until the guest uses it",
    )
    PROMISED = "promised", "it has less than its guarantee of {0.guarantee}{0.grows}"
    FORECAST = "forecast", "it is expected to run out of memory soon{0.grows}"
    RUNS_OUT = "runs-out", "it runs out of memory, with only {0[mem_usable]} usable{0.grows}"
    SWAPS = "swaps", "it reads {0[swap_in]}/s from its swap{0.grows}"
    WAITS_FOR_DISK = "waits-for-disk", "it waits for its disk, with {0.major_faults} page faults a second{0.grows}"
    STALL_FLOOR = "stall-floor", "it has only {0[mem_usable]} usable; with so little, its programs waited or were killed before{0.grows}"
    CACHE_REFILL = "fills", "it has less than its target headroom, and uses new memory as page cache{0.grows}"
    RISES = "rises", "it is expected to use {0.rise} more {0.soon}, so it gets memory that the host can spare"
    GIVEN_BACK = "given-back", "{0.has}, clearly more than the required {0.high}, so this guest gets memory back in small steps"
    # The guest gives memory.
    SWEEP = "sweep", "{0.short}, so a sweep reclaims {0.swept} that this guest had used and freed, and then returns its headroom"
    TRIM_EMPTY = "trim-empty", "{0.short}, so mom takes {0.gives} of unused memory from this guest"
    TRIM_CACHE = "trim-cache", "{0.short}, so mom takes {0.gives} from this guest, page cache included"
    TRIM_MARGIN = "trim-margin", "{0.short}, so mom takes {0.gives} from this guest, some of it from its margin"
    TRIM_BURST = "trim-burst", "{0.short}, so mom takes {0.gives} from this guest, some of it headroom for bursts"


PHRASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ReasonCode.HEADROOM_BACK: "it gets its headroom back",
        ReasonCode.PROMISED: "it had less than its guarantee",
        ReasonCode.FORECAST: "it is expected to run out of memory soon",
        ReasonCode.RUNS_OUT: "it runs out of memory",
        ReasonCode.SWAPS: "it reads from its swap",
        ReasonCode.WAITS_FOR_DISK: "it waits for its disk",
        ReasonCode.STALL_FLOOR: "with so little memory, its programs waited or were killed before",
        ReasonCode.CACHE_REFILL: "it uses new memory as page cache",
        ReasonCode.RISES: "it is expected to use more memory soon",
        ReasonCode.GIVEN_BACK: "the host has enough again",
        ReasonCode.SWEEP: "the host needs memory, and the guest had freed this memory",
        ReasonCode.TRIM_EMPTY: "the host needs memory, and this memory was unused",
        ReasonCode.TRIM_CACHE: "the host needs memory, and this memory was page cache",
        ReasonCode.TRIM_MARGIN: "the host is short of memory, so the guest's margin was taken",
        ReasonCode.TRIM_BURST: "the host is full, so the guest's headroom for bursts was taken",
    }
)


def sentence(code: str, guest: Guest, host: Host) -> str:
    """Return the reason for a suggested size; empty for an unknown code."""
    reason = next((reason for reason in ReasonCode if reason == code), None)
    return "" if reason is None else reason.sentence.format(ReasonFigures(guest, host))


class ReasonFigures:
    """Figures for the sentences, in words."""

    def __init__(self, guest: Guest, host: Host) -> None:
        self._guest, self._host = guest, host
        self._change = (guest.number(SUGGESTED) or 0.0) - (guest.number("balloon_cur") or 0.0)
        self._available, self._low = host.number("mem_really_available"), host.number("mem_watermark_low")
        self._wanted = host.number("mem_watermark_high")
        self._free = (self._available or 0.0) - (host.number("mem_reserved") or 0.0)
        self.high = _size(self._wanted)
        self.gives = format_kib(-self._change)
        self.swept = _size(guest.number(GAIN) or -self._change)
        self.guarantee = _size(guaranteed_kib(guest.fields))
        self.start_rest = _seconds(guest.number(START_REST))
        self.statistics_age, self.target_age = _seconds(guest.number("stats_age")), _seconds(guest.number("balloon_target_age"))
        used = (guest.number("mem_available") or 0.0) - (guest.number("mem_usable") or 0.0)
        self.rise = _size(max(0.0, (guest.number(EXPECTED_SOON) or 0.0) - used))
        self.soon = _soon(guest.number(RISES_IN))
        self.major_faults = f"{guest.number('major_fault') or 0.0:,.0f}"

    def __getitem__(self, name: str) -> str:
        return _size(self._guest.number(name))

    @property
    def has(self) -> str:
        """Describe the host's available memory."""
        if self._free < 0:
            return f"the host lacks {format_kib(-self._free)} for its reservations"
        return f"the host has {format_kib(self._free)} available{' beyond its reservations' if self._host.number('mem_reserved') else ''}"

    @property
    def short(self) -> str:
        """Describe the host's lack of memory."""
        if self._free < (self._wanted or 0.0):
            text = f"{self.has} and should have {self.high}"
        elif ahead := self._host.number(AHEAD):
            text = f"{self.has}, guests are expected to take {format_kib(ahead)} soon, and {self.high} should remain"
        else:
            text = f"guests lack memory, {self.has}, and {self.high} should remain"
        cold = self._host.number("offload_net") or 0.0
        return f"{text} (offloading cold memory frees {format_kib(cold)} a cycle)" if cold > 0 else text

    @property
    def grows(self) -> str:
        """Describe whether the guest grows."""
        if self._change > 0:
            return ", so it grows"
        if self._low is not None and self._available is not None and self._available < self._low:
            return f", but {self.has}, and with less than {format_kib(self._low)}, guests grow only to their guarantee"
        return f", but {self.has} and cannot spare any"


def _size(kib: float | None) -> str:
    return "an unknown amount" if kib is None else format_kib(kib)


def _soon(seconds: float | None) -> str:
    return "soon" if seconds is None else "from now on" if seconds < 60 else f"in {format_duration(60 * round(seconds / 60))}"


def _seconds(value: float | None) -> str:
    return "some time" if value is None else f"{value:.1f} s" if value < 10 and value % 1 else f"{value:.0f} s"
