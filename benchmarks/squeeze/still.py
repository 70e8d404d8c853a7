"""Nothing changes, and the host has less than it should: does mom keep still?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from managers import MANAGERS, Where, at_work
from mixes import Mix
from one_run import Squeeze, described, mean

LEAST_MIB, MOST_MIB = 1200, 1600
"""Between these the host has less available than is wanted of 24 GiB, and more than where it is hard up."""

RAMP_MIB_S = 120.0
"""How fast memory is taken until then: that is not what is watched here."""

SETTLE_SECONDS, STILL_SECONDS = 120.0, 600.0
"""So long after the last change of the load mom is left to settle, and then watched."""

APPLIED = re.compile(r"\b(\d+) applied\b")


def run(name: str, mix: Mix, libvirtd: Any, image: Any, folder: Path, told: Callable[[str], None]) -> dict[str, Any]:
    """Take memory until the host is short of it, hold, and count what mom does then; as JSON."""
    import libvirt  # type: ignore[import-untyped]  # it has no types

    squeeze = Squeeze(mix, libvirtd, image, folder)
    told(f"starting {mix.count} guests")
    try:
        squeeze.start()
        squeeze.settle()
        with at_work(MANAGERS["mom"], Where(libvirtd.uri, libvirtd.pid_folder, folder)) as running, squeeze.ramp(RAMP_MIB_S):
            connection = libvirt.open(libvirtd.uri)
            log = folder / "manager.log"
            held = 0.0
            while held < SETTLE_SECONDS:
                moment = squeeze.look(connection, running.says)
                if moment.available < (MOST_MIB if held else LEAST_MIB):
                    squeeze.hold_file.touch()
                    held += 1
                else:  # guests have given: there is more to be taken
                    squeeze.hold_file.unlink(missing_ok=True)
                    held = 0.0
                time.sleep(1)
            told(f"  taken {moment.taken:.0f} MiB, available {moment.available:.0f} MiB, {moment.says}")
            begin, told_before, first = time.monotonic(), len(log.read_text()), len(squeeze.trace)
            while time.monotonic() - begin < STILL_SECONDS:
                squeeze.look(connection, running.says)
                time.sleep(1)
            trace = squeeze.trace[first:]
            changes = sum(size != after.sizes.get(guest) for before, after in pairwise(trace) for guest, size in before.sizes.items())
            applied = sum(int(found) for found in APPLIED.findall(log.read_text()[told_before:]))
            done = squeeze.work(begin, time.monotonic())
    finally:
        squeeze.destroy()
    return {
        "mix": name,
        "settled": SETTLE_SECONDS,
        "seconds": STILL_SECONDS,
        "sizes_changed": changes,
        "applied": applied,
        "states": sorted({moment.says for moment in trace}),
        "taken": round(trace[-1].taken),
        "available": mean([moment.available for moment in trace]),
        "kills": done.kills,
        "work": round(done.share / squeeze.unsqueezed, 4),
        "host": described(),
    }
