"""Scenarios that come with mom, and scenarios in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mom_core import MomError, printable, read_settings
from mom_plugins_sim.scenario.schema import Scenario

FOLDER = Path(__file__).parent / "scenarios"

SUFFIX = ".yaml"

YAML = frozenset({SUFFIX, ".yml"})


class NoScenario(MomError, ValueError):
    """Unknown scenario or missing file."""


def built_in() -> Mapping[str, Path]:
    """Return the scenarios' files keyed by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def find_scenario(name: str) -> Path:
    """Return the file of the scenario with this path or name. Raise `NoScenario` for an unknown name."""
    path = Path(name)
    if path.suffix in YAML or "/" in name:
        return path
    scenarios = built_in()
    if name not in scenarios:
        raise NoScenario(
            f"there is no scenario {printable(name)}",
            hint=f"existing scenarios: {', '.join(scenarios)}; or give the path of a file *{SUFFIX}",
        )
    return scenarios[name]


def read_scenario(path: Path) -> Scenario:
    """Read a scenario. Raise `NoScenario` for a missing file, or `ConfigError` that lists all errors with their places."""
    if not path.exists():
        raise NoScenario(f"there is no file {path}", hint="`mom simulate --list` shows the scenarios that come with mom")
    return read_settings(path, Scenario)
