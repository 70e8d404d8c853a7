"""Times on the command line and in output: UTC, because recordings are read on other machines."""

from __future__ import annotations

from datetime import UTC, datetime

from mom_daemon import moment


def moment_of(text: str | None, option: str, default: float) -> float:
    """Return seconds since the epoch; `default` without the option."""
    return default if text is None else moment(text, option)


def format_time(time: float) -> str:
    """Return a time as text."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
