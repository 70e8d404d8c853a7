"""The fields of a log record beside its text: which cycle, plugin, guest or control it is about."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from mom_core.plugins.secrets import without_secrets

PLUGIN_LOGGER: Final = "mom.plugin."

EXTRA: Final = "mom"
"""`LOG.warning(…, extra={"mom": {"guest": name}})` gives a record fields; they stand in JSON lines."""


def fields_of(record: logging.LogRecord) -> dict[str, str]:
    """The fields by their names, in small letters."""
    found: dict[str, str] = {}
    if record.name.startswith(PLUGIN_LOGGER):
        found["plugin"] = record.name.removeprefix(PLUGIN_LOGGER).partition(".")[0]
    given = getattr(record, EXTRA, None)
    if isinstance(given, Mapping):
        found.update({str(name): str(value) for name, value in given.items() if value is not None})
    return found


def text_of(record: logging.LogRecord) -> str:
    """The message with its traceback, if it has one, without what looks like a secret. One whose parts do not fit is said as it is."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  # whatever a plugin's object raises when it is to be shown
        text = f"{record.msg} (with arguments that do not fit)"
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return without_secrets("\n".join(part for part in (text, record.exc_text) if part))
