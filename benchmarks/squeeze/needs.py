"""Memory that guests need under any manager, and so the most that could be taken without memory that programs use."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guests_told import DemandLine, Listener
from merit import WINDOW_SECONDS, Inside, Moment

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests/real"))

from steady_host import anonymous_mib  # only found from here on

KIB_PER_MIB = 1024

CALM_SECONDS = 6.0
"""A program that has held the same memory for this long is compared with statistics, which are up to two seconds old."""

FRESH_SECONDS = 4.0
"""Statistics come every two seconds. Older ones are not used."""


@dataclass(frozen=True)
class Needs:
    """Needs of all guests together, in MiB: the peak of their `programs`, their `kernels`, and QEMU `processes` besides the guests' memory.

    `merged` is what KSM had merged of that at the end. `free` is not needed: other memory of guests that the host had backed at the end.
    """

    programs: float
    kernels: float
    processes: float
    merged: float
    free: float

    @property
    def total(self) -> float:
        """Return the host's memory that is needed, in MiB."""
        return self.programs + self.kernels + self.processes - self.merged


def could_be_taken(capacity: float, floor: float, needs: Needs) -> float:
    """Return what a perfect manager could take without memory that a program uses, in MiB.

    :param capacity: memory that guests hold and that is available at the beginning, together
    :param floor: memory available at the end
    """
    return capacity - floor - needs.total


def needs_in(trace: Sequence[Moment]) -> Needs | None:
    """Return the needs in a trace; `None` if no sample has details of a guest.

    A QEMU process holds ever more translated code, so its last sample counts.
    """
    seen: dict[str, list[Inside]] = {}
    for moment in trace:
        for name, inside in moment.inside.items():
            seen.setdefault(name, []).append(inside)
    if not seen:
        return None
    others = max(1.0, len(trace[-1].sizes) / len(seen))  # guests without details count like the others
    kernels = {name: kernel(mine) for name, mine in seen.items()}
    return Needs(
        programs=max(moment.programs for moment in trace),
        kernels=others * sum(kernels.values()),
        processes=others * sum(mine[-1].beside for mine in seen.values()),
        merged=statistics.mean(moment.merged for moment in trace if moment.time > trace[-1].time - WINDOW_SECONDS),
        free=others * sum(mine[-1].backed - mine[-1].resident - kernels[name] for name, mine in seen.items()),
    )


LEAST_LOOKS = 0.1
"""Ratio of samples: a kernel needs what it uses in the lowest of them. Two counts are never from quite the same moment."""


def kernel(looks: Sequence[Inside]) -> float:
    """Return what a guest's kernel needs besides its program, page cache included, in MiB.

    It is at most what the kernel reports as used. This includes pages on lists of its CPUs that a program has freed: 46 MiB in a guest of
    1 GiB. It is also at most what the host has backed. The memory that a kernel reserves at its start is the balloon's size less the total,
    unless the size has just changed. The need for swap cannot be told apart, so samples of a guest that has swapped count only if there are
    no others.
    """
    looks = [look for look in looks if not look.swap] or looks
    reserved = statistics.median(look.size - look.available for look in looks)
    beside = sorted(min(reserved + look.available - look.unused, look.backed) - look.resident for look in looks)
    return beside[int(LEAST_LOOKS * len(beside))]


def look_into(records: Mapping[str, Mapping[str, int]], pids: Mapping[str, int], listeners: Mapping[str, Listener]) -> dict[str, Inside]:
    """Return details of all guests whose programs are calm now. This reads one file for each process.

    :param records: balloons in KiB, by libvirt's names
    :param pids: QEMU processes
    """
    details = {}
    for name, record in records.items():
        program = calm(listeners[name]) if name in listeners else None
        with suppress(OSError):  # the guest may have ended
            smaps = Path(f"/proc/{pids[name]}/smaps").read_text() if program is not None and name in pids else ""
            inside = inside_of(record, smaps, anonymous_mib(pids.get(name, 0)), program)
            if inside is not None:
                details[name] = inside
    return details


def calm(listener: Listener) -> DemandLine | None:
    """Return a program's last line if it has held the same memory for a while."""
    now = time.monotonic()
    line, before = listener.at(now), listener.at(now - CALM_SECONDS)
    return line if line is not None and before is not None and line.held == before.held else None


def inside_of(record: Mapping[str, int], smaps: str, held: float, program: DemandLine | None) -> Inside | None:
    """Return the details of one guest; `None` if something is unknown.

    :param record: its balloon
    :param smaps: mappings of its process
    :param held: memory of the process, in MiB
    :param program: its program, if that is calm
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
    """Return the part of a guest's memory that the host has backed, in MiB; `None` if several mappings have its size, or none.

    :param smaps: mappings of the process
    :param maximum: the guest's memory, KiB
    """
    sizes = re.findall(rf"\nSize: +{maximum} kB\n(?:\w+: +\d+ kB\n)*?Rss: +(\d+) kB", smaps)
    return int(sizes[0]) / KIB_PER_MIB if len(sizes) == 1 else None
