"""One look at a host without a running mom: plugins are set up, everything is read once, nothing is touched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from mom_core import Config, EngineState, MomError, Problem, Report
from mom_core.engine.collect import GUESTS_UNKNOWN, Collector, host_properties
from mom_core.plugins.registry import PluginSet, build_plugins
from mom_daemon import ReportDocument, report_document

LOOK_SECONDS: Final = 10.0
"""As long as a person waits for an answer. A hypervisor whose guests boot needs seconds, which a cycle would not give it."""


@contextmanager
def plugins_at_work(config: Config) -> Iterator[PluginSet]:
    """The plugins of a configuration, set up without a lock or ledger, and torn down at the end."""
    plugins = build_plugins(config).plugins
    try:
        yield plugins
    finally:
        plugins.close(2.0)


def look(config: Config) -> tuple[ReportDocument, list[Problem]]:
    """One snapshot, as a running mom would report it, and what could not be read.

    Plugins have the time that a person would wait, and not that of a cycle.

    :raises MomError: the hypervisor does not list its guests: none would be seen, which does not say that there is none
    """
    patient = {
        name: replace(plugin, settings=plugin.settings.model_copy(update={"deadline": max(plugin.settings.deadline, LOOK_SECONDS)}))
        for name, plugin in config.plugins.items()
    }
    with plugins_at_work(replace(config, plugins=patient)) as plugins:
        taken, problems = Collector(plugins).snapshot(1, time.time(), time.monotonic(), host_properties(config.interval))
        if unknown := next((one for one in problems if one.message.startswith(GUESTS_UNKNOWN)), None):
            raise MomError(f"{unknown.source}: {unknown.message}", hint=unknown.hint)
        seen = Report(1, taken.time, config.mode, taken, (), (), (), (), (), 0.0)
        return report_document(seen, plugins.declarations, EngineState(), config.interval), problems
