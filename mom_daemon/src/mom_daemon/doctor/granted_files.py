"""Access of mom's user to the files that the configuration names, which stay root's."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import MomError, printable, untrusted
from mom_daemon.doctor.needed_files import named_files

if TYPE_CHECKING:
    from mom_core import Config


_POLICIES: Final = {".policy", ".py"}


def grant(config: Config, user: str) -> Iterator[tuple[Path, str]]:
    """Give files that the user could not read to the user's group, and yield each with the reason if it stays as it was.

    Folders on the way that stay closed follow, with the reason: other users keep files there.

    :raises MomError: the user is unknown
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise MomError(
            f"there is no user {printable(user)} on this host", hint="systemd-sysusers, or the package of mom, makes it"
        ) from None
    groups = set(os.getgrouplist(user, account.pw_gid))
    for path, needed in _needed(config):
        try:
            status = path.stat()
        except OSError:  # not there: the configuration's check says so
            continue
        may = status.st_mode & (needed >> 3) == needed >> 3 or (status.st_gid in groups and status.st_mode & needed == needed)
        if may or status.st_uid == account.pw_uid:
            continue
        mode = stat.S_IMODE(status.st_mode) & ~stat.S_IWGRP | needed
        shared = "" if status.st_gid in {0, account.pw_gid} else _shared_with(status.st_gid, user)
        yield path, untrusted(path) or _whose_home(path, status.st_uid) or shared or _give(path, account.pw_gid, mode)
    closed: dict[Path, Path] = {}
    for path, _ in _needed(config):
        for folder in _closed_above(path, account.pw_uid, groups):
            closed.setdefault(folder, path)
    for folder, path in closed.items():
        yield folder, f"{printable(user)} may not pass through it to {path}: move what mom is to read to /etc/mom, or give mom a copy of it"


def _needed(config: Config) -> Iterator[tuple[Path, int]]:
    """Yield the configuration, the files that it names, policies and their folders, each with the permission that the group needs."""
    if config.file is not None:
        yield from ((Path(config.file).absolute().parent, stat.S_IXGRP), (Path(config.file), stat.S_IRGRP))
    for _, path in named_files(config):
        yield path, stat.S_IRGRP
    for plugin in config.plugins.values():
        folder = getattr(plugin.settings, "directory", None)
        if isinstance(folder, Path):
            yield folder, stat.S_IRGRP | stat.S_IXGRP
            yield from ((path, stat.S_IRGRP) for path in sorted(folder.glob("*")) if path.suffix in _POLICIES)


def _closed_above(path: Path, user: int, groups: set[int]) -> Iterator[Path]:
    """Return the first folder on the way to a path, links followed, that the user may not pass; None if all are open."""
    for way in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for folder in reversed(way.parents):
            try:
                status = folder.stat()
            except OSError:  # not there: the configuration's check says so
                break
            own, shared = status.st_uid == user, status.st_gid in groups
            if not status.st_mode & (stat.S_IXUSR if own else stat.S_IXGRP if shared else stat.S_IXOTH):
                yield folder
                break


def _whose_home(path: Path, owner: int) -> str:
    """Return the reason to keep a home folder closed."""
    homes = [user for user in pwd.getpwall() if user.pw_uid == owner and Path(user.pw_dir).resolve() == path.resolve()]
    return f"it is the home of {printable(homes[0].pw_name)}: move the configuration or its policies to /etc/mom" if homes else ""


def _shared_with(group: int, user: str) -> str:
    """Return the reason to leave a file to another group: its services read the file."""
    try:
        name = printable(grp.getgrgid(group).gr_name)
    except KeyError:
        return f"it is shared with the group {group}, which has no name here: give mom a copy of it"
    return f"it is shared with the group {name}: usermod --append --groups {name} {printable(user)}, or give mom a copy of it"


def _give(path: Path, group: int, mode: int) -> str:
    """Give a file to the group; return the reason if it stays as it is."""
    try:
        os.chown(path, -1, group)
        path.chmod(mode)
    except OSError as error:
        return error.strerror or str(error)
    return ""
