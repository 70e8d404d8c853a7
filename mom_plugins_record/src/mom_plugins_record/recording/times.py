"""Moments, as they are written on the command line and shown: in UTC, as recordings are looked at on other machines."""

from __future__ import annotations

from datetime import UTC, datetime

from mom_daemon import moment


def moment_of(text: str | None, option: str, default: float) -> float:
    """Seconds since the epoch; `default` when the option is not given."""
    return default if text is None else moment(text, option)


def shown(time: float) -> str:
    """For a person."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
