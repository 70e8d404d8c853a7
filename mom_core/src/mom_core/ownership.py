"""Who else could have written a file or folder, or can read it: what mom believes or keeps secret must not be another user's to change."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mom_core.errors import MomError

Look = Callable[[str], os.stat_result]
"""Gives a path's own status, without following a link, as `os.lstat` does."""

OWN_IT: Final = "who can write there decides what mom does: `chown root` and `chmod go-w`"
"""The hint for what is `untrusted`."""

MOST_LINKS: Final = 40
"""What the kernel follows in one path (`MAXSYMLINKS`)."""


def untrusted(path: Path, look: Look = os.lstat) -> str:
    """Why another user could decide what stands at a path, or an empty text.

    The path, all folders above it and the links on the way must belong to root or to this process's user, and no other user may write to
    them. A folder above in which others may only add files of their own (the sticky bit, as in /tmp) is no danger. What does not exist
    cannot be trusted either.
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
                    return f"{path} leads in a circle"
                target = Path(os.readlink(at))  # noqa: PTH115  # as it stands, `..` included
                todo = [*(target.parts[1:] if target.is_absolute() else target.parts), *todo]
                at = Path("/") if target.is_absolute() else at.parent
    except OSError as error:
        return f"{at}: {error.strerror}"
    return reason


def refuse_untrusted(directory: Path, setting: str) -> None:
    """Raise `MomError` when another user could change what mom keeps in this folder, which that setting names."""
    reason = untrusted(directory)
    if reason:
        hint = f"`chown` and `chmod go-w` it, run mom as the user that it belongs to, or set {setting}"
        raise MomError(f"{directory} is not used: {reason}", hint=hint)


def advice_when_denied(path: Path, folder: Path) -> str:
    """The cure where this process's user may not read or write what the mom of another one keeps, with both of their names.

    :param folder: all that this mom keeps there
    """
    me = user_name(os.geteuid())
    for at in (path, *path.parents):
        try:
            owner = user_name(at.stat().st_uid)
        except OSError:  # not there, or in a folder into which this user cannot look
            continue
        if owner == me:
            return f"{me} owns {at}, and its permissions or the file system keep it from that: look at `ls -ld {at}` and `mount`"
        return f"{at} belongs to {owner}, and this runs as {me}: run it as {owner}; or, if mom is to run as {me}, chown -R {me}: {folder}"
    return f"run it as the user that mom runs as, which {me} is not"


def user_name(uid: int) -> str:
    """The name of a user; the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def fault(path: Path, status: os.stat_result, *, inside: bool = False) -> str:
    """Why this one file or folder is another user's to change, without a look at the way to it; empty if it is not.

    :param inside: whether it is what is trusted, or below it, and not a folder on the way: there, a sticky bit does not help
    """
    if status.st_uid not in {0, os.geteuid()}:
        return f"{path} belongs to the user {status.st_uid}, who is neither root nor the one that mom runs as"
    if stat.S_ISLNK(status.st_mode):
        return ""  # its owner decides where it leads; its mode says nothing
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not inside:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return f"{path} can be written by everybody"
    if status.st_mode & stat.S_IWGRP:
        return f"{path} can be written by its group"
    return ""


def read_secret(path: Path, what: str, cure: str, *, group: bool = False, largest: int = 65_536) -> bytes:
    """The content of the file of a token, key or password, if other users cannot read it. Where the file is root's and this process
    is not, its own group may: so root keeps what mom is to know.

    :param what: the file holds, for errors, such as "the token"
    :param cure: how to make one, for errors
    :param group: whether the file's group may read it, too
    :param largest: how many bytes are read at most
    :raises MomError: the file cannot be read, or other users have access to it
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
        others = "every user" if mode & stat.S_IRWXO else "its group"
        hint = f"chmod 600 {path}; who could read it may have it: {cure}"
        raise MomError(f"{what} in {path} is no secret: {others} has access to the file (mode {mode:03o})", hint=hint)
    return content
