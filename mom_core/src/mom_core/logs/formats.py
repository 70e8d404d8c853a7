"""Log records as lines: text for people, JSON for programs. Secrets are masked in both."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from mom_core.logs.fields import fields_of, text_of

Hide = Callable[[str], str]


class TextFormatter(logging.Formatter):
    """A line of text.

    :param stamped: with the time; a journal adds its own
    """

    def __init__(self, hide: Hide, *, stamped: bool) -> None:
        super().__init__()
        self._hide = hide
        self._stamped = stamped

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines."""
        stamp = f"{self.formatTime(record)} " if self._stamped else ""
        return self._hide(f"{stamp}{record.levelname} {record.name}: {text_of(record)}")


class JsonFormatter(logging.Formatter):
    """One JSON object on a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and the record's fields."""

    def __init__(self, hide: Hide) -> None:
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": text_of(record),
        }
        return self._hide(json.dumps({**fields_of(record), **own}, ensure_ascii=False))
