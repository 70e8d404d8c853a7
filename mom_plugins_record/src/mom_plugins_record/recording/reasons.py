"""Why policies decided as they did, asked of the mom that runs while it still knows: a recording that has it need not evaluate again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from mom_core import Report
from mom_kvm import PolicyTexts
from mom_plugins_record.recording.cycles import Reasons

SHARE: Final = 0.01
"""Of one CPU that asking may take: 1,000 guests take 20 ms, so that each cycle of five seconds is asked. A policy of which that takes
longer is asked in fewer cycles."""

LONGEST_SECONDS: Final = 0.2
"""Of CPU time in one cycle; who was not asked by then is not asked in this cycle."""


class ReasonsAsked:
    """Asks within its share of the CPU.

    :param spent: seconds of CPU time that this thread has taken
    """

    def __init__(self, spent: Callable[[], float] = time.thread_time) -> None:
        self._spent = spent
        self._not_before = float("-inf")

    def of(self, report: Report, policies: PolicyTexts | None, controls: Sequence[str]) -> Reasons | None:
        """The reasons of a cycle that has just ended, those of decided guests first; None where they are not asked."""
        now = report.snapshot.monotonic
        if policies is None or now < self._not_before:
            return None
        began = self._spent()
        places = {guest: place for place, guest in enumerate(report.snapshot.guests)}
        decided = [one.entity.id for one in report.decisions if one.entity.id in places]
        texts: dict[str, list[str | None]] = {control: [None] * len(places) for control in controls}
        for guest in dict.fromkeys([*decided, *places]):
            if self._spent() - began > LONGEST_SECONDS:
                break
            for control in controls:
                texts[control][places[guest]] = policies.reason(report.number, guest, control)
        self._not_before = now + (self._spent() - began) / SHARE
        said = {control: column for control, column in texts.items() if any(column)}
        asked_all = all(text is not None for column in texts.values() for text in column)
        return said if said or asked_all else None
