"""Loss of root's rights before a verb reads files of another user's mom: the process becomes that user for good.

The ledger names files to write, a recording and a status file are parsed, and each file may be a link. An attacker who controls a mom
without root must not make root act. The command line does this before each verb (`VerbContext`), so that no verb can forget it.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from mom_core import ConfigError, MomError, printable, printable_lines, untrusted
from mom_core.config.document import MAX_BYTES, parse_document
from mom_core.files import DEFAULT_CONFIG, RUN_DIRECTORY, STATE_DIRECTORY, read_file
from mom_daemon import print_prose
from mom_daemon.cli.options import KeptPath, named_config, runs_as_caller

if TYPE_CHECKING:
    from mom_core import Config

_OWNER: Final = "mom_daemon.owner"


class Owner(NamedTuple):
    """User of this host: uid, name to show, and group ids with the primary group first."""

    uid: int
    name: str
    groups: tuple[int, ...]


def become_owner_for(context: click.Context) -> None:
    """Become the owner of the files that a verb is about to read, if this process is root: of its recordings or files, or else of the
    folders of the configured mom.

    :raises MomError: this process cannot become that user
    """
    if os.geteuid() != 0 or runs_as_caller(context):
        return
    kept = [path for parameter in context.command.params if isinstance(parameter.type, KeptPath) for path in _paths(context, parameter)]
    context.meta[_OWNER] = _become(_owner_on_the_way(kept), kept) if kept else become_configured_owner(named_config(context))


def became(context: click.Context) -> Owner | None:
    """Return the user whom this verb has become; None where it runs as its caller."""
    owner: Owner | None = context.meta.get(_OWNER)
    return owner


def _paths(context: click.Context, parameter: click.Parameter) -> list[Path]:
    value = context.params.get(str(parameter.name))
    return [] if value is None else [value] if isinstance(value, Path) else list(value)


def become_configured_owner(config_path: str | None) -> Owner | None:
    """Become the owner of the folders that a configuration names. Raises `MomError`."""
    return become_owner(*(folders_of(config_path) or (STATE_DIRECTORY, RUN_DIRECTORY)))


def folders_of(path: str | Path | None) -> tuple[Path, Path] | None:
    """Return the state and run directories of a configuration, even of a faulty one; None if it is unreadable, or another user could have
    written it.

    :param path: the configuration; None is the default file
    """
    file = DEFAULT_CONFIG if path is None else Path(path)
    try:
        if untrusted(file):
            return None
        text = read_file(file, MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    try:
        settings = parse_document(text, str(file)).value
    except ConfigError:
        settings = dict(_DIRECTORIES.findall(text))
    named = settings if isinstance(settings, Mapping) else {}
    return Path(str(named.get("state_directory") or STATE_DIRECTORY)), Path(str(named.get("run_directory") or RUN_DIRECTORY))


_DIRECTORIES: Final = re.compile(r"^((?:state|run)_directory):[ \t]+[\"']?([^\"'#\n]*[^\"'#\s])", re.MULTILINE)
"""Directories in a file with broken YAML."""


def load_as_owner(config_path: str | Path | None) -> Config:
    """Load a configuration as the caller, whose own file it may be, and become the owner of the folders that it names.

    :raises ConfigError: with all faults
    :raises MomError: root cannot become the owner
    """
    from mom_core import load_config  # most of a second on a slow host, which not all who become an owner need

    config = load_config(config_path)
    become_owner(config.state_directory, config.run_directory)
    return config


def load_to_look(config_path: str | Path | None = None) -> Config:
    """Load the configuration; for a faulty file, return the configuration in force of the mom that was started with it.

    :raises ConfigError: with all faults, if no such mom runs
    """
    from mom_core import load_config

    try:
        return load_config(config_path)
    except ConfigError as error:
        from mom_daemon.supervision import config_of_running

        running = config_of_running(config_path)
        if running is None:
            raise
        warn_of_file(error, running.words)
        return running.config


def warn_of_file(error: ConfigError, instead: str) -> None:
    """Warn on standard error that a configuration is unusable, with mom's substitute as a part of a sentence."""
    print_prose(f"mom: warning: {printable_lines(str(error.problems[0]))}", 2, err=True)
    print_prose(f"mom: {instead} (`mom config check` says all that is wrong)", 2, err=True)


def become_owner(*folders: Path, made: Path | None = None) -> Owner | None:
    """Become the owner of these folders for good; return None if this process already is that user.

    :param made: folder to create for that user as root: the run directory, as /run is empty after a boot
    :raises MomError: this process cannot become the owner
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
        raise MomError(
            f"{whose} belongs to {owner.name}, whom this process cannot become: {error.strerror}", hint=f"run it as {owner.name}"
        ) from error
    with suppress(KeyError):
        os.environ["HOME"] = pwd.getpwuid(owner.uid).pw_dir  # root's home is unreadable from now on
    return owner


def _make(folder: Path, owner: Owner) -> None:
    """Create a run directory for this user with systemd's mode, in a folder that nobody else can change."""
    with suppress(OSError):  # it exists; or its user reports the fault
        if not untrusted(folder.parent):
            folder.mkdir()
            folder.chmod(0o755)
            os.chown(folder, owner.uid, owner.groups[0])


def other_owner(*folders: Path) -> Owner | None:
    """Return the owner of the first of these folders that is not root's; None if there is none, or this process is not root."""
    if os.geteuid() != 0:
        return None
    for folder in folders:
        with suppress(OSError, ValueError):
            status = folder.stat()
            if status.st_uid != 0:
                return _user(status.st_uid, status.st_gid)
    return None


def _owner_on_the_way(paths: Sequence[Path]) -> Owner | None:
    """Return the first owner, except root, of these paths, of a folder above, or of a link on the way."""
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
    except KeyError:  # as in a container
        return Owner(uid, f"user {uid}", (gid,))
    return Owner(uid, printable(user.pw_name), tuple(dict.fromkeys((user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)))))
