"""Atomic replacement of files, bounded reads of regular files, and checks whether other users could change or read mom's files."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mom_core.errors import MomError

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


Look = Callable[[str], os.stat_result]

OWN_IT: Final = "other users could control mom through it: use `chown root` and `chmod go-w`"

MOST_LINKS: Final = 40


def untrusted(path: Path, look: Look = os.lstat) -> str:
    """Return why another user could control the content of a path; empty if none can. A missing file is untrusted.

    Only root or this user may own and write the path, its parents and all links. A parent with the sticky bit may be writable by others.
    """
    todo = list(path.absolute().parts[1:])
    at = Path("/")
    links = 0
    try:
        reason = fault(at, look("/"))
        while todo and not reason:
            step = todo.pop(0)
            if step == "..":
                at = at.parent
                continue
            at /= step
            status = look(str(at))
            reason = fault(at, status, inside=not todo and not stat.S_ISLNK(status.st_mode))
            if stat.S_ISLNK(status.st_mode) and not reason:
                links += 1
                if links > MOST_LINKS:
                    return f"{path} is a loop of symbolic links"
                target = Path(os.readlink(at))  # noqa: PTH115  # keep `..`
                todo = [*(target.parts[1:] if target.is_absolute() else target.parts), *todo]
                at = Path("/") if target.is_absolute() else at.parent
    except OSError as error:
        return f"{at}: {error.strerror}"
    return reason


def refuse_untrusted(directory: Path, setting: str) -> None:
    """Raise `MomError` if another user could change this folder."""
    reason = untrusted(directory)
    if reason:
        hint = f"`chown` and `chmod go-w` this folder, run mom as its owner, or set another {setting}"
        raise MomError(f"{directory} is not used: {reason}", hint=hint)


def advice_when_denied(folder: Path) -> str:
    """Return advice for a user who may not access mom's files."""
    me = user_name(os.geteuid())
    return f"run this command as mom's user, not as {me}; or, if mom should run as {me}, chown -R {me}: {folder}"


def user_name(uid: int) -> str:
    """Return the user's name, or the user ID if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def fault(path: Path, status: os.stat_result, *, inside: bool = False) -> str:
    """Return why another user could change this path; empty if none can. Do not check its parents.

    :param inside: True for the protected file or folder itself; False for a parent, which may have the sticky bit
    """
    if status.st_uid not in {0, os.geteuid()}:
        return f"{path} belongs to the user {status.st_uid}, who is neither root nor the user of this process"
    if stat.S_ISLNK(status.st_mode):
        return ""  # only the owner of a symlink counts
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not inside:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return f"{path} can be written by everybody"
    if status.st_mode & stat.S_IWGRP:
        return f"{path} can be written by its group"
    return ""


def read_secret(path: Path, what: str, cure: str, *, group: bool = False, largest: int = 65_536) -> bytes:
    """Read a secret that no other user can read, or raise `MomError`.

    :param what: content, for errors: "the token"
    :param group: True to permit access for the file's group
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            content = file.read(largest)
    except OSError as error:
        raise MomError(f"{what} in {path} cannot be read: {error.strerror}", hint=cure) from error
    ours = status.st_uid == 0 != os.geteuid() and status.st_gid == os.getegid()
    forbidden = stat.S_IRWXG | stat.S_IRWXO
    if group:
        forbidden = stat.S_IRWXO
    elif ours:
        forbidden &= ~stat.S_IRGRP
    if mode & forbidden:
        readers = "every user" if mode & stat.S_IRWXO else "its group"
        hint = f"chmod 600 {path}; others may have read {what}, so replace it: {cure}"
        raise MomError(f"{what} in {path} is not secret: {readers} has access to the file (mode {mode:03o})", hint=hint)
    return content
