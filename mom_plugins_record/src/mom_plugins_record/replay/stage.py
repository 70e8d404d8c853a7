"""A recorded host on the simulator's stage: what is simulated of a recording, to try other policies or more guests on it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Report, Value
from mom_kvm import SimulationSetup, run_simulation
from mom_plugins_record.recording.reader import RecordedCycle, Recording, nothing_in
from mom_plugins_record.replay.installed import guest_rules, installed_plugins

SIMULATED: Final = ("balloon", "ksm", "offload", "sla")
"""Plugins that read or decide something of the host, and nothing that a simulated host does not have."""


@dataclass(frozen=True, slots=True)
class RecordedStage:
    """Time of a recording (seconds since the epoch), with the plugins, guests' settings and policies that were in force at its beginning.

    `left_out` are the recorded plugins that are not simulated; `host` is the recorded host's name.
    """

    path: Path
    begins: float
    ends: float
    interval: float
    plugins: Mapping[str, Mapping[str, Value]]
    guests: Mapping[str, Value]
    policies: Mapping[str, str]
    left_out: tuple[str, ...]
    host: str

    @classmethod
    def of(
        cls,
        recording: Recording,
        cycles: Iterable[RecordedCycle],
        configuration: Mapping[str, Value] | None = None,
        needed: Iterable[str] = (),
    ) -> RecordedStage:
        """Return the stage of these cycles. Raises `MomError` when there are none.

        :param configuration: in place of the recorded one
        :param needed: plugins that are there even if the configuration does not name them
        """
        first, ends = None, 0.0
        for recorded in cycles:
            first = first or recorded
            ends = max(ends, recorded.report.time)
        if first is None:
            raise nothing_in(recording)
        session = first.session
        document = session.configuration if configuration is None else configuration
        installed, left_out = installed_plugins(document)
        controllers = {
            name: one.settings
            for name, one in installed.items()
            if not hasattr(one.plugin_class, "mom_hypervisor")
            and (name in SIMULATED or (hasattr(one.plugin_class, "mom_write") and not hasattr(one.plugin_class, "mom_collect_host")))
        }
        plugins = {**{name: {} for name in needed}, **controllers}
        guests = guest_rules(document, plugins)
        host = first.report.snapshot.host.name
        return cls(recording.path, first.report.time, ends, session.interval, plugins, guests, session.policies, tuple(left_out), host)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.ends - self.begins

    def run(
        self, name: str, policies: Mapping[str, str], sim: Mapping[str, Value] | None = None, guests: Mapping[str, Value] | None = None
    ) -> Generator[Report, None, None]:
        """Return the reports of a simulation with these policies.

        :param sim: more settings of the simulator
        :param guests: more of the section `guests`
        """
        settings: dict[str, Value] = {"recording": str(self.path), "begins": self.begins, "ends": self.ends, **(sim or {})}
        setup = SimulationSetup(name, plugins=self.plugins, texts=policies, guests={**self.guests, **(guests or {})})
        return run_simulation(settings, setup, self.interval, max(self.interval, self.seconds))
