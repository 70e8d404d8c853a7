"""Grants mom's user read access to root's files."""

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
    """Give unreadable files to the user's group. Yield each path, and why its group did not change (empty if it did)."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise MomError(f"there is no user {printable(user)} on this host", hint="systemd-sysusers or mom's package creates it") from None
    groups = set(os.getgrouplist(user, account.pw_gid))
    for path, needed in _needed(config):
        try:
            status = path.stat()
        except OSError:  # missing: the configuration check reports it
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
        fault = f"{printable(user)} has no search permission (x) on this folder, and cannot reach {path}"
        yield folder, f"{fault}: move that file to /etc/mom, or give mom a copy"


def _needed(config: Config) -> Iterator[tuple[Path, int]]:
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
    for way in dict.fromkeys((path, Path(os.path.realpath(path)))):
        for folder in reversed(way.parents):
            try:
                status = folder.stat()
            except OSError:  # missing: the configuration check reports it
                break
            own, shared = status.st_uid == user, status.st_gid in groups
            if not status.st_mode & (stat.S_IXUSR if own else stat.S_IXGRP if shared else stat.S_IXOTH):
                yield folder
                break


def _whose_home(path: Path, owner: int) -> str:
    homes = [user for user in pwd.getpwall() if user.pw_uid == owner and Path(user.pw_dir).resolve() == path.resolve()]
    return f"it is the home of {printable(homes[0].pw_name)}: move the configuration or its policies to /etc/mom" if homes else ""


def _shared_with(group: int, user: str) -> str:
    try:
        name = printable(grp.getgrgid(group).gr_name)
    except KeyError:
        return f"it belongs to group {group}, which has no name on this host: give mom a copy of it"
    return f"it belongs to the group {name}: usermod --append --groups {name} {printable(user)}, or give mom a copy of it"


def _give(path: Path, group: int, mode: int) -> str:
    try:
        os.chown(path, -1, group)
        path.chmod(mode)
    except OSError as error:
        return error.strerror or str(error)
    return ""
