"""Runs a scenario under a real engine: the same code that manages a real host, with a clock that is told what time it is."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mom_core import Clock, Engine, MomError, Report, Value, load_config
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.recording.writer import must_be_new
from mom_plugins_sim.scenario.schema import Scenario

MIDNIGHT: Final = 1_767_225_600.0
"""Seconds since the epoch. Every simulation begins at the same midnight, in UTC."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether a guest needs a cycle out of turn: as often as guests send statistics at best."""

CONTROLLERS: Final = ("balloon", "ksm")
"""The plugins whose default policies are tried, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is tried: a name for it, policy files and folders on top of the defaults, and whether mom acts at all.

    `plugins` are those that control, with their settings. `texts` are all policies by name, in place of defaults and files; `guests` is
    the section of that name.
    """

    name: str
    policies: Sequence[Path] = ()
    acts: bool = True
    plugins: Mapping[str, Mapping[str, Value]] | None = None
    texts: Mapping[str, str] | None = None
    guests: Mapping[str, Value] | None = None


def run_scenario(
    scenario: Scenario, path: Path, setup: Setup, seed: int | None, lasts: float, record: Path | None = None
) -> Generator[Report, None, None]:
    """The reports of all cycles, as fast as they are asked for; the same for the same scenario, setup and seed.

    :param path: the scenario's file
    :param lasts: simulated seconds
    :param record: a folder for a recording
    Raises `MomError` when plugins are missing, or policies are wrong.
    """
    sim: dict[str, Value] = {"scenario": str(path)}
    if seed is not None:
        sim["seed"] = seed
    return run_simulation(sim, with_classes(scenario, setup), scenario.interval, lasts, record)


def with_classes(scenario: Scenario, setup: Setup) -> Setup:
    """The same, with the classes that groups of guests are sold as; unchanged where there are none."""
    sold = {f"{name}-*": group.sold_as for name, group in scenario.guests.items() if group.sold_as is not None}
    if not sold and not scenario.classes:
        return setup
    plugins = dict(setup.plugins) if setup.plugins is not None else {name: {} for name in CONTROLLERS}
    classes: Mapping[str, Value] = {"classes": {name: dict(settings) for name, settings in scenario.classes.items()}}
    guests = {pattern: {"class": name} for pattern, name in sold.items()}
    return replace(setup, plugins={**plugins, "sla": classes}, guests={**guests, **(setup.guests or {})})


def run_simulation(
    sim: Mapping[str, Value], setup: Setup, interval: float, lasts: float, record: Path | None = None
) -> Generator[Report, None, None]:
    """The same for any settings of the plugin `sim`, with so many seconds between two cycles."""
    now = 0.0
    with tempfile.TemporaryDirectory(prefix="mom-simulate-", dir=_memory()) as folder:
        config = load_config(_configuration(sim, setup, interval, record, Path(folder)))
        with Engine(config, Clock(lambda: now, lambda: MIDNIGHT + now)) as engine:
            hypervisor = engine.hypervisor
            if not isinstance(hypervisor, SimHypervisor):
                raise MomError("another plugin's hypervisor is used", hint="leave it out: a scenario has its own")
            cycles = math.floor(lasts / interval + 1e-9)
            for number in range(1, cycles + 1):
                due = number * interval
                while now + LOOK_SECONDS < due:
                    now += LOOK_SECONDS
                    reason = hypervisor.news()
                    if reason:
                        yield engine.cycle(reason)
                now = due
                yield engine.cycle()


def _configuration(sim: Mapping[str, Value], setup: Setup, interval: float, record: Path | None, folder: Path) -> dict[str, object]:
    controllers = setup.plugins if setup.plugins is not None else {name: {} for name in CONTROLLERS}
    policy: dict[str, object] = {}
    if setup.policies:
        policy["directory"] = str(_gathered(setup.policies, folder / "policy.d"))
    if setup.texts is not None:
        policy = {"directory": str(_written(setup.texts, folder / "policy.d")), "defaults": False}
    plugins: dict[str, object] = {"sim": sim, **controllers, "policy": policy}
    if record is not None:
        plugins["record"] = {"path": str(must_be_new(record))}
    return {
        "interval": f"{interval:g}s",
        "mode": "enforce" if setup.acts else "observe",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "plugins": plugins,
        "guests": dict(setup.guests or {}),
    }


def _gathered(paths: Sequence[Path], folder: Path) -> Path:
    """One folder with all these policies, as the evaluator wants them."""
    folder.mkdir()
    for path in paths:
        try:
            files = sorted(path.glob("*.policy")) if path.is_dir() else [path]
            for file in files:
                name = file.name if file.name.endswith(".policy") else f"{file.name}.policy"
                (folder / name).write_bytes(file.read_bytes())
        except OSError as error:
            raise MomError(f"cannot read {error.filename or path}: {error.strerror}") from error
        if not files:
            raise MomError(f"there is no *.policy in {path}")
    return folder


def _written(texts: Mapping[str, str], folder: Path) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name.replace('/', '_')}.policy").write_text(text, encoding="utf-8")
    return folder


def _memory() -> str | None:
    """A folder in memory, if there is one: the ledger is on disk after each change, and a simulation changes much."""
    path = Path("/dev/shm")  # noqa: S108  # a folder of its own name is made in it
    return str(path) if path.is_dir() else None
