"""Files that matter are replaced as a whole: a reader, or a crash at any moment, sees the old text or the new one. And what is read has an
end, whatever stands in a file's place."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/mom/mom.yaml")
"""The configuration of a host, unless another file is named."""

STATE_DIRECTORY = Path("/var/lib/mom")
RUN_DIRECTORY = Path("/run/mom")
"""The folders of a host's mom, unless its configuration names others."""


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file, and not of a pipe or device, which may never end.

    :param most: bytes; of a larger file, one more is read
    :raises OSError: there is none, there is no permission, it is no regular file, …
    """
    # By an opener: of a folder, `os.fdopen` leaves the descriptor open.
    with open(path, "rb", opener=lambda _, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(most + 1)


def is_there(path: Path) -> bool:
    """True if something is there. Raises `OSError` where that cannot be known, as without permission: from Python 3.14 on, `Path.exists`
    takes that for nothing."""
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
    """Put this in place of the file's content, atomically; a text as UTF-8, parts one after the other.

    :param durable: also survive a power failure: the data and the folder's entry are on disk when this returns
    :param replace: or raise `FileExistsError` if there is a file
    :param owner: the ids of the user and the group whose it is from the first moment on; None: it is this process's
    :raises OSError: the disk is full, there is no permission, …; the old file is untouched then
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
