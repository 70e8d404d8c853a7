"""ksmtuned.conf: its variables as parameters of mom's KSM law, which begins by the same rule and goes on by what merging yields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mom_cli import Imported, Importer
from mom_core import ConfigError, ConfigProblem, printable

DEFAULTS: Final = {
    "KSM_MONITOR_INTERVAL": 60,
    "KSM_SLEEP_MSEC": 10,
    "KSM_NPAGES_BOOST": 300,
    "KSM_NPAGES_DECAY": -50,
    "KSM_NPAGES_MIN": 64,
    "KSM_NPAGES_MAX": 1250,
    "KSM_THRES_COEF": 20,
    "KSM_THRES_CONST": 2048,
}
"""ksmtuned's own: seconds, ms, pages, percent of all memory, MiB."""

_BOUNDS: Final = {
    "KSM_MONITOR_INTERVAL": (1, 3600),
    "KSM_SLEEP_MSEC": (1, 100_000),
    "KSM_NPAGES_BOOST": (1, 1_000_000),
    "KSM_NPAGES_DECAY": (-1_000_000, -1),
    "KSM_NPAGES_MIN": (1, 1_000_000),
    "KSM_NPAGES_MAX": (1, 1_000_000),
    "KSM_THRES_COEF": (0, 100),
    "KSM_THRES_CONST": (0, 1 << 30),
}
_ELSEWHERE: Final = {
    "LOGFILE": "mom writes to standard error, which systemd keeps in its journal",
    "DEBUG": "set log_level: debug instead",
}
_ASSIGNMENT: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(?:\"([^\"]*)\"|'([^']*)'|([^\s#;]*))\s*(?:[#;].*)?")


def import_ksmtuned(text: str, file: str) -> Imported:
    """Turn ksmtuned's configuration into mom's. Raises `ConfigError` with everything that is wrong."""
    imported = Imported(
        f"Made by `mom config import --from ksmtuned` from {file}. Stop ksmtuned before mom starts: both set the same knobs."
    )
    values, problems = _values(text, file, imported)
    if values["KSM_NPAGES_MIN"] > values["KSM_NPAGES_MAX"]:
        problems.append(ConfigProblem(file, 0, 0, "KSM_NPAGES_MIN is larger than KSM_NPAGES_MAX"))
    if problems:
        raise ConfigError(sorted(problems))
    seconds = values["KSM_MONITOR_INTERVAL"]
    imported.top.set("interval", f"{seconds}s", "KSM_MONITOR_INTERVAL: so often the speed is looked at")
    imported.plugin("host", "what memory is available")
    imported.plugin("ksm", "what ksmtuned did").set(
        "law", _law(values), "KSM_THRES_COEF, KSM_THRES_CONST, KSM_NPAGES_MIN and _MAX, KSM_SLEEP_MSEC"
    )
    imported.plugin("policy", "it takes what the law suggests")
    imported.notes.append(
        f"KSM_SLEEP_MSEC={values['KSM_SLEEP_MSEC']} is for a host of 16 GiB, and ksmtuned pauses less on larger ones; mom does not"
    )
    imported.notes.append("ksmtuned counts the memory of all QEMU processes; mom looks at what the kernel says is available")
    boost, decay = values["KSM_NPAGES_BOOST"], values["KSM_NPAGES_DECAY"]
    imported.notes.append(
        f"KSM_NPAGES_BOOST={boost} and KSM_NPAGES_DECAY={decay} have no counterpart: mom sets the speed by what merging yields for "
        "ksmd's CPU time, below a share of the host's: law.worth, law.cpu_share and law.cpu_ceiling of the plugin ksm"
    )
    return imported


def _values(text: str, file: str, imported: Imported) -> tuple[dict[str, int], list[ConfigProblem]]:
    values = dict(DEFAULTS)
    problems: list[ConfigProblem] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            imported.notes.append(f"line {number}: {printable(line.strip(), 60)} is no assignment")
            continue
        name, value = match[1], next((group for group in match.groups()[1:] if group is not None), "")
        if name in _ELSEWHERE:
            imported.notes.append(f"{name}={printable(value, 80)}: {_ELSEWHERE[name]}")
        elif name not in DEFAULTS:
            imported.notes.append(f"line {number}: ksmtuned has no {name}")
        else:
            lowest, highest = _BOUNDS[name]
            if not re.fullmatch(r"-?[0-9]{1,12}", value) or not lowest <= int(value) <= highest:
                what = f"{name}: {printable(value or 'nothing', 40)} is no whole number from {lowest} to {highest}"
                problems.append(ConfigProblem(file, number, 1, what))
            else:
                values[name] = int(value)
    return values, problems


def _law(values: dict[str, int]) -> dict[str, str | int | float]:
    """The law's parameters: memory is short below the larger of a share and an amount, also on large hosts and on tiny ones."""
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


def _convert(texts: Mapping[str, str]) -> Imported:
    ((file, text),) = texts.items()
    return import_ksmtuned(text, file)


KSMTUNED: Final = Importer("ksmtuned", "the configuration of ksmtuned, /etc/ksmtuned.conf", _convert)
