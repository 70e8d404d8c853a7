"""Whether a folder's code may be run by the daemon: only what root or the daemon's own user can have written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mom_core.plugins.projects import files_of

MOST_FILES: Final = 20_000
"""A folder with more files is no plugin: somebody has named `/` or a home."""

MOST_LINKS: Final = 40
"""What the kernel follows in one path (`MAXSYMLINKS`)."""


def distrust(folder: Path, look: Callable[[str], os.stat_result] = os.lstat) -> str:
    """Why the code in a folder must not be run, or an empty text.

    The folder, all folders above it, the links on the way and all files in it must belong to root or to this process's user, and nobody
    else may write to them. A folder in which others may only add files of their own (the sticky bit, as in /tmp) is no danger to those
    below it.

    :param look: gives a path's own status, without following a link
    """
    reason = _way_to(folder, look)
    if reason:
        return reason
    for number, path in enumerate(files_of(folder)):
        if number > MOST_FILES:
            return f"{folder} holds more than {MOST_FILES} files: name the folder of one plugin"
        reason = _way_to(path.resolve(), look) if path.is_symlink() else _fault(path, look(str(path)), inside=True)
        if reason:
            return reason
    return ""


def _way_to(path: Path, look: Callable[[str], os.stat_result]) -> str:
    """The same for each step from `/` to a path."""
    todo = list(path.absolute().parts[1:])
    at = Path("/")
    links = 0
    try:
        reason = _fault(at, look("/"))
        while todo and not reason:
            step = todo.pop(0)
            if step == "..":
                at = at.parent
                continue
            at /= step
            status = look(str(at))
            reason = _fault(at, status)
            if stat.S_ISLNK(status.st_mode) and not reason:
                links += 1
                if links > MOST_LINKS:
                    return f"{path} leads in a circle"
                target = Path(os.readlink(at))  # noqa: PTH115  # as it stands, `..` included
                todo = [*(target.parts[1:] if target.is_absolute() else target.parts), *todo]
                at = Path("/") if target.is_absolute() else at.parent
    except OSError as error:
        return f"{at}: {error.strerror}"
    return reason


def _fault(path: Path, status: os.stat_result, *, inside: bool = False) -> str:
    """What is wrong with one file or folder; empty if nothing is."""
    if status.st_uid not in {0, os.geteuid()}:
        return f"{path} belongs to the user {status.st_uid}, who is neither root nor the one that mom runs as"
    if stat.S_ISLNK(status.st_mode):
        return ""
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return ""
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not inside:
        return ""
    who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
    return f"{path} can be written by {who}"
