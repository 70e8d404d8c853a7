"""KSM of the host: its files, and a run that leaves them as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

KSM = Path("/sys/kernel/mm/ksm")
KNOBS = ("pages_to_scan", "sleep_millisecs", "smart_scan", "advisor_mode", "run")
UNMERGE = "2"


def write_ksm(settings: Mapping[str, str]) -> None:
    """Write settings, except those that this kernel does not have."""
    for name, value in settings.items():
        with suppress(OSError):
            (KSM / name).write_text(value)


def read_ksm() -> dict[str, str]:
    """Return the settings that this kernel has."""
    settings = {}
    for name in KNOBS:
        with suppress(OSError):
            text = (KSM / name).read_text().strip()
            settings[name] = text.partition("[")[2].partition("]")[0] or text  # the chosen word
    return settings


@contextmanager
def ksm_restored(settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Change settings until the end of the block. Nothing is merged before, unless KSM runs, and nothing after."""
    before = read_ksm()
    try:
        write_ksm({} if before.get("run") == "1" else {"run": UNMERGE})
        write_ksm(settings or {})
        yield
    finally:
        write_ksm({"run": UNMERGE, "advisor_mode": "none"})  # an advisor forbids other settings
        write_ksm(before)
