"""Simulation of a recorded host, to estimate the effect of other policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import MomError, Value, load_config
from mom_kvm import RunSummary, SimulationSetup
from mom_plugins_record.recording.reader import RecordedCycle, Recording, nothing_in

SIMULATED: Final = ("balloon", "ksm", "offload", "sla")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Summaries of a recording, and of its simulation with the recorded policies (`then`) and with others (`now`).

    The difference between `recorded` and `then` shows the simulator's error. `left_out`: plugins that are not simulated.
    """

    recorded: RunSummary
    then: RunSummary
    now: RunSummary
    left_out: tuple[str, ...]


def estimate(recording: Recording, policies: Mapping[str, str], since: float, until: float) -> Estimate:
    """Simulate a period with the recorded policies, and with `policies`. Raise `MomError` if the period has no cycle.

    Plugins and settings of guests are those at the beginning of the period.

    :param since: seconds since the epoch
    """
    recorded, first, ends = RunSummary("recorded"), None, 0.0
    for cycle in recording.cycles(since, until):
        recorded.add(cycle.report)
        first, ends = first or cycle, max(ends, cycle.report.time)
    if first is None:
        raise nothing_in(recording)
    plugins, left_out = _simulated_plugins(first)
    guests, interval = guest_rules(first.session.configuration, plugins), first.session.interval
    sim: dict[str, Value] = {"recording": str(recording.path), "begins": first.report.time, "ends": ends}
    then, now = (RunSummary(f"policies of {name}, simulated") for name in ("then", "now"))
    for summary, texts in ((then, first.session.policies), (now, policies)):
        setup = SimulationSetup(summary.name, plugins=plugins, texts=texts, guests=guests)
        for report in setup.run(sim, interval, max(interval, ends - first.report.time)):
            summary.add(report)
    return Estimate(recorded, then, now, left_out)


def _simulated_plugins(first: RecordedCycle) -> tuple[Mapping[str, Mapping[str, Value]], tuple[str, ...]]:
    installed, left_out = installed_plugins(first.session.configuration)
    plugins = {
        name: plugin.settings
        for name, plugin in installed.items()
        if not hasattr(plugin.plugin_class, "mom_hypervisor")
        and (name in SIMULATED or (hasattr(plugin.plugin_class, "mom_write") and not hasattr(plugin.plugin_class, "mom_collect_host")))
    }
    return plugins, tuple(left_out)


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
