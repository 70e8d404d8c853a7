"""What guests need, whoever manages them, and so the most that could be taken without taking memory that programs use."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guests_told import Listener, Told
from merit import WINDOW_SECONDS, Inside, Moment

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from steady_host import anonymous_mib  # only found from here on

KIB_PER_MIB = 1024

CALM_SECONDS = 6.0
"""For so long a program has held the same when it is compared with statistics: they are up to two seconds old, what it says up to one."""

FRESH_SECONDS = 4.0
"""Statistics come every two seconds; older ones are of another time."""


@dataclass(frozen=True)
class Needs:
    """MiB of all guests together: what their `programs` use at most at the same time, beside it their `kernels`, their QEMU `processes`
    beside the guests' memory, how much of all that is `merged` at the end. `free`, which is no need, is what else the host
    has backed of guests' memory at the end."""

    programs: float
    kernels: float
    processes: float
    merged: float
    free: float

    @property
    def total(self) -> float:
        """MiB of the host."""
        return self.programs + self.kernels + self.processes - self.merged


def could_be_taken(capacity: float, floor: float, needs: Needs) -> float:
    """MiB that a manager could take that knows everything, and takes nothing that a program uses.

    :param capacity: what guests hold and what is available at the beginning, together
    :param floor: what is left available at the end
    """
    return capacity - floor - needs.total


def needs_in(trace: Sequence[Moment]) -> Needs | None:
    """From what was seen; None when no guest was ever looked into.

    A process holds ever more translated code, so that the last look counts. What is merged is in use at the end, when the rest has been
    taken.
    """
    seen: dict[str, list[Inside]] = {}
    for moment in trace:
        for name, inside in moment.inside.items():
            seen.setdefault(name, []).append(inside)
    if not seen:
        return None
    others = max(1.0, len(trace[-1].sizes) / len(seen))  # guests that were never calm when looked at count as the others do
    kernels = {name: kernel(mine) for name, mine in seen.items()}
    return Needs(
        programs=max(moment.programs for moment in trace),
        kernels=others * sum(kernels.values()),
        processes=others * sum(mine[-1].beside for mine in seen.values()),
        merged=statistics.mean(moment.merged for moment in trace if moment.time > trace[-1].time - WINDOW_SECONDS),
        free=others * sum(mine[-1].backed - mine[-1].resident - kernels[name] for name, mine in seen.items()),
    )


LEAST_LOOKS = 0.1
"""Ratio. What a kernel needs is what it gets by with in so many of all looks: two counts are never of quite the same moment."""


def kernel(looks: Sequence[Inside]) -> float:
    """MiB that a guest's kernel needs beside its program, page cache included.

    It is no more than what the kernel says that it uses. That counts pages which it keeps for a while, on lists of its CPUs, after a
    program has freed them: 46 MiB in a guest of 1 GiB. And it is no more than what the host has backed, as the guest works with that.
    A size is of now, and what is available and unused of the last statistics; what a kernel keeps for itself at its start, and never
    counts, is the difference where the size has not just changed. Where a guest has swapped, what its swap takes cannot be told apart.
    """
    looks = [look for look in looks if not look.swap] or looks
    reserved = statistics.median(look.size - look.available for look in looks)
    beside = sorted(min(reserved + look.available - look.unused, look.backed) - look.resident for look in looks)
    return beside[int(LEAST_LOOKS * len(beside))]


def look_into(records: Mapping[str, Mapping[str, int]], pids: Mapping[str, int], listeners: Mapping[str, Listener]) -> dict[str, Inside]:
    """All guests whose programs are calm now; one file of each process is read.

    :param records: of balloons, in KiB, by the names that libvirt has for them
    :param pids: the guests' processes
    """
    found = {}
    for name, record in records.items():
        program = calm(listeners[name]) if name in listeners else None
        with suppress(OSError):  # the guest may have ended
            smaps = Path(f"/proc/{pids[name]}/smaps").read_text() if program is not None and name in pids else ""
            inside = inside_of(record, smaps, anonymous_mib(pids.get(name, 0)), program)
            if inside is not None:
                found[name] = inside
    return found


def calm(listener: Listener) -> Told | None:
    """What a program says that holds as much as it has held for a while; None when it grows, shrinks, or has only begun."""
    now = time.monotonic()
    told, before = listener.at(now), listener.at(now - CALM_SECONDS)
    return told if told is not None and before is not None and told.held == before.held else None


def inside_of(record: Mapping[str, int], smaps: str, held: float, program: Told | None) -> Inside | None:
    """One guest, from the statistics of its balloon and the mappings of its process; None when something of that is not known.

    :param held: MiB that the process holds
    :param program: what its program says, if that can be compared
    """
    names = ("current", "maximum", "unused", "available", "usable", "last-update")
    size, maximum, unused, available, usable, updated = (record.get(f"balloon.{name}") for name in names)
    if program is None or size is None or maximum is None or unused is None or available is None or usable is None or updated is None:
        return None
    backed = backed_mib(smaps, maximum)
    if backed is None or time.time() - updated > FRESH_SECONDS:
        return None
    mib = (size / KIB_PER_MIB, available / KIB_PER_MIB, unused / KIB_PER_MIB, usable / KIB_PER_MIB, backed, held - backed)
    return Inside(program.held, round(program.swap / KIB_PER_MIB, 1), *(round(one, 1) for one in mib))


def backed_mib(smaps: str, maximum: int) -> float | None:
    """MiB that the host has backed of a guest's memory: of the one mapping that is as large as that.

    :param smaps: what the kernel says of all mappings of the process; found by text, as there are hundreds
    :param maximum: the guest's memory, KiB
    """
    found = re.findall(rf"\nSize: +{maximum} kB\n(?:\w+: +\d+ kB\n)*?Rss: +(\d+) kB", smaps)
    return int(found[0]) / KIB_PER_MIB if len(found) == 1 else None
