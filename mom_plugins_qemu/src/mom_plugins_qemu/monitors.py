"""Where the monitors are: sockets that match patterns, as the operator writes them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from mom_core import PermissionDenied

MOST_MONITORS: Final = 10_000
"""More guests than any host has: a pattern that fits a folder with millions of files must not fill the memory."""


def checked(patterns: Sequence[str]) -> Sequence[str]:
    """Patterns as settings have them. Raises `ValueError`."""
    for pattern in patterns:
        if not pattern.startswith("/") or "\0" in pattern:
            raise ValueError(f"{pattern!r} is no path that begins with /, such as /run/qemu/*.qmp")
        if "**" in pattern:
            raise ValueError(f"{pattern!r}: write which folders, as ** would have all of them searched in each cycle")
    return patterns


def monitors(root: Path, patterns: Sequence[str]) -> list[str]:
    """The paths that match any of these patterns now, without repetitions, in the order of the patterns and then of the names.

    Raises `PermissionDenied` for a folder that this user may not read: what is in it is not to be taken for gone.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        below = str(root / pattern.lstrip("/"))
        folder = _folder(below)
        if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112  # as below
            raise PermissionDenied(f"{folder} cannot be read", hint="run mom as root, or as QEMU's own user")
        found |= dict.fromkeys(sorted(islice(glob.iglob(below), MOST_MONITORS)))  # noqa: PTH207  # pathlib takes four times as long
    return list(islice(found, MOST_MONITORS))


def _folder(pattern: str) -> str:
    """The folder above the first wildcard."""
    fixed = pattern
    while glob.has_magic(fixed):
        fixed = os.path.dirname(fixed)  # noqa: PTH120  # as above
    return fixed if fixed != pattern else os.path.dirname(fixed)  # noqa: PTH120  # as above
