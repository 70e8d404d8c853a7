"""Snapshots as JSON, in the format that `mom_core.testing.snapshot` takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from mom_core import ConfigError, Document, Guest, Host, Snapshot, StrictModel, Value, read_settings
from mom_core.testing import snapshot
from mom_plugins_policy.sources import text_of

LONGEST: Final = 64 << 20
"""Maximum size of a file in bytes. A snapshot of 10,000 guests with 60 fields each takes a third."""

EXAMPLE: Final = Path(__file__).with_name("example.json")
"""Snapshot of a host short of memory: one guest can spare memory, one runs out, one reports nothing."""


def _guest(name: str) -> str:
    if not name or name == Host.ID:
        raise ValueError("cannot be a guest's name: the host belongs under `host`")
    return name


FieldName: TypeAlias = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\z")]
GuestName: TypeAlias = Annotated[str, AfterValidator(_guest)]


class SampleForm(StrictModel):
    """Fields of the host and of guests."""

    host: dict[FieldName, Any] = Field(default_factory=dict)
    guests: dict[GuestName, dict[FieldName, Any]] = Field(default_factory=dict)


class SnapshotForm(SampleForm):
    """Snapshot as JSON. Properties are keyed by `host` or a guest's name; history is oldest first."""

    properties: dict[str, dict[str, Any]] = Field(default_factory=dict)
    history: list[SampleForm] = Field(default_factory=list)
    interval: Annotated[float, Field(gt=0, lt=1e9)] = 5.0

    def made(self) -> Snapshot:
        """Build the snapshot."""
        properties = {**self.properties, Host.ID: {"interval": self.interval, **self.properties.get(Host.ID, {})}}
        history: Any = [{"host": item.host, "guests": item.guests} for item in self.history]
        return snapshot(self.host, self.guests, properties, history, self.interval)


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot from a JSON file (`-`: standard input). Raise `ConfigError` if it is unreadable, or with all mistakes."""
    file = "standard input" if str(path) == "-" else str(path)
    text = text_of(path, LONGEST, "a snapshot is a JSON file; `mom policy snapshot --example` prints one")
    try:
        document = Document(file, json.loads(text.removeprefix("\ufeff")))
    except json.JSONDecodeError as error:
        message = f"not JSON: {error.msg[0].lower()}{error.msg[1:]}"
        raise ConfigError([ConfigError.Problem(file, error.lineno, error.colno, message)]) from None
    except (RecursionError, ValueError):
        raise ConfigError([ConfigError.Problem(file, 0, 0, "is nested too deep, or holds a number that is too long")]) from None
    form = read_settings(document, SnapshotForm)
    for name in form.properties:
        if name != Host.ID and not any(name in sample.guests for sample in (form, *form.history)):
            document.complain(("properties", name), "there is no such guest")
    if document.problems:
        raise ConfigError(document.problems)
    return form.made()


def as_json(source: Snapshot) -> dict[str, Any]:
    """Return a snapshot and its history in the format of `read_snapshot`."""
    made: dict[str, Any] = {"host": dict(source.host.fields), "guests": _fields_of(source.guests.values())}
    made["properties"] = {Host.ID: dict(source.host.properties), **{guest.name: dict(guest.properties) for guest in source.guests.values()}}
    if source.history:
        made["history"] = [{"host": dict(older.host.fields), "guests": _fields_of(older.guests.values())} for older in source.history]
        spans = [later.monotonic - earlier.monotonic for earlier, later in zip(source.history, [*source.history[1:], source], strict=True)]
        if sum(spans) > 0:
            made["interval"] = round(sum(spans) / len(spans), 3)
    return made


def _fields_of(guests: Iterable[Guest]) -> dict[str, dict[str, Value]]:
    return {guest.name: dict(guest.fields) for guest in guests}
