"""Why policies decided as they did in a recorded cycle: it is evaluated again, with what they remembered and could look back at then."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from mom_core import Decision, MomError
from mom_plugins_record.recording.reader import Recorded, history_of
from mom_plugins_record.replay.engine import RecordedEngine
from mom_toolkit import quiet


@quiet(logging.CRITICAL)
def reasons_of(run: Sequence[Recorded], guest: str, controls: Iterable[str]) -> Mapping[str, str]:
    """Why the guest with this id got these controls in the last of these cycles, or did not: by control, in words.

    Nothing is said of decisions that do not come out again as they were: it would be the reason of others.

    :param run: that cycle after those before it, of which none is missing; empty: it is not there
    Raises `MomError`, with what is missing, where that cannot be found out.
    """
    start = _start(run)
    if start is None:
        raise MomError("the recording begins, or lacks cycles, so shortly before that what the policies remembered is not in it")
    report = run[-1].report
    history = history_of(run[-1].session)
    first = max(0, start - history)  # whose snapshots can be looked back at
    with RecordedEngine(run[first].session, only_policies=True) as engine:
        now: Sequence[Decision] = ()
        for at in range(first, len(run)):
            if start and at == start:
                engine.remember(run[at - 1].memory)
            engine.use(run[at].session)
            now = engine.cycle(run[at].report.snapshot).decisions
        if not start and run[-1].memory is not None and engine.memory != run[-1].memory:
            raise MomError("what the policies remembered from an earlier run of mom is not in the recording")
        if _by_policies(report.decisions, guest) != _by_policies(now, guest):
            raise MomError(
                "evaluated again, the policies decide something else for it; other policies may have been tried on it then, or the plugins "
                "that are installed here are of another version"
            )
        return {control: engine.reason(report.snapshot.number, guest, control) for control in controls}


def _by_policies(decisions: Iterable[Decision], guest: str) -> list[Decision]:
    return [one for one in decisions if one.entity.id == guest and one.source.line > 0]


def _start(run: Sequence[Recorded]) -> int | None:
    """The first of the cycles that must be evaluated to know what policies remember at the last: the one after their memory was
    recorded. None: that is not known, or not all that they could look back at is there.
    """
    if not run:
        return None
    from_the_beginning = run[0].report.number == 1
    history = history_of(run[-1].session)
    for at in range(len(run) - 1, 0, -1):
        if run[at - 1].memory is not None and (from_the_beginning or at >= history):
            return at
    return 0 if from_the_beginning and len(run) == 1 else None
