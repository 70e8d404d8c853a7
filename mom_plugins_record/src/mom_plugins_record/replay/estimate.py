"""An estimate of other decisions: the simulator goes on from the recorded state, with the policies of then and of now.

Both are simulated, so that what the simulator gets wrong is wrong in both, and what differs comes of the policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import Value
from mom_plugins_record.recording.reader import Recording, nothing_in
from mom_plugins_record.replay.installed import guest_rules, installed_plugins
from mom_toolkit import RunSummary, SimulationSetup, run_simulation

SIMULATED: Final = ("balloon", "ksm", "offload", "sla")
"""Plugins that read or decide something of the host, and nothing that a simulated host does not have."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Both simulations, and the recording summed up in the same way: how far it is from `then` is how far the simulator may be off.

    `left_out` are the recorded plugins that are not in the simulations.
    """

    recorded: RunSummary
    then: RunSummary
    now: RunSummary
    left_out: tuple[str, ...]


def estimate(recording: Recording, policies: Mapping[str, str], since: float, until: float) -> Estimate:
    """Simulate that time (seconds since the epoch) twice. Raises `MomError` when there is nothing to begin with."""
    begins: float | None = None
    ends = 0.0
    session = None
    was = RunSummary("recorded")
    for recorded in recording.cycles(since, until):
        if begins is None:
            begins, session = recorded.report.time, recorded.session
        ends = max(ends, recorded.report.time)
        was.add(recorded.report)
    if begins is None or session is None:
        raise nothing_in(recording)
    seconds = session.interval
    plugins, left_out = controllers(session.configuration)
    sim: dict[str, Value] = {"recording": str(recording.path), "begins": begins, "ends": ends}
    guests = guest_rules(session.configuration, plugins)
    summaries = []
    for name, texts in (("then", session.policies), ("now", policies)):
        summary = RunSummary(f"policies of {name}, simulated")
        setup = SimulationSetup(name, plugins=plugins, texts=texts, guests=guests)
        for report in run_simulation(sim, setup, seconds, max(seconds, ends - begins)):
            summary.add(report)
        summaries.append(summary)
    return Estimate(was, summaries[0], summaries[1], tuple(left_out))


def controllers(configuration: Mapping[str, Value]) -> tuple[dict[str, Mapping[str, Value]], list[str]]:
    """The recorded plugins that control something, are installed here, and do not touch a real host."""
    installed, left_out = installed_plugins(configuration)
    found = {
        name: one.settings
        for name, one in installed.items()
        if not hasattr(one.plugin_class, "mom_hypervisor")
        and (name in SIMULATED or (hasattr(one.plugin_class, "mom_write") and not hasattr(one.plugin_class, "mom_collect_host")))
    }
    return found, list(left_out)
