"""Run of a scenario under a real engine."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from mom_core import Report, Value
from mom_kvm import SimulationSetup
from mom_plugins_sim.scenario.schema import Scenario

OFFLOADER: Final = "offload"

SETUPS: Final[Mapping[str, SimulationSetup]] = {
    "nothing": SimulationSetup("nothing", acts=False),
    "defaults": SimulationSetup("defaults"),
    "no-offload": SimulationSetup("no-offload", plugins={name: {} for name in SimulationSetup.CONTROLLERS}),
    "credit": SimulationSetup("credit", plugins={**{name: {} for name in SimulationSetup.CONTROLLERS}, "cgroup": {"credit": True}}),
}
"""Setups that `--compare` accepts by name.

- `nothing`: mom only observes.
- `defaults`: the default policies.
- `no-offload`: like `defaults`, but mom moves no cold memory to swap.
- `credit`: like `no-offload`, and mom limits guests' growth while they could exhaust the host.
"""


def run_scenario(
    scenario: Scenario, path: Path, setup: SimulationSetup, seed: int | None, lasts: float, record: Path | None = None
) -> Generator[Report, None, None]:
    """Yield the reports of all cycles. Raise `MomError` for missing plugins or invalid policies.

    :param path: the scenario's file
    :param lasts: simulated seconds
    :param record: folder for a recording
    """
    sim: dict[str, Value] = {"scenario": str(path)}
    if seed is not None:
        sim["seed"] = seed
    setup = replace(setup, plugins=plugins_of(scenario, setup))
    return setup.run(sim, scenario.interval, lasts, record)


def plugins_of(scenario: Scenario, setup: SimulationSetup) -> Mapping[str, Mapping[str, Value]]:
    """Return the setup's plugins with their settings. Add the `sla` plugin if the scenario uses service classes."""
    usual = (*SimulationSetup.CONTROLLERS, *([OFFLOADER] if scenario.host.zram else ()))
    plugins = setup.plugins if setup.plugins is not None else {name: {} for name in usual}
    if not scenario.classes and all(group.sold_as is None for group in scenario.guests.values()):
        return plugins
    return {**plugins, "sla": {"classes": {name: dict(settings) for name, settings in scenario.classes.items()}}}
