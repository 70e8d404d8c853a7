"""An estimate of other decisions: the simulator goes on from the recorded state, with the policies of then and of now.

Both are simulated, so that what the simulator gets wrong is wrong in both, and what differs comes of the policies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mom_kvm import RunSummary
from mom_plugins_record.recording.reader import RecordedCycle, Recording
from mom_plugins_record.replay.stage import RecordedStage


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
