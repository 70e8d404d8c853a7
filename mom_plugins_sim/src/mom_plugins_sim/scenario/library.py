"""The scenarios that come with mom, and those in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mom_core import MomError, printable, read_settings
from mom_plugins_sim.scenario.schema import Scenario

FOLDER = Path(__file__).parent / "scenarios"

SUFFIX = ".yaml"

YAML = frozenset({SUFFIX, ".yml"})


class NoScenario(MomError, ValueError):
    """There is no scenario of that name, or no such file."""


def built_in() -> Mapping[str, Path]:
    """Name to file."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def find_scenario(name: str) -> Path:
    """The file of that path, or the scenario of that name. Raises `NoScenario`."""
    path = Path(name)
    if path.suffix in YAML or "/" in name:
        return path
    found = built_in().get(name)
    if found is None:
        raise NoScenario(f"there is no scenario {printable(name)}", hint=f"there are {', '.join(built_in())}; or name a file *{SUFFIX}")
    return found


def read_scenario(path: Path) -> Scenario:
    """The scenario in a file. Raises `ConfigError` with all that is wrong, each with its place, and `NoScenario`."""
    if not path.exists():
        raise NoScenario(f"there is no file {path}", hint="`mom simulate --list` shows the scenarios that come with mom")
    return read_settings(path, Scenario)
