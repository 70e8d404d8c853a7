"""Whether a folder's code may be run by the daemon: only what root or the daemon's own user can have written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mom_core.ownership import Look, fault, untrusted
from mom_core.plugins.projects import files_of

MOST_FILES: Final = 20_000
"""A folder with more files is no plugin: an operator has named `/` or a home."""


def distrust(folder: Path, look: Look = os.lstat) -> str:
    """Why the code in a folder must not be run, or an empty text.

    The folder, the way to it and all files in it must be nobody else's to change, and so must what its links lead to.
    """
    reason = untrusted(folder, look)
    if reason:
        return reason
    seen: set[Path] = set()
    todo = [folder]
    files = 0
    while todo:
        for path in files_of(todo.pop()):
            files += 1
            if files > MOST_FILES:
                return f"{folder} holds more than {MOST_FILES} files: name the folder of one plugin"
            if not path.is_symlink():
                reason = fault(path, look(str(path)), inside=True)
            else:
                reason = untrusted(path, look)
                target = path.resolve()
                if target.is_dir() and target not in seen:
                    seen.add(target)
                    todo.append(target)
            if reason:
                return reason
    return ""
