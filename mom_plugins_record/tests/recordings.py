"""Helpers that write and read recordings."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mom_core import Clock, Engine, Report
from mom_devkit import HandClock, config_of
from mom_plugins_record.recording.cycles import RecordedSession
from mom_plugins_record.recording.reader import RecordedCycle, Recording
from mom_plugins_record.recording.writer import RecordingLimits, RecordingWriter

LIMITS = RecordingLimits(keep=86_400.0, size=1 << 30)
SESSION = RecordedSession("0", "h", {"interval": "5s"}, {"50_main_": "(defvar a 1)"}, (), ())


def simulated(
    tmp_path: Path, cycles: int, guests: int = 12, watch: Callable[[Engine, Report], None] = lambda *_: None, **more: Any
) -> list[Report]:
    """Return reports of a host under pressure. `watch` gets each before the next cycle."""
    sim = {"guests": guests, "load": "14GiB", "load_after": "30s", "silent": 0.1, "rigid": 0.1}
    clock, reports = HandClock(), []
    config = config_of(tmp_path, {"sim": sim, "policy": {}, "balloon": {}, "ksm": {}, **more}, interval=5.0)
    with Engine(config, Clock(clock, clock.wall)) as engine:
        for _ in range(cycles):
            clock.now += 10.0
            reports.append(engine.cycle())
            watch(engine, reports[-1])
    return reports


def opened(folder: Path, limits: RecordingLimits = LIMITS, session: RecordedSession = SESSION, **more: Any) -> RecordingWriter:
    writer = RecordingWriter(folder, limits, **more)
    writer.open()
    writer.session(session)
    return writer


def rewritten(folder: Path, cycles: Iterable[RecordedCycle]) -> Path:
    """Write the same cycles again."""
    writer = opened(folder)
    for one in cycles:
        writer.session(one.session)
        writer.cycle(one.report)
    writer.close()
    return folder


def written(folder: Path, reports: list[Report], limits: RecordingLimits = LIMITS, session: RecordedSession = SESSION) -> Path:
    writer = opened(folder, limits, session)
    for report in reports:
        writer.cycle(report)
    writer.close()
    return folder


def read(path: Path) -> tuple[list[Report], Recording]:
    recording = Recording(path)
    return [recorded.report for recorded in recording.cycles()], recording
