"""The host's KSM. Tests restore it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from real_guests import not_here

KSM = Path("/sys/kernel/mm/ksm")
KNOBS = ("run", "pages_to_scan", "sleep_millisecs", "merge_across_nodes")


def knobs() -> dict[str, str]:
    """Return the settings that mom can change, keyed by name."""
    return {name: (KSM / name).read_text().strip() for name in KNOBS if (KSM / name).exists()}


def pages_sharing() -> int:
    """Return the pages that KSM saves."""
    return int((KSM / "pages_sharing").read_text())


@contextmanager
def stopped_ksm() -> Iterator[Mapping[str, str]]:
    """Stop KSM if it has merged nothing, and yield its knobs. At the end, unmerge all pages and restore the knobs."""
    if not (KSM / "run").exists() or not os.access(KSM / "run", os.W_OK):
        not_here("this kernel's KSM cannot be set here")
    before = knobs()
    if before["run"] == "1" and pages_sharing():
        not_here(f"KSM has merged {pages_sharing()} pages on this host, and these tests would unmerge them")
    (KSM / "run").write_text("0")  # 2, the value after unmerging, also means stopped
    try:
        yield {**before, "run": "0"}
    finally:
        (KSM / "run").write_text("2")
        for name, value in before.items():
            if name != "run":
                (KSM / name).write_text(value)
        (KSM / "run").write_text(before["run"])
