"""Moments, as they are written on the command line and shown: in UTC, as recordings are looked at on other machines."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mom_core import printable


def moment_of(text: str | None, option: str, default: float) -> float:
    """Seconds since the epoch; `default` when the option is not given. Without a zone it is UTC."""
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option}: {printable(text)!r} is no time; write it like 2026-11-20T08:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def shown(time: float) -> str:
    """For a person."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")
