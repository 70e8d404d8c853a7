"""Imports ksmtuned.conf as parameters of mom's KSM law."""

from __future__ import annotations

import re
from typing import Final

from mom_core import ConfigError, ConfigProblem, printable
from mom_daemon import Imported, Importer

_VARIABLES: Final = {
    "KSM_MONITOR_INTERVAL": (60, 1, 3600),
    "KSM_SLEEP_MSEC": (10, 1, 100_000),
    "KSM_NPAGES_MIN": (64, 1, 1_000_000),
    "KSM_NPAGES_MAX": (1250, 1, 1_000_000),
    "KSM_THRES_COEF": (20, 0, 100),
    "KSM_THRES_CONST": (2048, 0, 1 << 30),
}
"""ksmtuned's defaults, each with the smallest and the largest value that mom accepts. Units in this order: s, ms, pages, pages,
% of all memory, MiB."""

_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=[\"']?([^\s#;\"']*)[\"']?\s*(?:[#;].*)?")


def import_ksmtuned(text: str, file: str) -> Imported:
    """Convert ksmtuned's configuration for mom. Raise a `ConfigError` that lists all mistakes."""
    imported = Imported(f"Made by `mom config import --from ksmtuned` from {file}. Stop ksmtuned first: both set the same knobs.")
    values = _values(text, file, imported)
    imported.top.set("interval", f"{values['KSM_MONITOR_INTERVAL']}s", "KSM_MONITOR_INTERVAL: time between adjustments of the speed")
    imported.plugin("host", "reports the available memory")
    imported.plugin("ksm", "replaces ksmtuned").set(
        "law", _law(values), "KSM_THRES_COEF, KSM_THRES_CONST, KSM_NPAGES_MIN and _MAX, KSM_SLEEP_MSEC"
    )
    imported.plugin("policy", "applies the KSM law's suggestions")
    imported.notes.append("ksmtuned counts the memory of all QEMU processes; mom uses the available memory that the kernel reports")
    imported.notes.append(
        "mom sets ksmd's speed by the memory saved per second of its CPU time: see law.worth, law.cpu_share and law.cpu_ceiling"
    )
    return imported


def _values(text: str, file: str, imported: Imported) -> dict[str, int]:
    values = {name: default for name, (default, _, _) in _VARIABLES.items()}
    problems: list[ConfigProblem] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        match = _ASSIGNMENT.fullmatch(line)
        if match is None or match[1] not in _VARIABLES:
            if line.strip() and not line.lstrip().startswith("#"):
                imported.notes.append(f"line {number}: {printable(line.strip(), 60)} has no counterpart in mom")
            continue
        name, value = match[1], match[2]
        _, least, most = _VARIABLES[name]
        if re.fullmatch(r"[0-9]{1,12}", value) and least <= int(value) <= most:
            values[name] = int(value)
        else:
            message = f"{name}: {printable(value or 'nothing', 40)} is not a whole number from {least} to {most}"
            problems.append(ConfigProblem(file, number, 1, message))
    if values["KSM_NPAGES_MIN"] > values["KSM_NPAGES_MAX"]:
        problems.append(ConfigProblem(file, 0, 0, "KSM_NPAGES_MIN is larger than KSM_NPAGES_MAX"))
    if problems:
        raise ConfigError(sorted(problems))
    return values


def _law(values: dict[str, int]) -> dict[str, str | int | float]:
    # On hosts of any size, ksmtuned's threshold is the larger of a share of memory and a fixed amount.
    share = values["KSM_THRES_COEF"] / 100
    return {
        "start_share": share,
        "start_large_share": share,
        "start_least": f"{values['KSM_THRES_CONST']}MiB",
        "start_least_share": 1.0,
        "pages_least": values["KSM_NPAGES_MIN"],
        "pages_most": values["KSM_NPAGES_MAX"],
        "sleep_ms": min(1000, max(10, values["KSM_SLEEP_MSEC"])),
    }


def importers() -> list[Importer]:
    """Return the importer for `mom config import`."""
    return [Importer("ksmtuned", "the configuration of ksmtuned, /etc/ksmtuned.conf", import_ksmtuned)]
