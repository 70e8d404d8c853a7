"""Files that matter are replaced as a whole: a reader, or a crash at any moment, sees the old text or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/mom/mom.yaml")
"""The configuration of a host, where nobody names another file."""


def replace_file(path: Path, text: str, *, durable: bool, mode: int = 0o640) -> None:
    """Put `text` in place of the file's content, atomically.

    :param durable: also survive a power failure: the data and the folder's entry are on disk when this returns
    :raises OSError: the disk is full, there is no permission, …; the old file is untouched then
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    if durable:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
