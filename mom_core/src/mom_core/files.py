"""Atomic replacement of files, and bounded reads of regular files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/mom/mom.yaml")

STATE_DIRECTORY = Path("/var/lib/mom")
RUN_DIRECTORY = Path("/run/mom")


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a regular file. Raise `OSError` for any other kind of file.

    :param most: maximum size in bytes. A larger file yields `most` + 1 bytes
    """
    # For a folder, `os.fdopen` would leak the descriptor.
    with open(path, "rb", opener=lambda _, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(most + 1)


def is_there(path: Path) -> bool:
    """Return whether the path exists. Raise `OSError` if that is unknown."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return False
        raise
    return True


def replace_file(
    path: Path,
    content: str | bytes | Sequence[bytes],
    *,
    durable: bool,
    mode: int = 0o640,
    replace: bool = True,
    owner: tuple[int, int] | None = None,
) -> None:
    """Replace a file atomically. On an `OSError`, the old file is untouched.

    :param durable: True: the file survives a power failure
    :param replace: False to raise `FileExistsError` if the file exists
    :param owner: user and group ID of the new file; None for this process's IDs
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            parts = [content.encode()] if isinstance(content, str) else [content] if isinstance(content, bytes) else content
            file.writelines(parts)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            path.hardlink_to(temporary)
            Path(temporary).unlink()
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
