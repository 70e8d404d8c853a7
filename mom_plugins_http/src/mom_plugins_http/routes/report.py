"""One cycle as one document, and how mom is in short."""

from __future__ import annotations

import os
from collections.abc import Mapping

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginState, Status, __version__
from mom_daemon import (
    CycleModel,
    Mode,
    ReportDocument,
    Seconds,
    Time,
    VerdictModel,
    cycle_model,
    described,
    standing_problems,
    verdict_model,
)
from mom_plugins_http.routes.answers import CycleAnswers
from mom_plugins_http.routes.guests import FIELDS, wanted_fields
from mom_plugins_http.routes.published import ReportView
from mom_plugins_http.routes.route import ApiCall, Route


class TrialCountsModel(TypedDict):
    """How policies on trial differ from those in force, counted."""

    decisions: int
    differences: int


@described
class StatusModel(TypedDict):
    """How mom is."""

    version: str
    pid: int
    mode: Mode
    interval_seconds: Seconds
    hypervisor: str
    """Its URI."""
    configuration_file: str | None
    started_at: Time
    monotonic_seconds: Seconds
    """When the cycle ended, by the host's CLOCK_MONOTONIC."""
    verdict: VerdictModel | None
    to_put_back: int
    """Changes that would be put back if mom stopped now."""
    cycle: CycleModel
    guests: int
    decisions: int
    revisions: int
    outcomes: Mapping[str, int]
    problems: int
    """Problems that stand."""
    trial: TrialCountsModel | None
    plugins: Mapping[str, PluginState]


class ReportRoutes:
    """The whole of a cycle."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route("GET", "/v1/report", self.report, ReportDocument, parameters=(FIELDS,)),
            Route("GET", "/v1/status", self.status, StatusModel),
        ]

    async def report(self, call: ApiCall) -> bytes:
        """All of the newest cycle as one document, as the status file has it: what it saw, decided and did, and what is wrong."""
        names = wanted_fields(call, self._answers.view().declarations)
        return self._answers.kept(("report", names), lambda view: view.document(self._answers.context.interval, names))

    async def status(self, call: ApiCall) -> bytes:
        """How mom is: its mode, its last cycle, its plugins."""
        return self._answers.kept("status", self._status)

    def _status(self, view: ReportView) -> StatusModel:
        report = view.report
        counts: dict[str, int] = dict.fromkeys(Status, 0)
        for outcome in report.outcomes:
            counts[outcome.status] += 1
        tried = report.considered
        return {
            "version": __version__,
            "pid": os.getpid(),
            "mode": report.mode,
            "interval_seconds": self._answers.context.interval,
            "hypervisor": view.state.hypervisor,
            "configuration_file": view.state.file,
            "started_at": view.state.started_at,
            "monotonic_seconds": view.monotonic,
            "verdict": verdict_model(report),
            "to_put_back": view.state.to_put_back,
            "cycle": cycle_model(report),
            "guests": len(report.snapshot.guests),
            "decisions": len(report.decisions),
            "revisions": len(report.revisions),
            "outcomes": counts,
            "problems": len(standing_problems(report, view.state)),
            "trial": None if tried is None else {"decisions": len(tried), "differences": len(report.differences())},
            "plugins": {plugin.name: plugin.state for plugin in report.plugins},
        }
