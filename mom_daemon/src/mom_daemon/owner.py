"""What another user's mom keeps is that user's word: root acts on none of it as root. A verb that root runs becomes that user for good.

The ledger says what is to be written where, a recording and a status file are parsed, and each file could be a link to another one: a mom
that was taken over, and is not root, must not have root do it instead.
"""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mom_core import ConfigError, MomError, printable, printable_lines, untrusted
from mom_daemon import print_prose

if TYPE_CHECKING:
    from mom_core import Config


class Owner(NamedTuple):
    """A user of this host: the number, a name for people, and the groups, the first of which is the user's own."""

    uid: int
    name: str
    groups: tuple[int, ...]


def load_as_owner(config_path: str | Path | None = None) -> Config:
    """The configuration, as `load_config` gives it. Where root runs this, and what a mom with it keeps is another user's, this process is
    that user from then on.

    :raises ConfigError: with all that is wrong
    :raises MomError: it cannot become that user
    """
    from mom_core import load_config  # most of a second on a slow host, which not all who become an owner need

    config = load_config(config_path)
    become_owner(config.state_directory, config.run_directory)
    return config


def load_to_look(config_path: str | Path | None = None) -> Config:
    """The same for verbs that only look at a mom: where its file cannot be used as it is now, the configuration that this mom has in force.

    :raises ConfigError: with all that is wrong, where no mom runs that was started with this file
    :raises MomError: this process cannot become whom its folders belong to
    """
    try:
        return load_as_owner(config_path)
    except ConfigError as error:
        from mom_daemon.supervision import config_of_running

        running = config_of_running(config_path)
        if running is None:
            raise
        warn_of_file(error, running.words)
        return running.config


def warn_of_file(error: ConfigError, instead: str) -> None:
    """Say on the standard error that a configuration cannot be used, and what is done instead, as a part of a sentence."""
    print_prose(f"mom: warning: {printable_lines(str(error.problems[0]))}", 2, err=True)
    print_prose(f"mom: {instead} (`mom config check` says all that is wrong)", 2, err=True)


def become_owner(*folders: Path, made: Path | None = None) -> Owner | None:
    """Be the other user whom these folders belong to, for good; None where this process is who it was.

    :param made: one of them that is made for that user before, where only root can: the run directory, as nothing is in /run after a boot
    :raises MomError: it cannot
    """
    owner = other_owner(*folders)
    if owner is None:
        return None
    if made is not None:
        _make(made, owner)
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
        os.environ["HOME"] = pwd.getpwuid(owner.uid).pw_dir  # of root's, nothing can be read any more
    return owner


def _make(folder: Path, owner: Owner) -> None:
    """A run directory for this user, with the mode that systemd gives it, where nobody else could put something else in its place."""
    with suppress(OSError):  # it is there; or who is to use it says what is wrong
        if not untrusted(folder.parent):
            folder.mkdir()
            folder.chmod(0o755)
            os.chown(folder, owner.uid, owner.groups[0])


def other_owner(*folders: Path) -> Owner | None:
    """The one user, not root, whom those of these folders that are there belong to; None where they are root's or several users', or this
    process is not root's."""
    if os.geteuid() != 0:
        return None
    found = {}
    for folder in folders:
        with suppress(OSError, ValueError):
            status = folder.stat()
            found[status.st_uid] = status.st_gid
    if len(found) != 1 or 0 in found:
        return None
    ((uid, gid),) = found.items()
    try:
        user = pwd.getpwuid(uid)
    except KeyError:  # as in a container
        return Owner(uid, f"user {uid}", (gid,))
    return Owner(uid, printable(user.pw_name), tuple(dict.fromkeys((user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)))))
