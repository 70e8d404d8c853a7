"""Answers whether guests fit, from any thread, by what the last cycle saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mom_core import MomError, PluginContext, Snapshot, UnitError, printable
from mom_plugins_sla.admission import MOST_COUNTED, Wanted, about_moving, admission_of, figures_of
from mom_plugins_sla.classes import ServiceClass
from mom_toolkit import NO_PROMISES, Admission, GuestMoves, Promises, Reservations, seen_lately

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""KiB of a guest's memory: 1 MiB and 1 PiB. What is less or more is a mistake in a unit."""


class NoSuchClass(MomError, ValueError):
    """A service class that there is not."""


class HostAdmissions:
    """Implements `Admissions` for this host, by the `classes` as they are now, and by what the last cycle has `seen`."""

    def __init__(self, classes: Mapping[str, ServiceClass], default: str | None, context: PluginContext) -> None:
        self.classes, self._default, self._context = classes, default, context
        self.seen: Snapshot | None = None

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Say whether these guests fit; see `Admissions`."""
        wanted = self._wanted(memory_kib, sla_class, count)
        seen = seen_lately(self.seen, self._context, "nothing can be said")
        kept = self._context.service(Reservations)
        promises = self._context.service(Promises) or NO_PROMISES
        figures = figures_of(seen, None if kept is None else kept.room(), () if kept is None else kept.reservations(), promises)
        if figures is None:
            hint = "it is from the second cycle on, with the plugin balloon, which holds promises, and one that knows the host's memory"
            raise MomError("what the host can promise is not known", hint=hint)
        answer, moves = admission_of(wanted, figures, seen), self._context.service(GuestMoves)
        if answer.admitted or moves is None:
            return answer
        return replace(answer, reasons=(*answer.reasons, about_moving(seen, moves)))

    def _wanted(self, memory_kib: int, sla_class: str, count: int) -> Wanted:
        if not LEAST_KIB <= memory_kib <= MOST_KIB:
            raise UnitError(f"{memory_kib} KiB is no memory of a guest", hint="write it like 8GiB")
        if not 1 <= count <= MOST_COUNTED:
            raise UnitError(f"{count} is no number of guests", hint=f"1 to {MOST_COUNTED}")
        name, classes = sla_class or self._default or "", self.classes
        if name and name not in classes:
            raise NoSuchClass(f"there is no class {printable(name, 40)}", hint=f"there are: {', '.join(classes)}")
        return Wanted(count, memory_kib, name, classes.get(name) or ServiceClass())
