"""Sweeps that a crash of mom has cut off: their guests get the headroom back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from mom_core import Decision, Guest, PluginContext, Source
from mom_plugins_balloon.ballooned_guests import CONTROL, BalloonedGuests
from mom_plugins_balloon.shrinks_under_way import TWO_SIZES
from mom_plugins_balloon.sweep.records import UnfinishedSweep

RESIZE_SLACK_KIB: Final = 16 * 1024
"""KiB. libvirt and QEMU report sizes in steps of their own."""

_WHY: Final = "mom was cut off while it swept the guest: it gets its headroom back"


class CutOffSweeps:
    """Sweeps of the mom before this one whose guests may still lack headroom, and the file that notes them."""

    def __init__(self, context: PluginContext, records: BalloonedGuests) -> None:
        loss = "a guest may keep less than its headroom"
        self._file = context.state_file("sweeps.json", "the file of sweeps under way", TWO_SIZES, loss=loss)
        self._records = records

    @cached_property
    def _sweeps(self) -> Mapping[str, UnfinishedSweep]:
        return {identity: UnfinishedSweep(*noted) for identity, noted in (self._file.read() or {}).items()}

    def note(self, under_way: Mapping[str, UnfinishedSweep]) -> None:
        """Write these sweeps to disk, with those that were cut off. Raises `StateError`."""
        self._file.write({**self._sweeps, **under_way}, durable=False)

    def explain(self, identity: str, size: int) -> bool:
        """Return whether a guest has this size because its sweep was cut off."""
        sweep = self._sweeps.get(identity)
        return sweep is not None and sweep.bottom - RESIZE_SLACK_KIB <= size <= sweep.size + RESIZE_SLACK_KIB

    def drop_settled(self) -> bool:
        """Drop sweeps whose guests were asked for a size since, or have a size that no sweep explains. Return whether any was dropped."""
        guests, sweeps = self._records.snapshot.guests, self._sweeps
        if guests:
            self._sweeps = {key: sweep for key, sweep in sweeps.items() if self._is_pending(key, guests.get(key), sweep)}
        return len(self._sweeps) < len(sweeps)

    def ends(self, source: Source) -> Sequence[Decision]:
        """Return decisions that give headroom back."""
        guests = self._records.snapshot.guests
        return [
            Decision(guest.entity, CONTROL, sweep.size, _WHY, source)
            for key, sweep in self._sweeps.items()
            if (guest := guests.get(key)) is not None and guest.number("balloon_cur") is not None
        ]

    def _is_pending(self, identity: str, guest: Guest | None, sweep: UnfinishedSweep) -> bool:
        if guest is None:
            return True  # a single list may lack it
        record = self._records.of(identity)
        request = None if record is None else record.request
        if guest.incarnation != sweep.incarnation or (request is not None and not request.in_doubt):
            return False
        size = guest.number("balloon_cur")
        return size is None or sweep.bottom - RESIZE_SLACK_KIB <= size <= sweep.size - self._records.dead_band
