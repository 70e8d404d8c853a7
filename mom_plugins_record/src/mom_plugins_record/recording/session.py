"""Session: configuration, policies, declared fields and controls, written once for many cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from mom_core import ControlSpec, FieldSpec, Scope, Unit, Value, parse_duration
from mom_plugins_record.recording.cycles import Items, checked, json_text, why_not
from mom_plugins_record.recording.groups import Corrupt

USUAL_INTERVAL: Final = 5.0
"""Interval in seconds if the configuration has none."""

USUAL_HISTORY: Final = 10
LONGEST_HISTORY: Final = 1000
"""Without a valid setting, policies can look back at `USUAL_HISTORY` cycles. The largest valid number is `LONGEST_HISTORY`."""

MOST_DECLARED: Final = 4096
"""Maximum number of declared fields, and of declared controls."""

SESSION: Final = b'{"session":'


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """Configuration, policies and declarations of several cycles.

    `load_config` accepts `configuration`, in which secrets are masked. `policies` are texts keyed by name.
    """

    version: str
    host: str
    configuration: Mapping[str, Value]
    policies: Mapping[str, str]
    fields: tuple[FieldSpec, ...]
    controls: tuple[ControlSpec, ...]

    @property
    def interval(self) -> float:
        """Seconds between two cycles."""
        interval = self.configuration.get("interval")
        try:
            return parse_duration(interval) if isinstance(interval, str) else USUAL_INTERVAL
        except ValueError:
            return USUAL_INTERVAL

    @property
    def history(self) -> int:
        """Number of cycles that policies can look back at."""
        history = self.configuration.get("history")
        return history if isinstance(history, int) and 0 < history <= LONGEST_HISTORY else USUAL_HISTORY


class _Session(BaseModel):
    model_config = ConfigDict(strict=True)

    version: str
    host: str
    configuration: dict[str, Any]
    policies: Annotated[dict[str, Any], checked(str)]
    fields: Annotated[Items[tuple[str, Unit, Scope, str, str, str]], Field(max_length=MOST_DECLARED)]
    controls: Annotated[
        Items[tuple[str, Unit, Scope, str, str, FiniteFloat | None, FiniteFloat | None, Items[int]]], Field(max_length=MOST_DECLARED)
    ]


class _SessionLine(BaseModel):
    session: _Session


def session_line(session: RecordedSession) -> bytes:
    """Return a session as a line of JSON."""
    fields = [[f.name, f.unit, f.scope, f.description, f.source, f.reason] for f in session.fields]
    controls = [[c.name, c.unit, c.scope, c.description, c.field, c.minimum, c.maximum, list(c.choices)] for c in session.controls]
    names = ("version", "host", "configuration", "policies")
    return json_text({"session": {**{name: getattr(session, name) for name in names}, "fields": fields, "controls": controls}})


def read_session(text: bytes) -> RecordedSession:
    """Return the session in a line from `session_line`. Raise `Corrupt` if the line is invalid."""
    try:
        session = _SessionLine.model_validate_json(text).session
    except ValidationError as error:
        raise Corrupt(f"the configuration of these cycles is invalid: {why_not(error)}") from error
    fields = tuple(FieldSpec(*field[:5], reason=field[5]) for field in session.fields)
    controls = tuple(ControlSpec(*control) for control in session.controls)
    return RecordedSession(session.version, session.host, session.configuration, session.policies, fields, controls)
