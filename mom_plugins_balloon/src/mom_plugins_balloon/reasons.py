"""One sentence for each code of the law: why a guest gets a size, or keeps the one that it has. From the fields of a report alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mom_core import Guest, Host, format_kib
from mom_plugins_balloon.guarantees import guaranteed_kib
from mom_plugins_balloon.law import ReasonCode
from mom_plugins_balloon.names import SUGGESTED


class _Figures:
    """What sentences name, in words."""

    def __init__(self, guest: Guest, host: Host) -> None:
        self._guest = guest
        self._host = host

    def kib(self, name: str) -> str:
        """A field of the guest."""
        return _size(self._guest.number(name))

    def of_host(self, name: str) -> str:
        """A field of the host."""
        return _size(self._host.number(name))

    @property
    def change(self) -> float:
        """By how much the guest is to grow; less than 0 where it gives."""
        return (self._guest.number(SUGGESTED) or 0.0) - (self._guest.number("balloon_cur") or 0.0)

    @property
    def free(self) -> float:
        return (self._host.number("mem_really_available") or 0.0) - (self._host.number("mem_reserved") or 0.0)

    @property
    def has(self) -> str:
        beyond = " beyond what is reserved" if self._host.number("mem_reserved") else ""
        if self.free < 0:
            return f"{format_kib(-self.free)} of what is reserved are not available on the host"
        return f"the host has {format_kib(self.free)} available{beyond}"

    @property
    def short(self) -> str:
        """That the host lacks memory."""
        high = self._host.number("mem_watermark_high") or 0.0
        if self.free < 0:
            text = f"{self.has}, which is to have {format_kib(high)} more"
        elif self.free < high:
            text = f"{self.has}, less than the {format_kib(high)} that it is to have"
        else:
            text = f"guests lack memory, and {self.has}, of which it is to keep {format_kib(high)}"
        cold = self._host.number("offload_net") or 0.0
        return f"{text}; cold memory in swap gives {format_kib(cold)} in a cycle" if cold > 0 else text

    @property
    def grows(self) -> str:
        low, available = self._host.number("mem_watermark_low"), self._host.number("mem_really_available")
        if low is not None and available is not None and available < low:
            return f", but {self.has}, and with less than {format_kib(low)} no guest grows"
        return ": it grows at once, and others give for it if they must"

    @property
    def eases(self) -> str:
        if self.change > 0:
            return "it grows, as far as the host has memory for it"
        return f"it should grow, but {self.has}, and nothing of that is left for it"

    @property
    def fills(self) -> str:
        if self.change > 0:
            return "it gets it back, as far as the host has more than it is to have"
        return f"it should get it back, but {self.has}, and is to have {self.of_host('mem_watermark_high')}"

    def trim(self, what: str) -> str:
        """That the guest is trimmed."""
        return f"{self.short}; guests give {what}, and this one gives {format_kib(-self.change)} of that now"

    @property
    def guarantee(self) -> str:
        return _size(guaranteed_kib(self._guest.fields))

    def seconds(self, name: str) -> str:
        """A field of the guest, in seconds."""
        value = self._guest.number(name)
        return "some time" if value is None else f"{value:.1f} s" if value < 10 and value % 1 else f"{value:.0f} s"

    def rate(self, name: str) -> str:
        """A field of the guest, as a count."""
        return f"{self._guest.number(name) or 0.0:,.0f}"


def _size(kib: float | None) -> str:
    return "an unknown amount" if kib is None else format_kib(kib)


_SENTENCES: Final[Mapping[ReasonCode, Callable[[_Figures], str]]] = {
    ReasonCode.HOST_UNKNOWN: lambda _: "what the host has available, or is to have, is unknown, so no guest's size is changed",
    ReasonCode.UNKNOWN: lambda _: "its size, its maximum or the age of its statistics is unknown, so it keeps its size",
    ReasonCode.SILENT: lambda _: "it does not tell what is usable in it, so it keeps its size",
    ReasonCode.STALE: lambda told: f"its statistics are {told.seconds('stats_age')} old, too old to act upon: it keeps its size",
    ReasonCode.IN_TRANSITION: lambda told: (
        f"it was asked for {told.kib('balloon_target')} {told.seconds('balloon_target_age')} ago, and is still on its way there: "
        "mom waits for it"
    ),
    ReasonCode.UNSETTLED: lambda told: (
        f"its size was changed {told.seconds('balloon_target_age')} ago, and its statistics are from before that: mom waits for newer ones"
    ),
    ReasonCode.ENOUGH: lambda told: (
        f"{told.has}, and is to have {told.of_host('mem_watermark_high')}: nothing has to be taken, and memory that was taken goes back "
        "only when it has clearly more"
    ),
    ReasonCode.PLENTY: lambda told: (
        f"{told.has}, more than the {told.of_host('mem_watermark_high')} that it is to have: nothing has to be taken"
    ),
    ReasonCode.NOTHING_TO_GIVE: lambda told: f"{told.short}, but this guest has nothing now that could be taken for it",
    ReasonCode.OTHERS_GIVE: lambda told: f"{told.short}, but others give before this guest does",
    ReasonCode.HEADROOM_GROWING: lambda _: (
        "it uses more than a moment ago, and headroom costs the host nothing until it is used: it gets its headroom back"
    ),
    ReasonCode.HEADROOM_BACK: lambda _: (
        "it has less than its headroom, as after a sweep, and headroom costs the host nothing until it is used: it gets it back"
    ),
    ReasonCode.PROMISED: lambda told: f"it has less than the {told.guarantee} that it is promised{told.grows}",
    ReasonCode.FORECAST: lambda told: f"it is expected to run out of memory soon{told.grows}",
    ReasonCode.RUNS_OUT: lambda told: f"it runs out of memory, as only {told.kib('mem_usable')} are usable in it{told.grows}",
    ReasonCode.SWAPS: lambda told: f"it reads {told.kib('swap_in')}/s back from its swap: {told.eases}",
    ReasonCode.WAITS_FOR_DISK: lambda told: f"it waits for its disk, with {told.rate('major_fault')} page faults a second: {told.eases}",
    ReasonCode.STALL_FLOOR: lambda told: (
        f"only {told.kib('mem_usable')} are usable in it, with which it was seen to wait for its disk: {told.eases}"
    ),
    ReasonCode.FILLS: lambda told: (
        f"it has less than the headroom for a burst like its largest, and fills what it gets with page cache: {told.fills}"
    ),
    ReasonCode.GIVEN_BACK: lambda told: (
        f"{told.has}, clearly more than the {told.of_host('mem_watermark_high')} that it is to have: this one gets back what was taken "
        "from it, a little at a time"
    ),
    ReasonCode.SWEEP: lambda told: (
        f"{told.short}; the guest holds {format_kib(-told.change)} that it had used and freed, so it is swept: that is taken, and it "
        "gets its headroom back in a moment"
    ),
    ReasonCode.TRIM_EMPTY: lambda told: told.trim("memory that holds nothing"),
    ReasonCode.TRIM_CACHE: lambda told: told.trim("page cache, too, beyond what they were seen to need of it"),
    ReasonCode.TRIM_MARGIN: lambda told: told.trim("of their margins, too, as far as no guest is known to want them soon"),
    ReasonCode.TRIM_BURST: lambda told: told.trim("of their headroom for bursts, too, and page cache that they will miss"),
}


def sentence(code: str, guest: Guest, host: Host) -> str:
    """Why the law suggests what it does of this guest; empty for a code that this mom does not know, as of a newer recording."""
    try:
        told = _SENTENCES[ReasonCode(code)]
    except ValueError:
        return ""
    return told(_Figures(guest, host))
