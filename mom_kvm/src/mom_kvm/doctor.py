"""Findings of `mom doctor` about guests, common to all hypervisors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mom_core import Finding, Guest, Severity, Value, count_of, first_names, format_duration
from mom_kvm.fields import GuestField
from mom_kvm.plugin_of_guests import ReportingHypervisor
from mom_kvm.seen_guests import SeenGuest

NamedFields: TypeAlias = tuple[str, Mapping[str, Value]]


class Cures(NamedTuple):
    """Hints for features that guests lack; empty without a hint. `{}` in `statistics` stands for the period in seconds."""

    plugin: str
    balloon: str
    statistics: str = ""
    reporting: str = ""
    autodeflate: str = ""

    def examine(
        self, hypervisor: ReportingHypervisor, listed: Sequence[Guest], guests: Sequence[SeenGuest], *, acts: bool, stats_period: float
    ) -> Iterable[Finding]:
        """Yield findings about missing features and unreadable descriptions.

        :param acts: whether mom may change the guests' settings
        """
        fields = hypervisor.fields(listed)
        for reason in dict.fromkeys(guest.garbled for guest in guests if guest.garbled):
            garbled = [guest.name for guest in guests if guest.garbled == reason]
            text = f"{Cures.named(garbled, ' with an invalid description')}: {reason}; mom does not change their balloons"
            yield Finding(Severity.WARNING, "description", text, "check the description: virsh dumpxml GUEST")
        guests = [guest for guest in guests if guest.description is not None]
        without = [guest.name for guest in guests if not guest.balloon]
        if without:
            yield Finding(Severity.WARNING, "balloon device", Cures.named(without, " without"), self.balloon)
        for reason in dict.fromkeys(guest.pinned for guest in guests if guest.pinned):
            pinned = [guest.name for guest in guests if guest.pinned == reason]
            yield Finding(Severity.OK, "pinned memory", f"{Cures.named(pinned, ' with a fixed size')}: {reason}")
        off = [guest.name for guest in guests if guest.balloon and not guest.period]
        if off and stats_period and acts:
            text = f"off for {Cures.named(off)}; mom switches statistics on when it acts, with a period of {format_duration(stats_period)}"
            cure = self.statistics.format(max(1, round(stats_period)))
            yield Finding(Severity.OK, "guest statistics", text, cure and f"to have statistics while mom only observes: {cure}")
        elif off:
            cure = f"set stats_period of the {self.plugin} plugin" + (f", or {self.statistics.format(2)}" if self.statistics else "")
            yield Finding(Severity.WARNING, "guest statistics", f"off for {Cures.named(off)}", cure)
        workable = [
            (guest.name, fields.get(guest.id, {})) for guest in guests if guest.balloon and not (guest.pinned or guest.without_balloon)
        ]
        yield from _could_have(workable, self.reporting, self.autodeflate)
        waiting = [guest.name for guest in guests if guest.reports and not guest.fresh]
        if waiting:
            cure = "in these guests, unless booting or paused, load virtio_balloon (Windows: the balloon driver and service of virtio-win)"
            yield Finding(Severity.WARNING, "guest statistics", Cures.named(waiting, " without an answer"), cure)

    @staticmethod
    def named(names: Sequence[str], how: str = "") -> str:
        """Return text such as `2 guests without a balloon: web, db`."""
        return f"{count_of(len(names), 'guest')}{how}: {first_names(names)}"


def _could_have(guests: Sequence[NamedFields], reporting_by: str, autodeflate_by: str) -> Iterable[Finding]:
    # docs/reporting.md measures the effects of these features.
    silent = [guest for guest in guests if guest[1].get(GuestField.REPORTING) == 0]
    if silent and reporting_by:
        gain = "with it, memory that a guest frees returns to the host (measured: 420 of 450 MiB in 10 s)"
        cure = f"to enable it: {reporting_by}; takes effect at the guest's next start; needs QEMU 5.1, and Linux 5.7 in the guest"
        yield Finding(Severity.OK, "free page reporting", f"off for {Cures.named([name for name, _ in silent])}; {gain}", cure)
    stiff = [guest for guest in guests if guest[1].get(GuestField.AUTODEFLATE) == 0]
    if stiff and autodeflate_by:
        gain = "with it, the balloon deflates within a second when the guest runs out of memory, and no program is killed"
        cure = f"to enable it: {autodeflate_by}; takes effect at the next start; unsuitable for guests that must never exceed their size"
        yield Finding(Severity.OK, "autodeflate", f"off for {Cures.named([name for name, _ in stiff])}; {gain}", cure)
