"""Single reading of the host, without a running mom."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from mom_core import Config, EngineState, MomError, Problem, Report
from mom_core.engine.collect import GUESTS_UNKNOWN, Collector
from mom_core.plugins.registry import build_plugins
from mom_daemon.report_models import ReportDocument, report_document

LOOK_SECONDS: Final = 10.0


def look(config: Config) -> tuple[ReportDocument, list[Problem]]:
    """Return one snapshot as a report, and the problems while reading it.

    :raises MomError: the hypervisor does not list its guests
    """
    patient = {
        name: replace(plugin, settings=plugin.settings.model_copy(update={"deadline": max(plugin.settings.deadline, LOOK_SECONDS)}))
        for name, plugin in config.plugins.items()
    }
    plugins = build_plugins(replace(config, plugins=patient))
    try:
        snapshot, problems = Collector(plugins, config.interval).snapshot(1, time.time(), time.monotonic())
        if unknown := next((problem for problem in problems if problem.message.startswith(GUESTS_UNKNOWN)), None):
            raise MomError(f"{unknown.source}: {unknown.message}", hint=unknown.hint)
        report = Report(1, snapshot.time, config.mode, snapshot, (), (), (), (), (), 0.0)
        return report_document(report, plugins.declarations, EngineState(), config.interval), problems
    finally:
        plugins.close(2.0)
