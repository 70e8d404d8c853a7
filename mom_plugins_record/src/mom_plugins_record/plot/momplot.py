"""MOM's plot directories: a folder `momplot-NNN` with one file for each entity, tab separated, below a line that names the fields."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TextIO

from mom_core import HOST_ID, MomError, Scope, Value
from mom_plugins_record.recording.reader import Recording

_NAME: Final = re.compile(r"momplot-([0-9]{3,})")

OPEN_FILES: Final = 200
"""Files that are open at a time; a process may have 1024."""


def write_momplot(recording: Recording, parent: Path, since: float, until: float) -> Path:
    """Write a new folder below `parent`, numbered after those that are there. Returns it. Raises `MomError` when it cannot be written."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        numbers = [int(match[1]) for path in parent.iterdir() if (match := _NAME.fullmatch(path.name))]
        folder = parent / f"momplot-{max(numbers, default=-1) + 1:03d}"
        folder.mkdir()
        with ExitStack() as stack:
            _write(recording, folder, since, until, stack)
    except OSError as error:
        raise MomError(f"cannot write {error.filename or parent}: {error.strerror}") from error
    return folder


def _write(recording: Recording, folder: Path, since: float, until: float, stack: ExitStack) -> None:
    columns: dict[Scope, list[str]] = {}
    files: dict[str, TextIO] = {}
    begun: set[str] = set()
    for recorded in recording.cycles(since, until):
        if not columns:  # the first session's: the columns of a file stay what they are
            for scope in Scope:
                columns[scope] = sorted({spec.name for spec in recorded.session.fields if spec.scope is scope})
        snapshot = recorded.report.snapshot
        rows = [("host", HOST_ID, Scope.HOST, snapshot.host.fields)]
        rows.extend((_file_name(guest.name, identity), identity, Scope.GUEST, guest.fields) for identity, guest in snapshot.guests.items())
        for name, identity, scope, fields in rows:
            file = files.get(identity)
            if file is None:
                if len(files) >= OPEN_FILES:
                    for other in files.values():
                        other.close()
                    files.clear()
                file = files[identity] = stack.enter_context((folder / name).open("a", encoding="utf-8"))
                if identity not in begun:
                    begun.add(identity)
                    file.write("# time\t" + "\t".join(map(_cell, columns[scope])) + "\n")
            file.write(f"{recorded.report.time:.3f}\t" + "\t".join(_cell(fields.get(column)) for column in columns[scope]) + "\n")


def _cell(value: Value) -> str:
    """What is unknown is empty: a plotting program leaves a gap."""
    if value is None or isinstance(value, str):
        return "" if value is None else re.sub(r"[\t\r\n]", " ", value)
    return str(value) if isinstance(value, int | float) else ""


def _file_name(name: str, identity: str) -> str:
    """A guest's name as a file's; names are the operators' and may hold anything."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:100].lstrip(".")
    return f"{safe or 'guest'}-{re.sub(r'[^A-Za-z0-9-]', '_', identity)[:36]}"
