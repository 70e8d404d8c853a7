"""Reads a recording, also one that is damaged or still being written: what is sound, in order, one cycle at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mom_core import ControlSpec, FieldSpec, MomError, Report, Scope, Unit, Value
from mom_plugins_sim.recording.cycles import NO_KEY, Key, read_cycle
from mom_plugins_sim.recording.frames import Frame, Kind, Losses, read_frames
from mom_plugins_sim.recording.writer import SUFFIX, files_of

FORMAT = 1
"""The version of what a session holds."""


@dataclass(frozen=True, slots=True)
class Session:
    """What was so while cycles were recorded.

    `configuration` is as `load_config` takes it, with secrets masked; `policies` are the texts in force by name; `version` and `contract`
    are those of the mom that wrote it, `host` its name.
    """

    version: str
    contract: str
    host: str
    configuration: Mapping[str, Value]
    policies: Mapping[str, str]
    fields: tuple[FieldSpec, ...]
    controls: tuple[ControlSpec, ...]


def session_content(session: Session) -> dict[str, Value]:
    """A session as JSON has it."""
    return {
        "format": FORMAT,
        "version": session.version,
        "contract": session.contract,
        "host": session.host,
        "configuration": session.configuration,
        "policies": dict(session.policies),
        "fields": [[f.name, f.unit, f.scope, f.description, f.source] for f in session.fields],
        "controls": [[c.name, c.unit, c.scope, c.description, c.field, c.minimum, c.maximum] for c in session.controls],
    }


@dataclass(frozen=True, slots=True)
class Recorded:
    """One cycle, and what was so then.

    `gap` is how many cycles before it were lost. `memory` is what policies remembered after it: recorded once in a while, None
    elsewhere.
    """

    report: Report
    session: Session
    gap: int = 0
    memory: Value = None


@dataclass(slots=True)
class Damage:
    """What could not be read: cycles that are lost, bytes that are no frame, files that end in the middle of a frame."""

    cycles: int = 0
    rubbish: int = 0
    cut_off: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cycles or self.rubbish)


class Recording:
    """A recording: a folder, or one file of it. `damage` is complete when `cycles` has come to the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()
        try:
            self.files = files_of(path) if path.is_dir() else [path]
        except OSError as error:
            raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root, or as the user that recorded it") from error
        if not self.files:
            raise MomError(f"there is no recording in {path}", hint=f"name a folder with files *{SUFFIX}, or one such file")

    def cycles(self, since: float = float("-inf"), until: float = float("inf")) -> Iterator[Recorded]:
        """All cycles of that time (seconds since the epoch), in the order in which they were recorded.

        Raises `MomError` when there is no such file, when it is no recording, or when it is of a newer version.
        """
        self.damage = Damage()
        for path in self.files:
            yield from self._of_file(path, since, until)

    def _of_file(self, path: Path, since: float, until: float) -> Iterator[Recorded]:
        losses = Losses()
        with ExitStack() as stack:
            try:
                source = stack.enter_context(path.open("rb"))
            except FileNotFoundError as error:
                if path in self.files[:1] and len(self.files) == 1:
                    raise MomError(f"there is no file {path}") from error
                self.damage.cut_off.append(str(path))  # given up by the writer while we read
                return
            except OSError as error:
                raise MomError(f"cannot read {path}: {error.strerror}") from error
            session: Session | None = None
            key: tuple[int, Key] | None = None
            lost = 0
            waiting: Recorded | None = None  # what policies remember after a cycle stands after it
            try:
                for frame in read_frames(source, str(path), losses):
                    lost += losses.frames
                    losses.frames = 0
                    if frame.kind is Kind.MEMORY:
                        if waiting is not None and not lost:
                            waiting = replace(waiting, memory=_json(frame))
                        continue
                    if waiting is not None:
                        yield waiting
                        waiting = None
                    if frame.kind is Kind.SESSION:
                        session = _session(frame, str(path)) or session
                        continue
                    found = None if session is None else _cycle(frame, key)
                    if found is None or session is None:
                        lost += 1
                        continue
                    report, new = found
                    if frame.kind is Kind.KEY:
                        key = (frame.number, new)
                    self.damage.cycles += lost
                    if since <= report.time <= until:
                        waiting = Recorded(report, session, lost)
                    lost = 0
                if waiting is not None:
                    yield waiting
            finally:
                self.damage.cycles += lost
                self.damage.rubbish += losses.rubbish
                if losses.cut_off:
                    self.damage.cut_off.append(str(path))


def _cycle(frame: Frame, key: tuple[int, Key] | None) -> tuple[Report, Key] | None:
    """The cycle, or None when it, or the key that it builds on, is damaged."""
    if frame.kind is Kind.KEY:
        base = NO_KEY
    elif key is not None and key[0] == frame.key:
        base = key[1]
    else:
        return None
    try:
        return read_cycle(frame.unpack(base.texts), base)
    except MomError:
        return None


def _json(frame: Frame) -> Value:
    try:
        found: Value = json.loads(frame.unpack())
    except (MomError, ValueError, RecursionError):
        return None
    return found


def _session(frame: Frame, name: str) -> Session | None:
    try:
        content = json.loads(frame.unpack())
        if content["format"] > FORMAT:
            raise MomError(f"{name} holds a session of format {content['format']}; this mom reads {FORMAT}", hint="upgrade mom-plugins-sim")
        return Session(
            content["version"],
            content["contract"],
            content["host"],
            content["configuration"],
            content["policies"],
            tuple(FieldSpec(n, Unit(unit), Scope(scope), text, source) for n, unit, scope, text, source in content["fields"]),
            tuple(
                ControlSpec(n, Unit(unit), Scope(scope), text, of, low, high) for n, unit, scope, text, of, low, high in content["controls"]
            ),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def nothing_in(recording: Recording) -> MomError:
    """The error for a recording that was read and gave no cycle."""
    if recording.damage.cycles:
        return MomError(f"nothing of {recording.path} can be read: {recording.damage.cycles} cycles are damaged")
    return MomError(f"{recording.path} has no cycle in that time", hint="`mom record show` says from when to when it reaches")
