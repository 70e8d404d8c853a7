"""Simulation of a recorded host, to try other policies or more guests."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import MomError, Report, Value, load_config
from mom_kvm import RunSummary, SimulationSetup
from mom_plugins_record.recording.reader import RecordedCycle, Recording, nothing_in


@dataclass(frozen=True, slots=True)
class Estimate:
    """Summaries of a recording, and of its simulation with the recorded policies (`then`) and with others (`now`).

    The difference between `recorded` and `then` shows the simulator's error.
    """

    recorded: RunSummary
    then: RunSummary
    now: RunSummary
    left_out: tuple[str, ...]


def estimate(recording: Recording, policies: Mapping[str, str], since: float, until: float) -> Estimate:
    """Simulate a period with the recorded policies, and with `policies`. Raise `MomError` if the period has no cycle.

    :param since: seconds since the epoch
    """
    was = RunSummary("recorded")

    def summed() -> Iterator[RecordedCycle]:
        for recorded in recording.cycles(since, until):
            was.add(recorded.report)
            yield recorded

    stage = RecordedStage.of(recording, summed())
    summaries = []
    for name, texts in (("then", stage.policies), ("now", policies)):
        summary = RunSummary(f"policies of {name}, simulated")
        for report in stage.run(name, texts):
            summary.add(report)
        summaries.append(summary)
    then, now = summaries
    return Estimate(was, then, now, stage.left_out)


SOURCES: Final = frozenset({"directory", "file", "shadow"})
"""Settings for the sources of policies. A replay ignores them, because the recording contains the texts."""


@dataclass(frozen=True, slots=True)
class InstalledThen:
    """Recorded plugin: its installed class, and its recorded settings without `SOURCES`."""

    plugin_class: type
    settings: Mapping[str, Value]


def installed_plugins(configuration: Mapping[str, Value]) -> tuple[dict[str, InstalledThen], dict[str, str]]:
    """Return the recorded plugins that are installed, and why the others cannot be used, both keyed by name."""
    recorded = configuration.get("plugins")
    result: dict[str, InstalledThen] = {}
    left_out: dict[str, str] = {}
    for name, settings in recorded.items() if isinstance(recorded, Mapping) else ():
        own = {key: value for key, value in settings.items() if key not in SOURCES} if isinstance(settings, Mapping) else {}
        try:
            result[name] = InstalledThen(load_config({"plugins": {name: own}}).plugins[name].loaded.plugin_class, own)
        except MomError as error:
            left_out[name] = str(error)
    return result, left_out


def guest_rules(configuration: Mapping[str, Value], plugins: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """Return the recorded section `guests`, restricted to the settings of these plugins."""
    if not plugins:
        return {}
    models = [plugin.loaded.guest_settings_class for plugin in load_config({"plugins": dict(plugins)}).plugins.values()]
    names = {key for model in models if model is not None for key in model.model_fields}
    section = configuration.get("guests")
    rules: dict[str, Value] = {}
    for pattern, settings in section.items() if isinstance(section, Mapping) else ():
        own = {key: value for key, value in settings.items() if key in names} if isinstance(settings, Mapping) else {}
        if own:
            rules[pattern] = own
    return rules


SIMULATED: Final = ("balloon", "ksm", "offload", "sla")


@dataclass(frozen=True, slots=True)
class RecordedStage:
    """Part of a recording, to be simulated. Times are seconds since the epoch.

    Plugins, settings of guests and policies are those at the beginning of this part. `left_out`: plugins that are not simulated.
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
        """Return the part of a recording with these cycles. Raise `MomError` if there are none.

        :param configuration: configuration that replaces the recorded one
        :param needed: plugins to add if they were not recorded
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
            name: plugin.settings
            for name, plugin in installed.items()
            if not hasattr(plugin.plugin_class, "mom_hypervisor")
            and (name in SIMULATED or (hasattr(plugin.plugin_class, "mom_write") and not hasattr(plugin.plugin_class, "mom_collect_host")))
        }
        plugins = {**{name: {} for name in needed}, **controllers}
        guests = guest_rules(document, plugins)
        host = first.report.snapshot.host.name
        return cls(recording.path, first.report.time, ends, session.interval, plugins, guests, session.policies, tuple(left_out), host)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.ends - self.begins

    def run(
        self, name: str, policies: Mapping[str, str], sim: Mapping[str, Value] | None = None, guests: Mapping[str, Value] | None = None
    ) -> Generator[Report, None, None]:
        """Yield the reports of a simulation with these policies.


        :param sim: additional settings of the `sim` plugin
        :param guests: additional entries of the section `guests`
        """
        settings: dict[str, Value] = {"recording": str(self.path), "begins": self.begins, "ends": self.ends, **(sim or {})}
        setup = SimulationSetup(name, plugins=self.plugins, texts=policies, guests={**self.guests, **(guests or {})})
        return setup.run(settings, self.interval, max(self.interval, self.seconds))
