"""Drop root's rights before a verb reads files of another user's mom.

The process never becomes root again, because an attacker who controls that mom could have prepared links or a ledger.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from mom_core import ConfigError, MomError, printable, untrusted
from mom_core.config.document import MAX_BYTES, Document
from mom_core.files import DEFAULT_CONFIG, RUN_DIRECTORY, STATE_DIRECTORY, read_file
from mom_daemon.cli.options import KeptPath, named_config, runs_as_caller

if TYPE_CHECKING:
    from mom_core import Config


class Owner(NamedTuple):
    """uid, name to show, and group ids with the primary group first."""

    uid: int
    name: str
    groups: tuple[int, ...]


def become_owner_for(context: click.Context) -> Owner | None:
    """Switch root to the owner of the verb's files, or of the configured mom's folders. Return None if the verb runs as its caller."""
    if os.geteuid() != 0 or runs_as_caller(context):
        return None
    kept = [path for parameter in context.command.params if isinstance(parameter.type, KeptPath) for path in _paths(context, parameter)]
    if kept:
        return _become(_owner_on_the_way(kept), kept)
    return become_owner(*_folders_of(named_config(context)))


def _paths(context: click.Context, parameter: click.Parameter) -> list[Path]:
    value = context.params.get(str(parameter.name))
    return [] if value is None else [value] if isinstance(value, Path) else list(value)


def _folders_of(path: str | None) -> tuple[Path, Path]:
    # The usual folders if the file is unreadable or invalid, or if another user could have written it.
    file = DEFAULT_CONFIG if path is None else Path(path)
    settings: object = None
    with suppress(OSError, ConfigError):
        if not untrusted(file):
            settings = Document.parse(read_file(file, MAX_BYTES).decode("utf-8", "replace"), str(file)).value
    named = settings if isinstance(settings, Mapping) else {}
    return Path(str(named.get("state_directory") or STATE_DIRECTORY)), Path(str(named.get("run_directory") or RUN_DIRECTORY))


def load_as_owner(config_path: str | Path | None) -> Config:
    """Load a configuration as the caller, then switch to the owner of mom's folders."""
    from mom_core import load_config  # slow to import

    config = load_config(config_path)
    become_owner(config.state_directory, config.run_directory)
    return config


def become_owner(*folders: Path, made: Path | None = None) -> Owner | None:
    """Switch to these folders' owner for good, and return it. Return None if `other_owner` does.

    :param made: folder that root first creates for that user
    """
    owner = other_owner(*folders)
    if owner is not None and made is not None:
        _make(made, owner)
    return _become(owner, folders)


def _become(owner: Owner | None, folders: Sequence[Path]) -> Owner | None:
    if owner is None:
        return None
    try:
        os.setgroups(owner.groups)
        os.setresgid(owner.groups[0], owner.groups[0], owner.groups[0])
        os.setresuid(owner.uid, owner.uid, owner.uid)
    except OSError as error:
        whose = ", ".join(str(folder) for folder in folders)
        fault = f"{whose} belongs to user {owner.name}, and this process cannot switch to that user: {error.strerror}"
        raise MomError(fault, hint=f"run this command as {owner.name}") from error
    with suppress(KeyError):
        os.environ["HOME"] = pwd.getpwuid(owner.uid).pw_dir  # root's home is no longer readable
    return owner


def _make(folder: Path, owner: Owner) -> None:
    with suppress(OSError):  # it exists, or the verb reports the error
        if not untrusted(folder.parent):
            folder.mkdir()
            folder.chmod(0o755)
            os.chown(folder, owner.uid, owner.groups[0])


def other_owner(*folders: Path) -> Owner | None:
    """Return the owner of the first folder that is not root's; None if there is none, or if this process is not root."""
    if os.geteuid() != 0:
        return None
    for folder in folders:
        with suppress(OSError, ValueError):
            status = folder.stat()
            if status.st_uid != 0:
                return _user(status.st_uid, status.st_gid)
    return None


def _owner_on_the_way(paths: Sequence[Path]) -> Owner | None:
    # Owners of parents and links count, too.
    groups_by_user: dict[int, int] = {0: 0}

    def look(path: str) -> os.stat_result:
        status = os.lstat(path)
        groups_by_user.setdefault(status.st_uid, status.st_gid)
        return status

    for path in paths:
        untrusted(path, look)
        with suppress(OSError):
            groups_by_user.setdefault((status := path.stat()).st_uid, status.st_gid)
    return next((_user(uid, gid) for uid, gid in groups_by_user.items() if uid != 0), None)


def _user(uid: int, gid: int) -> Owner:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:  # a user without a name, as in a container
        return Owner(uid, f"user {uid}", (gid,))
    return Owner(uid, printable(user.pw_name), tuple(dict.fromkeys((user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)))))
