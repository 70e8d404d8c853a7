"""Times on the command line and in output: UTC, because recordings are often read on other machines."""

from __future__ import annotations

from datetime import UTC, datetime

from mom_daemon import moment


def moment_of(text: str | None, option: str, default: float) -> float:
    """Return the time in `text`, in seconds since the epoch; `default` if `text` is None."""
    return default if text is None else moment(text, option)


def format_time(time: float) -> str:
    """Format seconds since the epoch as text, in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
