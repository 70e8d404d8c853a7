"""Nothing changes, and the host has less than it should: does mom keep still?"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from guest_hosts import GuestHost
from managers import MANAGERS, Where, applied, at_work
from mixes import Mix
from one_run import Squeeze, described, mean

LEAST_MIB, MOST_MIB = 1200, 1600
"""Between these the host has less available than is wanted of 24 GiB, and more than where it is hard up."""

RAMP_MIB_S = 120.0
"""How fast memory is taken until then: that is not what is watched here."""

SETTLE_SECONDS, STILL_SECONDS = 120.0, 600.0
"""So long after the last change of the load mom is left to settle, and then watched."""

PATIENCE_SECONDS = 600.0
"""Guests that always find more to give by then never leave the host short of memory."""


def run(name: str, mix: Mix, host: GuestHost, folder: Path, told: Callable[[str], None]) -> dict[str, Any]:
    """Take memory until the host is short of it, hold, and count what mom does then; as JSON."""
    squeeze = Squeeze(mix, host, folder)
    told(f"starting {mix.count} guests")
    try:
        squeeze.start()
        squeeze.settle()
        where = Where(host, folder)
        with at_work(MANAGERS["mom-asked"], where) as running, squeeze.ramp(RAMP_MIB_S):
            held, patience = 0.0, time.monotonic() + PATIENCE_SECONDS
            while held < SETTLE_SECONDS:
                if time.monotonic() > patience:
                    raise RuntimeError(f"the host is not left with {LEAST_MIB} to {MOST_MIB} MiB within {PATIENCE_SECONDS:.0f} s")
                moment = squeeze.look(running.says)
                if moment.available < (MOST_MIB if held else LEAST_MIB):
                    squeeze.hold_file.touch()
                    held += 1
                else:  # guests have given: there is more to be taken
                    squeeze.hold_file.unlink(missing_ok=True)
                    held = 0.0
                time.sleep(1)
            told(f"  taken {moment.taken:.0f} MiB, available {moment.available:.0f} MiB, {moment.says}")
            begin, before, first = time.monotonic(), applied(where.socket), len(squeeze.trace)
            while time.monotonic() - begin < STILL_SECONDS:
                squeeze.look(running.says)
                time.sleep(1)
            trace = squeeze.trace[first:]
            changes = sum(size != after.sizes.get(guest) for before, after in pairwise(trace) for guest, size in before.sizes.items())
            commands = {control: count - before.get(control, 0) for control, count in applied(where.socket).items()}
            done = squeeze.work(begin, time.monotonic())
    finally:
        squeeze.destroy()
    return {
        "mix": name,
        "settled": SETTLE_SECONDS,
        "seconds": STILL_SECONDS,
        "sizes_changed": changes,
        "applied": {control: count for control, count in commands.items() if count},
        "states": sorted({moment.says for moment in trace}),
        "taken": round(trace[-1].taken),
        "available": mean([moment.available for moment in trace]),
        "kills": done.kills,
        "work": round(done.share / squeeze.unsqueezed, 4),
        "host": described(),
    }
