"""The reasons of the law, each with its sentence: why a guest gets a size, or keeps its own. From the fields of a report alone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Self

from mom_core import Guest, Host, format_duration, format_kib
from mom_plugins_balloon.names import AHEAD, EXPECTED_SOON, GAIN, RISES_IN, START_REST, SUGGESTED
from mom_plugins_balloon.promises import guaranteed_kib


class ReasonCode(StrEnum):
    """Why a guest gets a size, or keeps the one that it has: the code, and its sentence.

    In a sentence, `{0[FIELD]}` is a field of the guest in KiB, `{0.NAME}` a figure or a part of the sentence that `ReasonFigures` has.
    """

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """A member of this code."""
        one = str.__new__(cls, code)
        one._value_, one.sentence = code, sentence
        return one

    # It keeps its size.
    HOST_UNKNOWN = "host-unknown", "what the host has available, or is to have, is unknown, so no guest's size is changed"
    UNKNOWN = "unknown", "its size, its maximum or the age of its statistics is unknown, so it keeps its size"
    SILENT = "silent", "it does not tell what is usable in it, so it keeps its size"
    STALE = "stale", "its statistics are {0.statistics_age} old, too old to act upon: it keeps its size"
    IN_TRANSITION = (
        "in-transition",
        "it was asked for {0[balloon_target]} {0.target_age} ago, and is still on its way there: mom waits for it",
    )
    UNSETTLED = "unsettled", "its size was changed {0.target_age} ago, and its statistics are from before that: mom waits for newer ones"
    BEFORE_UNKNOWN = "before-unknown", "the size that it had before mom is not known yet, so it keeps its size"
    ENOUGH = (
        "enough",
        "{0.has}, and is to have {0.high}: nothing has to be taken, and memory that was taken goes back only when it has clearly more",
    )
    PLENTY = "plenty", "{0.has}, more than the {0.high} that it is to have: nothing has to be taken"
    NOTHING_TO_GIVE = "nothing-to-give", "{0.short}, but this guest has nothing now that could be taken for it"
    GUARANTEED = "guaranteed", "{0.short}, but this guest keeps the {0.guarantee} that it is promised, whatever it uses of that"
    OUT_OF_REACH = (
        "out-of-reach",
        "{0.short}, but this guest's balloon can bring it to no less than {0[balloon_least]}: virtio-mem's memory is out of its reach",
    )
    STARTED = ("started", "it was started a moment ago, and its programs may not have begun yet: it gives nothing for {0.start_rest}")
    SPARED = ("spared", "{0.short}, but this guest is expected to use {0.rise} more {0.soon}: others give, and it is left what it has")
    OTHERS_GIVE = "others-give", "{0.short}, but others give before this guest does"
    # It grows, or should.
    HEADROOM_GROWING = (
        "headroom-growing",
        "it uses more than a moment ago, and headroom costs the host nothing until it is used: it gets its headroom back",
    )
    HEADROOM_BACK = (
        "headroom-back",
        "it has less than its headroom, as after a sweep, and headroom costs the host nothing until it is used: it gets it back",
    )
    PROMISED = "promised", "it has less than the {0.guarantee} that it is promised{0.grows}"
    FORECAST = "forecast", "it is expected to run out of memory soon{0.grows}"
    RUNS_OUT = "runs-out", "it runs out of memory, as only {0[mem_usable]} are usable in it{0.grows}"
    SWAPS = "swaps", "it reads {0[swap_in]}/s back from its swap: {0.eases}"
    WAITS_FOR_DISK = "waits-for-disk", "it waits for its disk, with {0.major_faults} page faults a second: {0.eases}"
    STALL_FLOOR = "stall-floor", "only {0[mem_usable]} are usable in it, with which programs waited for its disk or were killed: {0.eases}"
    CACHE_REFILL = "fills", "it has less than the headroom for a burst like its largest, and fills what it gets with page cache: {0.fills}"
    RISES = (
        "rises",
        "it is expected to use {0.rise} more {0.soon}: it is to have that before then, as far as the host has more than it should",
    )
    GIVEN_BACK = (
        "given-back",
        "{0.has}, clearly more than the {0.high} that it is to have: this one gets back what was taken from it, a little at a time",
    )
    # It gives.
    SWEEP = (
        "sweep",
        "{0.short}; the guest holds {0.swept} that it had used and freed, so it is swept: that is taken, and it gets its headroom "
        "back in a moment",
    )
    TRIM_EMPTY = "trim-empty", "{0.short}; guests give memory that holds nothing, and this one gives {0.gives} of that now"
    TRIM_CACHE = (
        "trim-cache",
        "{0.short}; guests give page cache, too, beyond what they were seen to need of it, and this one gives {0.gives} of that now",
    )
    TRIM_MARGIN = (
        "trim-margin",
        "{0.short}; guests give of their margins, too, as far as no guest is known to want them soon, and this one gives {0.gives} of "
        "that now",
    )
    TRIM_BURST = (
        "trim-burst",
        "{0.short}; guests give of their headroom for bursts, too, and page cache that they will miss, and this one gives {0.gives} of "
        "that now",
    )


PHRASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ReasonCode.HEADROOM_GROWING: "it uses more than a moment ago",
        ReasonCode.HEADROOM_BACK: "it gets its headroom back",
        ReasonCode.PROMISED: "it had less than its guarantee",
        ReasonCode.FORECAST: "it is expected to run out of memory soon",
        ReasonCode.RUNS_OUT: "it runs out of memory",
        ReasonCode.SWAPS: "it reads from its swap",
        ReasonCode.WAITS_FOR_DISK: "it waits for its disk",
        ReasonCode.STALL_FLOOR: "with so little, its programs waited or were killed before",
        ReasonCode.CACHE_REFILL: "it uses what it gets as page cache",
        ReasonCode.RISES: "it is expected to use more soon",
        ReasonCode.GIVEN_BACK: "the host has enough again",
        ReasonCode.SWEEP: "the host needs memory, and the guest had freed this",
        ReasonCode.TRIM_EMPTY: "the host needs memory, and this was unused",
        ReasonCode.TRIM_CACHE: "the host needs memory, and this was page cache",
        ReasonCode.TRIM_MARGIN: "the host is short of memory, so its margin was taken",
        ReasonCode.TRIM_BURST: "the host is full, so its reserve for bursts was taken",
    }
)
"""Why a guest was resized, in few words."""


def sentence(code: str, guest: Guest, host: Host) -> str:
    """Why the law suggests what it does of this guest; empty for a code that this mom does not know, as of a newer recording."""
    known = next((one for one in ReasonCode if one == code), None)
    return "" if known is None else known.sentence.format(ReasonFigures(guest, host))


class ReasonFigures:
    """ReasonFigures and parts of sentences, in words."""

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
        """The host's available memory."""
        beyond = " beyond what is reserved" if self._host.number("mem_reserved") else ""
        if self._free < 0:
            return f"{format_kib(-self._free)} of what is reserved are not available on the host"
        return f"the host has {format_kib(self._free)} available{beyond}"

    @property
    def short(self) -> str:
        """That the host lacks memory."""
        if self._free < 0:
            text = f"{self.has}, which is to have {self.high} more"
        elif self._free < (self._wanted or 0.0):
            text = f"{self.has}, less than the {self.high} that it is to have"
        elif ahead := self._host.number(AHEAD):
            text = f"{self.has}, of which guests are expected to take {format_kib(ahead)} before long, and is to have {self.high}"
        else:
            text = f"guests lack memory, and {self.has}, of which it is to keep {self.high}"
        cold = self._host.number("offload_net") or 0.0
        return f"{text}; cold memory in swap gives {format_kib(cold)} in a cycle" if cold > 0 else text

    @property
    def grows(self) -> str:
        """How a guest grows that cannot wait."""
        if self._change <= 0 and self._low is not None and self._available is not None and self._available < self._low:
            return f", but {self.has}, and with less than {format_kib(self._low)} no guest grows beyond what it is promised"
        return ": it grows at once, and others give for it if they must"

    @property
    def eases(self) -> str:
        """How a guest grows that stalls."""
        if self._change > 0:
            return "it grows, as far as the host has memory for it"
        return f"it should grow, but {self.has}, and nothing of that is left for it"

    @property
    def fills(self) -> str:
        """How a guest grows that fills with page cache what it gets."""
        if self._change > 0:
            return "it gets it back, as far as the host has more than it is to have"
        return f"it should get it back, but {self.has}, and is to have {self.high}"


def _size(kib: float | None) -> str:
    return "an unknown amount" if kib is None else format_kib(kib)


def _soon(seconds: float | None) -> str:
    """When a guest begins to use more."""
    return "soon" if seconds is None else "from now on" if seconds < 60 else f"in {format_duration(60 * round(seconds / 60))}"


def _seconds(value: float | None) -> str:
    return "some time" if value is None else f"{value:.1f} s" if value < 10 and value % 1 else f"{value:.0f} s"
