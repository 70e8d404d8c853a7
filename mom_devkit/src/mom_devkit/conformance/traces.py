"""Checks of what a plugin leaves behind: threads, open files, changes to the process, secrets in what is shown."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel, SecretBytes, SecretStr

from mom_core import Finding
from mom_core.plugins.secrets import secrets_in
from mom_daemon import status_of
from mom_devkit.conformance.process_state import ProcessState
from mom_devkit.conformance.subject import ExaminedPlugin, alive

CYCLES: Final = 10
"""A leak in each cycle is ten then, which no warming up explains."""

END_SECONDS: Final = 2.0
"""What a thread that was told to end may take for it."""


def traces(subject: ExaminedPlugin) -> Iterator[Finding]:
    """After mom_teardown no thread and no open file is left, and the number of both does not grow from cycle to cycle."""
    state = ProcessState.now()
    _live(subject, 2)  # what is opened once for the process, by the first that needs it, is no leak
    threads, files = set(threading.enumerate()), _open_files()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        grown = _live(subject, CYCLES)
    if grown >= CYCLES - 1:
        yield subject.fault(f"it opens {grown} more files in {CYCLES} cycles", "close what a cycle opens: `with`")
    left = _ended(threads)
    if left:
        yield subject.fault(
            f"it leaves threads running: {', '.join(sorted(thread.name for thread in left))}", "end and join them in mom_teardown"
        )
    more = [target for descriptor, target in _open_files().items() if files.get(descriptor) != target]
    if more:
        yield subject.fault(f"it leaves open: {', '.join(sorted(more)[:5])}", "close in mom_teardown what mom_setup opened")
    for warning in said:
        if issubclass(warning.category, ResourceWarning | DeprecationWarning):
            yield subject.remark(f"{warning.category.__name__}: {warning.message}", f"{warning.filename}:{warning.lineno}")
    for what in state.put_back():
        yield subject.fault(f"it changes {what}", "these belong to the whole process: leave them alone")


def _live(subject: ExaminedPlugin, cycles: int) -> int:
    """How many more files are open after so many cycles than after the first two."""
    with alive(subject) as life:
        life.cycle()
        life.cycle()
        before = len(_open_files())
        for _ in range(cycles):
            life.cycle()
        return len(_open_files()) - before


def _ended(known: set[threading.Thread]) -> list[threading.Thread]:
    until = time.monotonic() + END_SECONDS
    while True:
        left = [thread for thread in threading.enumerate() if thread not in known]
        if not left or time.monotonic() > until:
            return left
        left[0].join(0.05)


def _open_files() -> dict[str, str]:
    found = {}
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208  # names are all that is needed
        try:
            found[descriptor] = str(Path("/proc/self/fd", descriptor).readlink())
        except OSError:
            continue  # the one with which the folder itself was read
    return found


# --- secrets -------------------------------------------------------------------------------------------------------------------

SECRET: Final = "conformance-3b1f0c9e"  # noqa: S105  # no real one: it is planted to be looked for
"""What a secret is set to where the settings have none, to be looked for afterwards."""


def secrets(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Secrets from its settings are in none of what it logs, reports or shows."""
    settings = {**_planted(subject.settings_class), **subject.settings}
    model = subject.read_settings(settings)
    known = list(secrets_in(model))
    if not known:
        return
    logged = _Kept()
    root = logging.getLogger()
    level = root.level
    root.addHandler(logged)
    root.setLevel(logging.DEBUG)
    try:
        with alive(subject, settings=settings) as life:
            for _ in range(2):
                report = life.cycle()
            shown = {
                "the status": json.dumps(status_of(life.engine, report), default=str),
                "a report": repr(report),
                "its settings as text": f"{model!r} {model!s} {model.model_dump_json()}",
            }
    finally:
        root.removeHandler(logged)
        root.setLevel(level)
    shown["its log"] = "\n".join(logged.lines)
    for where, text in shown.items():
        if any(secret in text for secret in known):
            yield subject.fault(
                f"a secret from its settings stands in {where}", "call get_secret_value() only where it is used, and never format it"
            )


def _planted(model: type[BaseModel]) -> dict[str, object]:
    return {name: SECRET for name, field in model.model_fields.items() if field.annotation in (SecretStr, SecretBytes, SecretStr | None)}


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.exc_info}")
