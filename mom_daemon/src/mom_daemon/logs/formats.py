"""Log records as lines without secrets: text or JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from mom_core.plugins.secrets import without_secrets
from mom_core.texts import printable_lines

PLUGIN_LOGGER: Final = "mom.plugin."

EXTRA: Final = "mom"
"""`LOG.warning(…, extra={"mom": {"guest": name}})` adds fields to JSON lines."""

Hide = Callable[[str], str]

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """Return a record's plugin (if any) and extra fields, keyed by name."""
    fields: dict[str, str] = {}
    if record.name.startswith(PLUGIN_LOGGER):
        fields["plugin"] = record.name.removeprefix(PLUGIN_LOGGER).partition(".")[0]
    fields.update({str(name): str(value) for name, value in extra_of(record).items() if value is not None})
    return fields


def extra_of(record: logging.LogRecord) -> Mapping[object, object]:
    """Return a record's extra fields."""
    extra = getattr(record, EXTRA, None)
    return extra if isinstance(extra, Mapping) else {}


def text_of(record: logging.LogRecord) -> str:
    """Return the message and traceback without secrets."""
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return without_secrets("\n".join(part for part in (record.getMessage(), record.exc_text) if part))


class TextFormatter(logging.Formatter):
    """Formatter for lines of text.

    :param for_journal: for systemd's journal, omit the time and write the level before each line (sd-daemon(3))
    """

    def __init__(self, hide: Hide, *, for_journal: bool) -> None:
        super().__init__()
        self._hide = hide
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        """Format a record. Indent further lines, so that none of them looks like a record."""
        level = f"<{next(priority for level, priority in _PRIORITIES if record.levelno >= level)}>" if self._for_journal else ""
        stamp = "" if self._for_journal else f"{self.formatTime(record)} "
        text = printable_lines(text_of(record)).replace("\n", f"\n{level}    ")
        return self._hide(f"{level}{stamp}{record.levelname} {record.name}: {text}")


class JsonFormatter(logging.Formatter):
    """Formatter for JSON objects, one per line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and further fields."""

    def __init__(self, hide: Hide) -> None:
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as JSON."""
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": text_of(record),
        }
        line = json.dumps({**fields_of(record), **own}, ensure_ascii=False)
        # JSON does not escape all control characters of terminals.
        return self._hide("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line))
